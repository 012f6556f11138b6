"""Blocks of Winograd tiles: transformed, multiplied by filter panels, transformed back.

Loops, outermost first: share of a thread (tiles x filter panels) > block of tiles, whose transformed input stays in L2 >
filter panel > frequency > run of channels > register tile; bias, activation and the output transform follow each panel. The
transformed filters are laid out in exactly this order, [group][panel][frequency][channel][nr], and stream by once per block:
the register tiles of one run, which share its filters in L1, fetch those of the next meanwhile. No intermediate is larger than
a block. Where tiles are too few for all threads, some of these have the same block, each its own copy, and take panels of it.
"""

from convopt.algorithms.winograd_tiles import CHANNELS_OF_RUN, READING_FILTERS, depth, filter_values, forms, frequencies
from convopt.algorithms.winograd_tiles import input_lanes, tile_starts
from convopt.kernels import cooktoom

from cython.parallel cimport prange

from convopt.algorithms.contract cimport Call
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.panels cimport whole
from convopt.algorithms.shares cimport Share, next_run, share_begin
from convopt.kernels.registry cimport CONVOPT_LINE_BYTES as CACHE_LINE, Epilogue, WinogradAxis, WinogradTile

cdef enum:
    EVEN_FROM = 8    # so many panels are made an even number, which two threads can share: one more costs the others little

# What the items of work are: tiles; or filter panels of parts of all tiles, each of which is one block.
cdef enum:
    TILES
    PANELS


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


