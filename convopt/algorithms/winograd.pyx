"""Winograd convolution: fewer multiplications, by transforming small overlapping tiles of the input.

Each t x t tile of input and each filter is transformed (see kernels/cooktoom.py); in the transformed domain the
convolution is one product per frequency, summed over channels: t*t small GEMMs on the micro-kernel that direct uses. The
output transform turns t x t sums into m x m pixels, m = t - r + 1. The two axes of an image are independent: each has its
own t and m, and one of a single tap is left alone, whatever its stride. Dilation d splits an image into d*d interleaved
ones, which only changes where tiles start and how far apart their pixels lie. Stride 2 makes the even and the odd pixels
of an axis two convolutions of stride 1, each with every other tap, whose results are summed by the output transform.

Loops, outermost first: share of a thread (tiles x filter panels) > block of tiles, whose transformed input stays in L2 >
filter panel > frequency > run of channels > register tile; bias, activation and the output transform follow each panel. The
transformed filters are laid out in exactly this order, [group][panel][frequency][channel][nr], and stream by once per block:
the register tiles of one run, which share its filters in L1, fetch those of the next meanwhile. No intermediate is larger than
a block.
"""

from convopt.algorithms import panels
from convopt.algorithms.contract import Work
from convopt.kernels import cooktoom

from cython.parallel cimport prange

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.panels cimport whole
from convopt.algorithms.shares cimport Share, next_run, share_begin
from convopt.kernels.registry cimport CONVOPT_LINE_BYTES as CACHE_LINE, Epilogue, WinogradAxis, WinogradTile, kernels

NAME = "winograd"
REVISION = 6
LAYOUTS = ("NHWC",)
SPREADS_NONFINITE = True

cdef enum:
    # Transformed input and sums of one block, bytes: half of the smallest L2 in use, the rest is for the filters.
    BLOCK_BYTES = 1 << 19
    # Blocks of fewer register tiles read the filters too often, blocks of more tiles gain nothing.
    LEAST_REGISTER_TILES = 2
    MOST_TILES = 96
    # Filters of so many bytes are read from beyond L2.
    WIDE_FROM_BYTES = 1 << 22
    # Tiles multiplied in the time that the filters take to arrive.
    READING_FILTERS = 8
    # Tiles of a thread's run at least: it reads the filters once more.
    RUN_TILES = 2 * READING_FILTERS

# Channels summed before the sum is added to the others, by t: the transforms amplify the rounding of long sums most of all.
_RUN = {1: 128, 4: 128, 5: 128, 6: 128, 7: 48, 8: 24, 10: 24, 12: 24}

# max|y - y64| / max|y64| in float32 is about _ERROR times the growth by the transforms of either axis, by t, times the root of
# the channels of a run: fitted to zero-mean data with C = 8 to 512.
_GROWTH = {1: 1.0, 4: 1.4, 5: 2.7, 6: 3.0, 7: 5.0, 8: 7.0, 10: 18.0, 12: 48.0}
_ERROR = 2e-8
_FLOAT64_OVER_FLOAT32 = 2.0 ** -29
_ONE_TAP = cooktoom.Axis(1, 1, 1)


# Output pixels along an axis; beyond, the list of tile positions would outgrow its use.
LONGEST_AXIS = 1 << 20


def why_not(shape):
    """The reason Winograd cannot serve a shape, None where it can."""
    if max(shape.oh, shape.ow) > LONGEST_AXIS:
        return f"the output is {shape.oh} x {shape.ow} pixels; Winograd keeps a list of tiles for up to {LONGEST_AXIS} along an axis"
    if _forms(shape):
        return None
    known = {stride: sorted({axis.taps for axis in cooktoom.AXES if axis.stride == stride}) for stride in (1, 2)}
    return (f"the kernel is {shape.r}x{shape.s} and strides are {shape.strides}; along an axis of several taps Winograd has "
            + ", ".join(f"{' '.join(map(str, taps))} taps with stride {stride}" for stride, taps in known.items()))


