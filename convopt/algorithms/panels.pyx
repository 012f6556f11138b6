"""Filter panels of the GEMM: how filters lie in memory, and how wide a register tile suits them."""

from libc.string cimport memcpy, memset

from cython.parallel cimport prange

from convopt.algorithms.contract cimport Conv
from convopt.algorithms.shares cimport share_begin
from convopt.kernels.registry cimport kernels

cdef enum:
    PARALLEL_BYTES = 1 << 17    # filters that take longer to pack than threads take to wake


def tiles(shape):
    """(vl, [mr for nv = 1 .. nv_max]) of the kernels in use for the shape's dtype."""
    table = kernels(shape.itemsize)
    return table.vl, [table.mr[nv] for nv in range(1, table.nv_max + 1)]


def widths(shape):
    """Register-tile widths `nv` in vectors of output channels, as parameter sets, the one that wastes least first."""
    vl, mr = tiles(shape)
    vectors = -(-shape.group_k // vl)
    return [{"nv": nv} for nv in sorted(range(1, min(len(mr), vectors) + 1), key=lambda nv: _cost(vectors, mr, nv))]


def efficiency(shape, nv):
    """Share of the peak that panels of `nv` vectors of output channels allow, the last one narrower, as far as it is a matter of loads.

    Two loads and two multiply-adds start in a cycle; but the fewer loads there are to one, the fewer are waited for.
    """
    vl, mr = tiles(shape)
    loads, _ = _cost(-(-shape.group_k // vl), mr, nv)
    return 1 / (0.85 + 0.4 * loads)


def _cost(vectors, mr, nv):
    # Loads per multiply-add of the tile (one of b and one broadcast per row), plus what a narrow last panel adds.
    full, rest = divmod(vectors, nv)
    loads = full * nv * _loads(mr, nv) + (rest * _loads(mr, rest) if rest else 0)
    return loads / vectors, -nv


def _loads(mr, nv):
    return (mr[nv - 1] + nv) / (mr[nv - 1] * nv)


cdef void pack_panels(const Conv *conv, int vl, int nr, const char *filters, char *to, int threads) noexcept nogil:
    """HWIO filters as [group][panel][tap][channel][nr], the last panel as wide as whole vectors need, its padding zero."""
    cdef int part, parts = threads
    if conv.groups * conv.group_k * conv.r * conv.s * conv.group_c * conv.itemsize < PARALLEL_BYTES:
        parts = 1
    if parts <= 1:
        pack_part(conv, vl, nr, filters, to, 0, 1)
        return
    for part in prange(parts, num_threads=parts, schedule="static", chunksize=1):
        pack_part(conv, vl, nr, filters, to, part, parts)


cdef void pack_part(const Conv *conv, int vl, int nr, const char *filters, char *to, int part, int parts) noexcept nogil:
    """One share of the panels' rows."""
    cdef ptrdiff_t depth = conv.r * conv.s * conv.group_c, item = conv.itemsize, panels = (conv.group_k + nr - 1) // nr
    cdef ptrdiff_t padded_k = whole(conv.group_k, vl), rows = conv.groups * panels * depth, group, offset, width, wide
    cdef ptrdiff_t row = share_begin(rows, part, parts), last = share_begin(rows, part + 1, parts)
    cdef ptrdiff_t count
    while row < last:
        group, offset = row // depth // panels, row // depth % panels * nr
        width = min(<ptrdiff_t>nr, conv.group_k - offset)
        wide = whole(width, vl)
        count = min(depth - row % depth, last - row)
        pack_rows(filters + (row % depth * conv.k + group * conv.group_k + offset) * item, conv.k * item, count, width * item,
                  wide * item, to + ((group * padded_k + offset) * depth + row % depth * wide) * item)
        row += count


cdef void pack_rows(const char *source, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t wide, char *to) noexcept nogil:
    """Rows of `width` bytes, `step` apart, laid end to end as rows of `wide` bytes, the rest zero.

    Bound by what caches deliver: neither prefetching nor wider stores make it faster.
    """
    cdef ptrdiff_t row
    for row in range(rows):
        memcpy(to + row * wide, source + row * step, width)
        if wide > width:
            memset(to + row * wide + width, 0, wide - width)