cdef class Blocks(Convolver):
    """The Convolver of strides that are not folded."""

    def __init__(self, shape, dict params):
        form = form_h, form_w = forms(shape)[params["t"]]
        self.h, self.w = self.axis(form_h), self.axis(form_w)
        self.g_h = _doubles(cooktoom.axis_filter_matrix(form_h))
        self.g_w = _doubles(cooktoom.axis_filter_matrix(form_w))
        rows = tile_starts(shape.oh, self.h.outputs, shape.dilations[0])
        columns = tile_starts(shape.ow, self.w.outputs, shape.dilations[1])
        self.tile_y, self.tile_x = _integers(rows), _integers(columns)
        self.tile_rows, self.tile_columns = len(rows), len(columns)
        self.tiles = shape.n * self.tile_rows * self.tile_columns
        self.frequencies, self.filters = frequencies(form), filter_values(form)
        self.nv = params["nv"]
        self.nr = self.nv * self.kernels.vl
        self.vectors = -(-shape.group_k // self.kernels.vl)
        self.panels = (self.vectors + self.nv - 1) // self.nv
        if EVEN_FROM <= self.panels < self.vectors:
            self.panels += self.panels % 2
        self.depth = depth(shape)
        self.step_h, self.step_w = shape.dilations
        self.pixels_h, self.pixels_w = self.h.inputs, self.w.inputs
        self.v_tile = self.odd_lines(input_lanes(shape, self.kernels.vl))
        self.q_tile = self.nr
        self.runs = -(-self.depth // CHANNELS_OF_RUN[params["t"]])
        self.block_tiles = params["tiles"]
        self.run_tiles = 2 * READING_FILTERS    # a thread's run reads the filters once more
        self.run_tiles = whole(self.run_tiles, min(self.block_tiles, self.run_tiles))
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
        return self.conv.groups * self.padded_k() * self.filters * self.depth * self.conv.itemsize

    cdef size_t table_size(self) noexcept nogil:
        return (self.block_tiles * sizeof(WinogradTile) + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE

    cdef size_t blocks_size(self) noexcept nogil:
        """Bytes of a block's transformed input and sums."""
        return self.frequencies * (self.v_frequency + self.q_frequency) * self.conv.itemsize

    cdef size_t part_size(self) noexcept nogil:
        """Scratch bytes of one share: table of tiles, transformed input, sums."""
        return self.table_size() + self.blocks_size()

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * self.part_size()

    cdef const char *panel(self, ptrdiff_t group, ptrdiff_t offset) noexcept nogil:
        """Packed filters of the panel that starts `offset` output channels into a group."""
        cdef ptrdiff_t column = group * self.padded_k() + offset
        return <const char *>self.packed.data + column * self.filters * self.depth * self.conv.itemsize

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        cdef const char *taps = self.taps(filters)
        cdef ptrdiff_t column, columns = self.columns()
        if threads <= 1:
            for column in range(columns):
                self.pack_panel(taps, column)
        else:
            for column in prange(columns, num_threads=threads, schedule="static"):
                self.pack_panel(taps, column)

    cdef const char *taps(self, const void *filters) noexcept nogil:
        """Filters as taps along the height x along the width x channels summed over x output channels."""
        return <const char *>filters

    cdef void pack_panel(self, const char *taps, ptrdiff_t column) noexcept nogil:
        cdef ptrdiff_t group = column // self.panels, offset = self.panel_begin(column % self.panels)
        cdef ptrdiff_t wide = self.panel_begin(column % self.panels + 1) - offset
        self.kernels.winograd_filter(
            self.h, self.w, <const double *>self.g_h.data, <const double *>self.g_w.data, self.depth,
            min(wide, self.conv.group_k - offset), taps + (group * self.conv.group_k + offset) * self.conv.itemsize, self.conv.k,
            self.depth * self.conv.k, self.w.taps * self.depth * self.conv.k, <void *>self.panel(group, offset), wide)

    cdef void run(self, const Call *call) noexcept nogil:
        cdef int rows = self.tile_parts(call.threads)
        if rows < call.threads and (self.tiles + rows - 1) // rows <= self.block_tiles:
            self.fork_join(call, PANELS, call.threads, 1, rows * self.columns(), 1)
        else:
            self.fork_join(call, TILES, rows, call.threads // rows, self.tiles, self.run_tiles)

    cdef ptrdiff_t columns(self) noexcept nogil:
        """Filter panels of all groups."""
        return self.conv.groups * self.panels

    cdef int tile_parts(self, int threads) noexcept nogil:
        """Threads are a grid over tiles and filter panels: rows of the grid that make the slowest share quickest.

        A share that has few panels transforms its input for few products; one that has few tiles reads the filters for few
        products. Counted in cycles of the vector unit and of the road to the filters.
        """
        cdef ptrdiff_t tiles, columns, groups, blocks
        cdef double products, transforms, traffic, cost, best_cost = 0
        cdef double vectors = <double>((self.depth + self.kernels.vl - 1) // self.kernels.vl)
        cdef int p, q, best = 0
        for p in range(1, threads + 1):
            q = threads // p
            tiles = (self.tiles + p - 1) // p
            columns = (self.conv.groups * self.panels + q - 1) // q
            groups = (columns + self.panels - 1) // self.panels
            blocks = (tiles + self.block_tiles - 1) // self.block_tiles
            products = 0.5 * self.nv * self.depth * tiles * columns
            transforms = 3.0 * tiles * (groups * vectors + columns * self.nv)
            traffic = 0.0625 * self.conv.itemsize * self.depth * self.nr * columns * blocks * self.filters / self.frequencies
            cost = products + transforms + traffic
            if best == 0 or cost < best_cost:
                best, best_cost = p, cost
        return best

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        cdef WinogradTile *table = <WinogradTile *>(call.workspace + share.part * self.part_size())
        if phase == TILES:
            self.share_tiles(call, share, table)
        else:
            self.share_panels(call, share, table)

    cdef void share_tiles(self, const Call *call, Share *share, WinogradTile *table) noexcept nogil:
        """Tiles, in blocks as even as can be."""
        cdef ptrdiff_t columns = self.columns(), first, last, block, blocks, begin, end
        while next_run(share):
            first = share_begin(columns, share.column, share.columns)
            last = share_begin(columns, share.column + 1, share.columns)
            blocks = (share.last - share.first + self.block_tiles - 1) // self.block_tiles
            for block in range(blocks if first < last else 0):
                begin = share.first + share_begin(share.last - share.first, <int>block, <int>blocks)
                end = share.first + share_begin(share.last - share.first, <int>block + 1, <int>blocks)
                self.locate(begin, end - begin, table)
                self.run_block(call, end - begin, first, last, table, -1)

    cdef void share_panels(self, const Call *call, Share *share, WinogradTile *table) noexcept nogil:
        """Filter panels of the first part of the tiles, then those of the next; a part is transformed when its first panel is taken."""
        cdef ptrdiff_t columns = self.columns(), index, end, begin, size = 0, part = -1, group = -1
        cdef int parts = <int>(share.items // columns)
        while next_run(share):
            index = share.first
            while index < share.last:
                if index // columns != part:
                    part, group = index // columns, -1
                    begin = share_begin(self.tiles, <int>part, parts)
                    size = share_begin(self.tiles, <int>part + 1, parts) - begin
                    self.locate(begin, size, table)
                end = min(share.last, (part + 1) * columns)
                group = self.run_block(call, size, index - part * columns, end - part * columns, table, group)
                index = end

    cdef ptrdiff_t run_block(self, const Call *call, ptrdiff_t size, ptrdiff_t column_first, ptrdiff_t column_last,
                             WinogradTile *table, ptrdiff_t transformed) noexcept nogil:
        """The tiles of the table, and filter panels column_first to column_last of all groups.

        transformed: the group whose channels are so already, -1 if none; returned is the last one that is.
        """
        cdef ptrdiff_t column, group, item = self.conv.itemsize
        cdef char *v = <char *>table + self.table_size()
        cdef char *q = v + self.frequencies * self.v_frequency * item
        for column in range(column_first, column_last):
            group = column // self.panels
            if group != transformed:
                self.transform(call, group, size, table, v)
                transformed = group
            self.multiply(call, group, column % self.panels, size, table, v, q)
        return transformed

    cdef void transform(self, const Call *call, ptrdiff_t group, ptrdiff_t size, const WinogradTile *table, char *v) noexcept nogil:
        """The input of the table's tiles, all channels of a group."""
        self.kernels.winograd_input(
            self.h, self.w, size, table, self.conv.group_c, call.x + group * self.conv.group_c * self.conv.itemsize,
            self.step_h * self.conv.w * self.conv.c, self.step_w * self.conv.c, v, self.v_frequency, self.v_tile)

    cdef void multiply(self, const Call *call, ptrdiff_t group, ptrdiff_t panel, ptrdiff_t size, const WinogradTile *table,
                       const char *v, char *q) noexcept nogil:
        """One filter panel times the block's transformed tiles, and on to the output pixels."""
        cdef ptrdiff_t item = self.conv.itemsize, offset = self.panel_begin(panel), wide = self.panel_begin(panel + 1) - offset
        cdef ptrdiff_t channel = group * self.conv.group_k + offset
        cdef Epilogue epilogue
        self.kernels.winograd_product(
            self.h, self.w, size, self.depth, self.runs, self.panel(group, offset), <int>wide, v, self.v_frequency, self.v_tile,
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
            tile.row_first = existing(y, 0, self.step_h, self.pixels_h)
            tile.row_end = existing(y, self.conv.h, self.step_h, self.pixels_h)
            tile.column_first = existing(x, 0, self.step_w, self.pixels_w)
            tile.column_end = existing(x, self.conv.w, self.step_w, self.pixels_w)
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