def candidates(shape):
    """Tile sizes `t`, the one likely to be fastest first, each with blocks that stay in L2 and with wide ones.

    nv: width of a filter panel in vectors; tiles: the most tiles of one block. Transformed filters that do not stay in L2 are
    better read by few large blocks, and their transformed input, which does not either, by wide panels: then those come first.
    """
    table = kernels(shape.itemsize)
    widest = min(table.nv_max, -(-shape.group_k // table.vl))
    found = []
    for t in sorted(_forms(shape), key=lambda t: _cost(shape, t)):
        tiles = max(1, _tile_count(shape, {"t": t}))
        tall, wide = ({"t": t, "nv": nv, "tiles": min(tiles, most)} for nv, most in (
            (min(2, widest), _tiles_in_l2(shape, t, min(2, widest))), (widest, MOST_TILES)))
        filter_bytes = _filter_values(_forms(shape)[t]) * shape.group_c * shape.group_k * shape.itemsize
        both = [wide, tall] if filter_bytes >= WIDE_FROM_BYTES else [tall, wide]
        found += both if tall != wide else [tall]
    return found


def _tiles_in_l2(shape, t, nv):
    """Tiles whose transformed input and sums fill BLOCK_BYTES; so many at least that the filters are not read too often."""
    table, form = kernels(shape.itemsize), _forms(shape)[t]
    tile_bytes = _frequencies(form) * (shape.group_c + table.vl * (nv + 1)) * shape.itemsize
    rows = _frequencies(form) / _filter_values(form)  # of products with each filter value, per tile
    return max(table.mr[nv], int(LEAST_REGISTER_TILES * table.mr[nv] / rows), min(BLOCK_BYTES // tile_bytes, MOST_TILES))


def expected_error(shape, params):
    """Measured: it grows with the tiles of both axes and as the square root of the channels of a run, hardly with the taps."""
    growth = 1.0
    run = min(shape.group_c, _RUN[params["t"]])
    for axis in _forms(shape)[params["t"]]:
        growth *= _GROWTH[axis.tile]
    return _ERROR * growth * (16 + run) ** 0.5 * (1.0 if shape.dtype == "float32" else _FLOAT64_OVER_FLOAT32)


def row_step(shape, params):
    """Rows of a row of tiles, of each of the interleaved images that dilation makes."""
    return _forms(shape)[params["t"]][0].outputs * shape.dilations[0]


def work(shape, params, threads):
    """Products, transforms of about four operations per element and pass, the filters once per block; what lies between the phases
    stays in the second-level cache unless blocks are too large for it."""
    form, tiles = _forms(shape)[params["t"]], _tile_count(shape, params)
    table = kernels(shape.itemsize)
    vectors = -(-shape.group_k // table.vl)
    padded_k = vectors * table.vl * shape.groups
    frequencies = _frequencies(form)
    tensors = shape.n * (shape.h * shape.w * shape.c + shape.oh * shape.ow * shape.k)
    filters = shape.group_c * padded_k * _filter_values(form)
    between = 2.0 * shape.itemsize * tiles * frequencies * (shape.c + padded_k)
    fits = params["tiles"] <= _tiles_in_l2(shape, params["t"], min(2, params["nv"]))
    return Work(
        gemm_flops=2.0 * tiles * frequencies * shape.group_c * padded_k,
        gemm_efficiency=0.95 * _efficiency(shape, params["t"]) * panels.efficiency(shape, params["nv"]),
        vector_flops=8.0 * tiles * frequencies * (shape.c + padded_k),
        moved_bytes=shape.itemsize * (tensors + float(filters) * -(-tiles // params["tiles"])) + (0.0 if fits else 2 * between),
        parts=max(1, tiles // 4) * shape.groups * -(-vectors // params["nv"]),
        near_bytes=between if fits else 0.0,
        packing_flops=2.0 * shape.group_c * padded_k * shape.s * form[0].filters * (shape.r + form[1].filters) * 8 / shape.itemsize,
    )


def _forms(shape):
    """{t: (axis of the height, axis of the width)}: each the axis with the largest transform up to t, or of one tap."""
    choices = []
    for taps, stride in zip((shape.r, shape.s), shape.strides, strict=True):
        choices.append([_ONE_TAP] if taps == 1 else [axis for axis in cooktoom.AXES if (axis.taps, axis.stride) == (taps, stride)])
    largest = max(axis.tile for axis in cooktoom.AXES) if 1 in (shape.r, shape.s) else cooktoom.LARGEST_SQUARE
    forms = {}
    for t in sorted({axis.tile for axes in choices for axis in axes if 1 < axis.tile <= largest}):
        form = tuple(max((axis for axis in axes if axis.tile <= t), key=lambda axis: axis.tile, default=None) for axes in choices)
        if None not in form:
            forms[t] = form
    return forms


def _frequencies(form):
    """Products per tile."""
    return form[0].frequencies * form[1].frequencies


def _filter_values(form):
    """Values of a transformed filter."""
    return form[0].filters * form[1].filters


def _tile_starts(size, step, dilation):
    """First output pixels of the tiles along one axis: every `step`-th pixel of each of the interleaved images."""
    return [start for phase in range(min(dilation, size)) for start in range(phase, size, step * dilation)]


def _tile_count(shape, params):
    h, w = _forms(shape)[params["t"]]
    return shape.n * len(_tile_starts(shape.oh, h.outputs, shape.dilations[0])) * len(_tile_starts(shape.ow, w.outputs, shape.dilations[1]))


def _cost(shape, t):
    """Products per filter value, counted in tiles: reading the filters costs each block as much as some tiles do."""
    tiles = _tile_count(shape, {"t": t})
    blocks = -(-tiles // _tiles_in_l2(shape, t, 1))
    return _frequencies(_forms(shape)[t]) * (tiles + READING_FILTERS * blocks) / _efficiency(shape, t)


def _efficiency(shape, t):
    """Of the micro-kernel, which loads and stores its sums once per run of channels."""
    depth = shape.group_c / -(-shape.group_c // _RUN[t])
    return depth / (depth + 8)


cdef Buffer _integers(values):
    cdef Buffer buffer = Buffer(len(values) * sizeof(ptrdiff_t))
    cdef Py_ssize_t i
    for i, value in enumerate(values):
        (<ptrdiff_t *>buffer.data)[i] = value
    return buffer


cdef Buffer _doubles(matrix):
    values = [float(value) for row in matrix for value in row]
    cdef Buffer buffer = Buffer(len(values) * sizeof(double))
    cdef Py_ssize_t i
    for i, value in enumerate(values):
        (<double *>buffer.data)[i] = value
    return buffer


cdef class Implementation(Convolver):
    cdef const WinogradAxis *h
    cdef const WinogradAxis *w
    cdef Buffer g_h, g_w                     # filter transforms, values x taps
    cdef Buffer tile_y, tile_x               # first output pixel of each row and column of tiles
    cdef ptrdiff_t tile_rows, tile_columns, tiles
    cdef ptrdiff_t frequencies, filters      # per tile; values of a transformed filter
    cdef int nv, nr, mr
    cdef ptrdiff_t vectors, panels           # of output channels of one group; filter panels, at most nv vectors wide
    cdef ptrdiff_t runs                      # parts that the sum over channels is made of
    cdef ptrdiff_t block_tiles, run_tiles    # the most tiles of one block; the fewest of a thread's run, whole blocks of small ones
    cdef ptrdiff_t v_tile, v_frequency       # strides of the transformed input, elements
    cdef ptrdiff_t q_tile, q_frequency       # strides of the sums, elements

    def __init__(self, shape, dict params):
        form_h, form_w = _forms(shape)[params["t"]]
        self.h, self.w = self.axis(form_h), self.axis(form_w)
        self.g_h = _doubles(cooktoom.axis_filter_matrix(form_h))
        self.g_w = _doubles(cooktoom.axis_filter_matrix(form_w))
        rows = _tile_starts(shape.oh, self.h.outputs, shape.dilations[0])
        columns = _tile_starts(shape.ow, self.w.outputs, shape.dilations[1])
        self.tile_y, self.tile_x = _integers(rows), _integers(columns)
        self.tile_rows, self.tile_columns = len(rows), len(columns)
        self.tiles = shape.n * self.tile_rows * self.tile_columns
        self.frequencies = self.h.frequencies * self.w.frequencies
        self.filters = self.h.filters * self.w.filters
        self.nv = params["nv"]
        self.nr = self.nv * self.kernels.vl
        self.mr = self.kernels.mr[self.nv]
        self.vectors = -(-shape.group_k // self.kernels.vl)
        self.panels = (self.vectors + self.nv - 1) // self.nv
        self.v_tile = self.odd_lines(-(-shape.group_c // self.kernels.vl) * self.kernels.vl)
        self.q_tile = self.nr
        self.runs = -(-shape.group_c // _RUN[params["t"]])
        self.block_tiles = params["tiles"]
        self.run_tiles = whole(RUN_TILES, min(self.block_tiles, <ptrdiff_t>RUN_TILES))
        self.v_frequency = self.odd_lines(self.block_tiles * self.v_tile)
        self.q_frequency = self.odd_lines(self.block_tiles * self.q_tile)

    cdef const WinogradAxis *axis(self, form):
        """The kernels' row of an axis."""
        cdef const WinogradAxis *row = self.kernels.winograd_axes
        while (row.stride, row.taps, row.outputs) != form:
            row += 1
        return row

    cdef ptrdiff_t odd_lines(self, ptrdiff_t elements) noexcept nogil:
        """The next odd number of cache lines, in elements: rows at such a stride spread over all sets of a cache."""
        cdef ptrdiff_t line = CACHE_LINE // self.conv.itemsize
        return ((elements + line - 1) // line | 1) * line

    cdef ptrdiff_t padded_k(self) noexcept nogil:
        return self.vectors * self.kernels.vl

    cdef ptrdiff_t panel_begin(self, ptrdiff_t panel) noexcept nogil:
        """First output channel of a panel in its group: widths differ by a vector at most, since a narrow tile is slow."""
        return panel * self.vectors // self.panels * self.kernels.vl

    cdef size_t packed_size(self) noexcept nogil:
        return self.conv.groups * self.padded_k() * self.filters * self.conv.group_c * self.conv.itemsize

    cdef size_t table_size(self) noexcept nogil:
        return (self.block_tiles * sizeof(WinogradTile) + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE

    cdef size_t part_size(self) noexcept nogil:
        """Scratch bytes of one share: table of tiles, transformed input, sums."""
        return self.table_size() + self.frequencies * (self.v_frequency + self.q_frequency) * self.conv.itemsize

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * self.part_size()

    cdef const char *panel(self, ptrdiff_t group, ptrdiff_t offset) noexcept nogil:
        """Packed filters of the panel that starts `offset` output channels into a group."""
        cdef ptrdiff_t column = group * self.padded_k() + offset
        return <const char *>self.packed.data + column * self.filters * self.conv.group_c * self.conv.itemsize

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        cdef ptrdiff_t column, columns = self.conv.groups * self.panels
        if threads <= 1:
            for column in range(columns):
                self.pack_panel(filters, column)
        else:
            for column in prange(columns, num_threads=threads, schedule="static"):
                self.pack_panel(filters, column)

    cdef void pack_panel(self, const void *filters, ptrdiff_t column) noexcept nogil:
        cdef ptrdiff_t group = column // self.panels, offset = self.panel_begin(column % self.panels)
        cdef ptrdiff_t wide = self.panel_begin(column % self.panels + 1) - offset
        cdef const char *source = <const char *>filters + (group * self.conv.group_k + offset) * self.conv.itemsize
        self.kernels.winograd_filter(
            self.h, self.w, <const double *>self.g_h.data, <const double *>self.g_w.data, self.conv.group_c,
            min(wide, self.conv.group_k - offset), source, self.conv.k, self.conv.group_c * self.conv.k,
            self.conv.s * self.conv.group_c * self.conv.k, <void *>self.panel(group, offset), wide)

    cdef void run(self, const Call *call) noexcept nogil:
        cdef int rows = self.tile_parts(call.threads)
        self.fork_join(call, 0, rows, call.threads // rows, self.tiles, self.run_tiles)

    cdef int tile_parts(self, int threads) noexcept nogil:
        """Threads are a grid over tiles and filter panels: rows of the grid that make the slowest share quickest.

        A share that has few panels transforms its input for few products; one that has few tiles reads the filters for few
        products. Counted in cycles of the vector unit and of the road to the filters.
        """
        cdef ptrdiff_t tiles, columns, groups, blocks
        cdef double products, transforms, traffic, cost, best_cost = 0
        cdef double vectors = <double>((self.conv.group_c + self.kernels.vl - 1) // self.kernels.vl)
        cdef int p, q, best = 0
        for p in range(1, threads + 1):
            q = threads // p
            tiles = (self.tiles + p - 1) // p
            columns = (self.conv.groups * self.panels + q - 1) // q
            groups = (columns + self.panels - 1) // self.panels
            blocks = (tiles + self.block_tiles - 1) // self.block_tiles
            products = 0.5 * self.nv * self.conv.group_c * tiles * columns
            transforms = 3.0 * tiles * (groups * vectors + columns * self.nv)
            traffic = 0.0625 * self.conv.itemsize * self.conv.group_c * self.nr * columns * blocks * self.filters / self.frequencies
            cost = products + transforms + traffic
            if best == 0 or cost < best_cost:
                best, best_cost = p, cost
        return best

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        """Tiles, in blocks as even as can be."""
        cdef WinogradTile *table = <WinogradTile *>(call.workspace + share.part * self.part_size())
        cdef ptrdiff_t columns = self.conv.groups * self.panels, first, last, block, blocks, begin
        while next_run(share):
            first = share_begin(columns, share.column, share.columns)
            last = share_begin(columns, share.column + 1, share.columns)
            blocks = (share.last - share.first + self.block_tiles - 1) // self.block_tiles
            for block in range(blocks if first < last else 0):
                begin = share.first + share_begin(share.last - share.first, <int>block, <int>blocks)
                self.run_block(call, begin, share.first + share_begin(share.last - share.first, <int>block + 1, <int>blocks) - begin,
                               first, last, table)

    cdef void run_block(self, const Call *call, ptrdiff_t begin, ptrdiff_t size, ptrdiff_t column_first, ptrdiff_t column_last,
                        WinogradTile *table) noexcept nogil:
        """So many tiles from `begin` on, and filter panels column_first to column_last of all groups."""
        cdef ptrdiff_t column, group, transformed = -1, item = self.conv.itemsize
        cdef char *v = <char *>table + self.table_size()
        cdef char *q = v + self.frequencies * self.v_frequency * item
        self.locate(begin, size, table)
        for column in range(column_first, column_last):
            group = column // self.panels
            if group != transformed:
                self.kernels.winograd_input(
                    self.h, self.w, size, table, self.conv.group_c, call.x + group * self.conv.group_c * item,
                    self.conv.dilation_h * self.conv.w * self.conv.c, self.conv.dilation_w * self.conv.c,
                    v, self.v_frequency, self.v_tile)
                transformed = group
            self.multiply(call, group, column % self.panels, size, table, v, q)

    cdef void multiply(self, const Call *call, ptrdiff_t group, ptrdiff_t panel, ptrdiff_t size, const WinogradTile *table,
                       const char *v, char *q) noexcept nogil:
        """One filter panel times the block's transformed tiles, and on to the output pixels."""
        cdef ptrdiff_t item = self.conv.itemsize, offset = self.panel_begin(panel), wide = self.panel_begin(panel + 1) - offset
        cdef ptrdiff_t channel = group * self.conv.group_k + offset
        cdef Epilogue epilogue
        self.kernels.winograd_product(
            self.h, self.w, size, self.conv.group_c, self.runs, self.panel(group, offset), <int>wide, v, self.v_frequency, self.v_tile,
            q, self.q_frequency, self.q_tile)
        epilogue = call.epilogue[0]
        if epilogue.bias != NULL:
            epilogue.bias = <const char *>epilogue.bias + channel * item
        self.kernels.winograd_output(
            self.h, self.w, size, table, min(wide, self.conv.group_k - offset), q, self.q_frequency, self.q_tile,
            call.out + channel * item, self.conv.dilation_h * self.conv.ow * self.conv.k, self.conv.dilation_w * self.conv.k, &epilogue)

    cdef void locate(self, ptrdiff_t begin, ptrdiff_t size, WinogradTile *tile) noexcept nogil:
        """Fill the table of the tiles begin .. begin + size; they are numbered image by image, row by row."""
        cdef ptrdiff_t column = begin % self.tile_columns, row = begin // self.tile_columns % self.tile_rows
        cdef ptrdiff_t n = begin // self.tile_columns // self.tile_rows, _i, y, x
        for _i in range(size):
            y = (<const ptrdiff_t *>self.tile_y.data)[row]
            x = (<const ptrdiff_t *>self.tile_x.data)[column]
            tile.output = ((n * self.conv.oh + y) * self.conv.ow + x) * self.conv.k
            tile.rows = existing(y, self.conv.oh, self.conv.dilation_h, self.h.outputs)
            tile.columns = existing(x, self.conv.ow, self.conv.dilation_w, self.w.outputs)
            y = y * self.conv.stride_h - self.conv.pad_top
            x = x * self.conv.stride_w - self.conv.pad_left
            tile.input = ((n * self.conv.h + y) * self.conv.w + x) * self.conv.c
            tile.row_first = existing(y, 0, self.conv.dilation_h, self.h.inputs)
            tile.row_end = existing(y, self.conv.h, self.conv.dilation_h, self.h.inputs)
            tile.column_first = existing(x, 0, self.conv.dilation_w, self.w.inputs)
            tile.column_end = existing(x, self.conv.w, self.conv.dilation_w, self.w.inputs)
            tile += 1
            column += 1
            if column == self.tile_columns:
                column = 0
                row += 1
                if row == self.tile_rows:
                    row = 0
                    n += 1


cdef inline int existing(ptrdiff_t start, ptrdiff_t end, ptrdiff_t step, ptrdiff_t limit) noexcept nogil:
    """How many of the pixels start, start + step, ... lie before `end`, at most `limit` of them."""
    return 0 if start >= end else <int>min((end - start + step - 1) // step, limit)
