"""Filter panels of the GEMM: how filters lie in memory, and how wide a register tile suits them."""

from libc.string cimport memcpy, memset

from convopt.algorithms.contract cimport Conv
from convopt.kernels.registry cimport kernels


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


cdef void pack_panels(const Conv *conv, int vl, int nr, const char *filters, char *to) noexcept nogil:
    """HWIO filters as [group][panel][tap][channel][nr], the last panel as wide as whole vectors need, its padding zero."""
    cdef ptrdiff_t depth = conv.r * conv.s * conv.group_c, item = conv.itemsize, group, first, width, wide
    for group in range(conv.groups):
        first = 0
        while first < conv.group_k:
            width = min(<ptrdiff_t>nr, conv.group_k - first)
            wide = whole(width, vl)
            pack_rows(filters + (group * conv.group_k + first) * item, conv.k * item, depth, width * item, wide * item, to)
            to += depth * wide * item
            first += nr


cdef void pack_rows(const char *source, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t wide, char *to) noexcept nogil:
    """Rows of `width` bytes, `step` apart, laid end to end as rows of `wide` bytes, the rest zero."""
    cdef ptrdiff_t row
    for row in range(rows):
        memcpy(to + row * wide, source + row * step, width)
        memset(to + row * wide + width, 0, wide - width)
