"""im2col by blocks: taps and channels are folded into one depth, and the matrix of windows never exists.

Folding pays where there are few channels (the first layer of every network): the product runs over long rows of
elements, not over C/groups of them at a time.

A block is some output rows of one image, or a part of one row. Its input, with the padding around it, is the *band*:
a copy in the workspace, or the input itself where the block touches no padding.

* NHWC: a row of a window, S*C elements, lies in one piece in the band. So nothing more is copied: the product, pixels x
  channels, reads the R rows of each window where they are, windows of an output row at equal distances (`windows` in
  kernels.h). With dilation the pieces are single taps, of C elements.
* NCHW: tap by tap, `gather` copies the pixels into a panel as Q = R*S*C/groups rows of `nr` pixels; the product is filters
  x this panel, channels x pixels. Some panels are gathered at a time, so that each output plane is written in long pieces: what
  follows a line is written next, not after lines of all other planes. The band keeps columns that are a stride apart together,
  so that neighbouring outputs read neighbouring elements.
"""

from convopt.algorithms import panels
from convopt.algorithms.contract import Work, error_of_sums

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.panels cimport pack_panels, whole
from convopt.algorithms.shares cimport Share, next_run, share_begin
from convopt.kernels.registry cimport CONVOPT_GATHER_SLACK, CONVOPT_LINE_BYTES as CACHE_LINE, Epilogue

NAME = "im2col"
REVISION = 7
LAYOUTS = ("NHWC", "NCHW")
SPREADS_NONFINITE = False

cdef enum:
    BLOCK_BYTES = 1 << 17    # input of one block: within the smallest L2 in use
    STEP_BYTES = 1 << 14     # half of the smallest L1 in use: filters that stay there, or input beside a panel of them (NHWC)
    PANELS_BYTES = 1 << 16   # panels of pixels gathered before filters run over them: beside the band within the smallest L2 (NCHW)
    FEW_UNITS = 32           # output rows that are enough for any number of threads
    RUNS = 4                 # of a thread in a block at most

#: Bytes of one output row's band beyond which packing makes no sense: only absurd padding or dilation needs so much.
BAND_LIMIT = 1 << 28


def why_not(shape):
    """The reason im2col cannot serve a shape: one output row alone needs a copy of the input larger than BAND_LIMIT."""
    width = max(shape.ow - 1, 0) * shape.strides[1] + shape.extent[1]
    needed = shape.r * width * shape.group_c * shape.itemsize
    if needed > BAND_LIMIT:
        return f"the padded input of one output row has {needed} bytes; im2col copies at most {BAND_LIMIT}"
    return None


def candidates(shape):
    """Register-tile widths `nv` in vectors: of output channels (NHWC) or of pixels (NCHW)."""
    if shape.data_format == "NHWC":
        return panels.widths(shape)
    vl, mr = panels.tiles(shape)
    pixels = max(1, shape.oh * shape.ow)

    def loads(nv):
        tiles = -(-shape.group_k // mr[nv - 1])
        rows = shape.group_k / tiles
        return (rows + nv) / (rows * nv) * (-(-pixels // (nv * vl)) * nv * vl / pixels), -nv

    return [{"nv": nv} for nv in sorted(range(1, min(len(mr), -(-pixels // vl)) + 1), key=loads)]


def expected_error(shape, params):
    """That of sums in order."""
    return error_of_sums(shape)


def row_step(shape, params):
    """Any number of rows will do."""
    return 1


def work(shape, params, threads):
    """In NCHW every window is written to the panel and read from it; tensors and filters move once."""
    vl, _ = panels.tiles(shape)
    pixels = shape.n * shape.oh * shape.ow
    nhwc = shape.data_format == "NHWC"
    lanes = -(-shape.group_k // vl) * vl * shape.groups if nhwc else shape.k
    windows = 0 if nhwc else shape.itemsize * pixels * shape.depth * shape.groups
    tensors = shape.itemsize * (shape.n * shape.h * shape.w * shape.c + pixels * shape.k + shape.depth * shape.k)
    return Work(
        gemm_flops=2.0 * pixels * lanes * shape.depth,
        gemm_efficiency=0.95 * shape.depth / (shape.depth + (2 if nhwc else 6)) * (panels.efficiency(shape, params["nv"]) if nhwc else 1.0),
        vector_flops=0.0,
        moved_bytes=tensors + 2.0 * windows,
        parts=max(1, shape.n * shape.oh),
    )


# Output pixels of one block: `rows` output rows from `row` on, columns `column` to `column + width`, of image `image`.
# Only blocks as wide as the output have several rows, so that the pixels of a block follow each other in the output.
cdef struct Block:
    ptrdiff_t image, row, column, rows, width


# Where a block finds its input. Distances in elements: from a row to the next, from a column to the next column that
# is a stride away (pitch_x) and, within a stride, to the next (phase); from an output row's first input row to the next
# one's (step), and from a tap's input row to the next one's (tap).
cdef struct Band:
    const char *data
    ptrdiff_t row, pixel, phase, channel, step, tap


cdef class Implementation(Convolver):
    cdef int nv, nr, mr
    cdef ptrdiff_t depth, pitch              # elements: of a window, between filters (NCHW)
    cdef ptrdiff_t runs, length              # a window (NHWC) is so many runs of so many elements that are neighbours in the band
    cdef ptrdiff_t panel_count, panel_bytes  # panels of pixels gathered at a time, and from one to the next (NCHW)
    cdef ptrdiff_t columns                   # filter panels (NHWC) or tiles of filters (NCHW) of one group
    cdef ptrdiff_t segments, block_rows      # parts of an output row; output rows of a block
    cdef ptrdiff_t band_rows, band_width     # of the largest block, in pixels
    cdef ptrdiff_t step                      # pixels multiplied by a panel of filters before the next one (NHWC)
    cdef bint resident                       # whether a group's filters stay in L1, all panels of them (NHWC)
    cdef bint every_row                      # band rows are numbered by (output row, tap), not by input row

    def __init__(self, shape, dict params):
        cdef ptrdiff_t item = self.conv.itemsize, ow = max(<ptrdiff_t>1, self.conv.ow), most, extent_h, pixels
        self.nv = params["nv"]
        self.nr = self.nv * self.kernels.vl
        self.mr = self.kernels.mr[self.nv]
        self.depth = self.conv.r * self.conv.s * self.conv.group_c
        # Rows a multiple of a small power of two apart would fall into few cache sets.
        self.pitch = self.depth if self.depth * item % 256 else self.depth + CACHE_LINE // item
        extent_h = (self.conv.r - 1) * self.conv.dilation_h + 1
        if self.conv.nchw:
            self.columns = (self.conv.group_k + self.mr - 1) // self.mr
            self.panel_bytes = self.depth * self.nr * item
            self.panel_count = max(<ptrdiff_t>1, PANELS_BYTES // self.panel_bytes)
            # One divisor after the other: strides may be so large that their product is beyond all integers.
            most = BLOCK_BYTES // (self.conv.group_c * item) // self.conv.stride_h // self.conv.stride_w
            most = max(<ptrdiff_t>(4 * self.nr), most)
        else:
            self.columns = (self.conv.group_k + self.nr - 1) // self.nr
            self.runs = self.conv.r if self.conv.dilation_w == 1 else self.conv.r * self.conv.s
            self.length = self.depth // self.runs
            pixels = BLOCK_BYTES // (self.conv.group_c * item) // self.conv.stride_w
            most = max(<ptrdiff_t>self.mr, pixels // self.conv.stride_h)
            # Reading a panel for fewer pixels than it has channels costs more than reading the pixels for each panel, from L2;
            # so does a panel too large for L1.
            self.step = STEP_BYTES // (self.conv.group_c * item) // self.conv.stride_w // self.conv.r
            if self.step < self.nr or self.nr * self.depth * item > 2 * STEP_BYTES:
                self.step = max(<ptrdiff_t>self.mr, pixels // self.conv.r)
            self.resident = whole(self.conv.group_k, self.kernels.vl) * self.depth * item <= STEP_BYTES
        if self.conv.n * self.conv.oh < FEW_UNITS:
            most = min(most, max(<ptrdiff_t>(4 * self.nr), self.conv.n * self.conv.oh * ow // FEW_UNITS))
        self.segments = (ow + most - 1) // most
        self.block_rows = 1 if self.segments > 1 else min(max(<ptrdiff_t>1, self.conv.oh), most // ow)
        self.band_width = ((ow + self.segments - 1) // self.segments - 1) * self.conv.stride_w
        self.band_width += (self.conv.s - 1) * self.conv.dilation_w + 1
        self.every_row = self.block_rows * self.conv.r < (self.block_rows - 1) * self.conv.stride_h + extent_h
        self.band_rows = self.block_rows * self.conv.r if self.every_row else (self.block_rows - 1) * self.conv.stride_h + extent_h

    cdef size_t packed_size(self) noexcept nogil:
        if self.conv.nchw:
            return self.conv.k * self.pitch * self.conv.itemsize
        return self.conv.groups * whole(self.conv.group_k, self.kernels.vl) * self.depth * self.conv.itemsize

    cdef size_t band_size(self) noexcept nogil:
        cdef ptrdiff_t columns = whole(self.band_width, self.conv.stride_w) if self.conv.nchw else self.band_width
        return whole(self.band_rows * columns * self.conv.group_c * self.conv.itemsize + CONVOPT_GATHER_SLACK, CACHE_LINE)

    cdef size_t panels_size(self) noexcept nogil:
        """Of the panels of pixels gathered at a time (NCHW)."""
        return whole(self.panel_count * self.panel_bytes + CONVOPT_GATHER_SLACK, CACHE_LINE) if self.conv.nchw else 0

    cdef size_t table_size(self) noexcept nogil:
        """Of the offsets that `gather` needs (NCHW), or of the pointers to the runs of an output row's windows (NHWC)."""
        cdef ptrdiff_t entries = self.depth + 2 * self.nr if self.conv.nchw else self.runs
        return whole(entries * sizeof(void *), CACHE_LINE)

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * (self.band_size() + self.panels_size() + self.table_size())

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """NHWC: panels as for direct. NCHW: [output channel][input channel][tap], `pitch` apart."""
        cdef ptrdiff_t taps = self.conv.r * self.conv.s, item = self.conv.itemsize, channel, tap
        cdef const char *source = <const char *>filters
        cdef char *to = <char *>self.packed.data
        if not self.conv.nchw:
            pack_panels(&self.conv, self.kernels.vl, self.nr, source, to, threads)
            return
        for tap in range(taps):
            for channel in range(self.conv.group_c):
                spread(source, self.conv.k, to + (channel * taps + tap) * item, self.pitch, item)
                source += self.conv.k * item

    cdef ptrdiff_t units(self) noexcept nogil:
        return self.conv.n * self.conv.oh * self.segments

    cdef void run(self, const Call *call) noexcept nogil:
        """Threads share the output rows, and where those are few the filters as well."""
        cdef int rows = self.row_parts(call.threads)
        self.fork_join(call, 0, rows, call.threads // rows, self.units(), (self.block_rows + RUNS - 1) // RUNS)

    cdef int row_parts(self, int threads) noexcept nogil:
        """Of the grid of threads, rows x columns, the rows that make the largest share smallest; of such the most.

        Counted in panels of filters; finding a block's input is about as much work as multiplying it by one.
        """
        cdef ptrdiff_t share, least = 0
        cdef int p, q, best = 1
        for p in range(threads, 0, -1):
            q = threads // p
            share = (self.units() + p - 1) // p * ((self.columns + q - 1) // q + 1)
            if least == 0 or share < least:
                least, best = share, p
        return best

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        """Output rows, or segments of them, block by block."""
        cdef char *memory = call.workspace + share.part * (self.band_size() + self.panels_size() + self.table_size())
        cdef ptrdiff_t unit
        cdef Block block
        if self.segments == 1 and not self.conv.nchw:
            self.clear_margins(memory)
        while next_run(share):
            unit = share.first
            while unit < share.last:
                block = self.block_at(unit, share.last)
                self.run_block(call, &block, share_begin(self.columns, share.column, share.columns),
                               share_begin(self.columns, share.column + 1, share.columns), memory)
                unit += block.rows

    cdef void run_block(self, const Call *call, const Block *block, ptrdiff_t column_first, ptrdiff_t column_last,
                        char *band_memory) noexcept nogil:
        """A block times panels (NHWC), or tiles (NCHW), column_first to column_last of each group's filters."""
        cdef char *gathered = band_memory + self.band_size()
        cdef void *table = gathered + self.panels_size()
        cdef ptrdiff_t group
        cdef Band band
        for group in range(self.conv.groups):
            band = self.band_of(call.x, block, group, band_memory)
            if self.conv.nchw:
                self.multiply_nchw(call, block, &band, group, column_first, column_last, gathered, <ptrdiff_t *>table)
            else:
                self.multiply_nhwc(call, block, &band, group, column_first, column_last, <const void **>table)

    cdef Block block_at(self, ptrdiff_t unit, ptrdiff_t last) noexcept nogil:
        """The block that begins with this unit (a segment of an output row) and ends before unit `last`."""
        cdef Block block
        cdef ptrdiff_t row = unit // self.segments, segment = unit % self.segments
        block.image = row // self.conv.oh
        block.row = row % self.conv.oh
        block.rows = 1 if self.segments > 1 else min(min(self.block_rows, last - unit), self.conv.oh - block.row)
        block.column = segment * self.conv.ow // self.segments
        block.width = (segment + 1) * self.conv.ow // self.segments - block.column
        return block

    cdef Band band_of(self, const char *x, const Block *block, ptrdiff_t group, char *memory) noexcept nogil:
        """The block's input: in place where padding (for NCHW also the end of the input) is out of reach, else copied."""
        cdef ptrdiff_t y = block.row * self.conv.stride_h - self.conv.pad_top
        cdef ptrdiff_t x0 = block.column * self.conv.stride_w - self.conv.pad_left
        cdef ptrdiff_t height = (block.rows - 1) * self.conv.stride_h + (self.conv.r - 1) * self.conv.dilation_h + 1
        cdef ptrdiff_t width = (block.width - 1) * self.conv.stride_w + (self.conv.s - 1) * self.conv.dilation_w + 1
        cdef ptrdiff_t h = self.conv.h, w = self.conv.w, c = self.conv.c, begin, end
        cdef bint inside = y >= 0 and y + height <= h and x0 >= 0 and x0 + width <= w
        cdef Band band
        if self.conv.nchw:
            band.row, band.pixel, band.phase, band.channel = w, 1, 0, h * w
            begin = ((block.image * c + group * self.conv.group_c) * h + y) * w + x0
            end = begin + ((self.conv.group_c - 1) * h + height - 1) * w + width
            inside = inside and self.conv.stride_w == 1 and (self.conv.n * h * w * c - end) * self.conv.itemsize >= CONVOPT_GATHER_SLACK
        else:
            band.row, band.pixel, band.phase, band.channel = w * c, self.conv.stride_w * c, c, 1
            begin = ((block.image * h + y) * w + x0) * c
            inside = inside and self.conv.groups == 1
        if inside:
            band.data = x + begin * self.conv.itemsize
            band.step, band.tap = self.conv.stride_h * band.row, self.conv.dilation_h * band.row
            return band
        self.copy_band(x, block, group, memory, &band)
        return band

    cdef void copy_band(self, const char *x, const Block *block, ptrdiff_t group, char *memory, Band *band) noexcept nogil:
        """Copy the group's channels of the block's input, padding included, to `memory`."""
        cdef ptrdiff_t item = self.conv.itemsize, index, y, row = block.row * self.conv.stride_h - self.conv.pad_top
        cdef ptrdiff_t x0 = block.column * self.conv.stride_w - self.conv.pad_left
        cdef ptrdiff_t rows = block.rows * self.conv.r, channel
        cdef ptrdiff_t group_c = self.conv.group_c
        if not self.every_row:
            rows = (block.rows - 1) * self.conv.stride_h + (self.conv.r - 1) * self.conv.dilation_h + 1
        if self.conv.nchw:
            band.phase, band.pixel = (self.band_width + self.conv.stride_w - 1) // self.conv.stride_w, 1
            band.row = band.phase * self.conv.stride_w
            band.channel = rows * band.row
        else:
            band.phase, band.pixel, band.row, band.channel = group_c, self.conv.stride_w * group_c, self.band_width * group_c, 1
        band.data = memory
        band.step, band.tap = self.conv.stride_h * band.row, self.conv.dilation_h * band.row
        if self.every_row:
            band.step, band.tap = self.conv.r * band.row, band.row
        for index in range(rows):
            y = row + (index // self.conv.r * self.conv.stride_h + index % self.conv.r * self.conv.dilation_h if self.every_row else index)
            if y < 0 or y >= self.conv.h:
                for channel in range(group_c if self.conv.nchw else 1):
                    memset(memory + (channel * band.channel + index * band.row) * item, 0, band.row * item)
            elif self.conv.nchw:
                for channel in range(group_c):
                    self.copy_row_nchw(x + ((block.image * self.conv.c + group * group_c + channel) * self.conv.h + y) * self.conv.w * item,
                                       x0, band.phase, memory + (channel * band.channel + index * band.row) * item)
            else:
                self.copy_row_nhwc(x + ((block.image * self.conv.h + y) * self.conv.w * self.conv.c + group * group_c) * item,
                                   x0, memory + index * band.row * item)

    cdef void clear_margins(self, char *memory) noexcept nogil:
        """NHWC, blocks as wide as the output: the padding beside their rows is the same for all, and stays."""
        cdef ptrdiff_t pixel = self.conv.group_c * self.conv.itemsize, row
        cdef ptrdiff_t left = min(self.conv.pad_left, self.band_width)
        cdef ptrdiff_t right = max(left, min(self.band_width, self.conv.pad_left + self.conv.w))
        if left == 0 and right == self.band_width:
            return
        for row in range(self.band_rows):
            memset(memory + row * self.band_width * pixel, 0, left * pixel)
            memset(memory + (row * self.band_width + right) * pixel, 0, (self.band_width - right) * pixel)

    cdef void copy_row_nhwc(self, const char *source, ptrdiff_t x0, char *to) noexcept nogil:
        """Columns x0 to x0 + band_width of an input row, zero outside the image."""
        cdef ptrdiff_t first = min(max(<ptrdiff_t>0, -x0), self.band_width), column
        cdef ptrdiff_t last = max(min(self.band_width, self.conv.w - x0), first)
        cdef ptrdiff_t pixel = self.conv.group_c * self.conv.itemsize, distance = self.conv.c * self.conv.itemsize
        if self.segments > 1:
            memset(to, 0, first * pixel)
            memset(to + last * pixel, 0, (self.band_width - last) * pixel)
        if self.conv.groups == 1:
            memcpy(to + first * pixel, source + (x0 + first) * distance, (last - first) * pixel)
        else:
            for column in range(first, last):
                memcpy(to + column * pixel, source + (x0 + column) * distance, pixel)

    cdef void copy_row_nchw(self, const char *source, ptrdiff_t x0, ptrdiff_t phase_pitch, char *to) noexcept nogil:
        """As copy_row_nhwc, of one channel; columns that are a stride apart become neighbours."""
        cdef ptrdiff_t first = min(max(<ptrdiff_t>0, -x0), self.band_width), last = max(min(self.band_width, self.conv.w - x0), first)
        cdef ptrdiff_t stride = self.conv.stride_w, item = self.conv.itemsize, phase, column
        if first > 0 or last < self.band_width:
            memset(to, 0, phase_pitch * stride * item)
        for phase in range(stride):
            column = first + (phase - first % stride + stride) % stride
            if column < last:
                self.kernels.sample(1, (last - column + stride - 1) // stride, source + (x0 + column) * item, 0, stride,
                                    to + (phase * phase_pitch + column // stride) * item, 0)

    cdef void multiply_nhwc(self, const Call *call, const Block *block, const Band *band, ptrdiff_t group, ptrdiff_t column_first,
                            ptrdiff_t column_last, const void **lines) noexcept nogil:
        """The block's pixels times the group's filters: filters that stay in L1 all at once, others panel by panel."""
        cdef ptrdiff_t item = self.conv.itemsize, rows = block.rows, width = block.width
        cdef ptrdiff_t first = column_first * self.nr, last = min(column_last * self.nr, self.conv.group_k)
        cdef ptrdiff_t columns = last - first, step_rows, parts = 1, part, begin, row, channel
        cdef const char *filters = <const char *>self.packed.data + group * whole(self.conv.group_k, self.kernels.vl) * self.depth * item
        cdef char *origin = call.out + ((block.image * self.conv.oh + block.row) * self.conv.ow + block.column) * self.conv.k * item
        cdef Epilogue epilogue = call.epilogue[0]
        # Windows without padding or overlap may go on from one row to the next: those of 1x1 do.
        if band.step == width * band.pixel:
            rows, width = 1, rows * width
        step_rows = rows
        if not self.resident and column_last - column_first > 1:
            columns = self.nr
            step_rows = max(<ptrdiff_t>1, self.step // width)
            parts = (width + self.step - 1) // self.step
        origin += group * self.conv.group_k * item
        row = 0
        while row < rows:
            for part in range(parts):
                begin = part * width // parts
                self.fill_lines(band, row, begin, lines)
                channel = first
                while channel < last:
                    if call.epilogue.bias != NULL:
                        epilogue.bias = <const char *>call.epilogue.bias + (group * self.conv.group_k + channel) * item
                    self.kernels.windows(self.nv, min(step_rows, rows - row), band.step, (part + 1) * width // parts - begin,
                                         min(columns, last - channel), self.runs, self.length, lines, band.pixel,
                                         filters + channel * self.depth * item,
                                         origin + ((row * width + begin) * self.conv.k + channel) * item, self.conv.k, &epilogue)
                    channel += columns
            row += step_rows

    cdef void fill_lines(self, const Band *band, ptrdiff_t row, ptrdiff_t column, const void **lines) noexcept nogil:
        """NHWC: lines[run] is where that run of the window at a pixel of the block lies."""
        cdef ptrdiff_t item = self.conv.itemsize, r, s, across = self.runs // self.conv.r
        cdef const char *start = band.data + (row * band.step + column * band.pixel) * item
        for r in range(self.conv.r):
            for s in range(across):
                lines[r * across + s] = start + (r * band.tap + s * self.conv.dilation_w * band.phase) * item

    cdef void multiply_nchw(self, const Call *call, const Block *block, const Band *band, ptrdiff_t group, ptrdiff_t column_first,
                            ptrdiff_t column_last, char *gathered, ptrdiff_t *offsets) noexcept nogil:
        """Gather some panels of the block's pixels at a time, and multiply the group's filters with each."""
        cdef ptrdiff_t c, r, s, reach, begin = 0, end, panel, pixels = block.rows * block.width
        cdef ptrdiff_t *tap = offsets
        for c in range(self.conv.group_c):
            for r in range(self.conv.r):
                for s in range(self.conv.s):
                    reach = s * self.conv.dilation_w
                    tap[0] = c * band.channel + r * band.tap + reach // self.conv.stride_w
                    if self.conv.stride_w > 1:
                        tap[0] += reach % self.conv.stride_w * band.phase
                    tap += 1
        while begin < pixels:
            end = min(begin + self.panel_count * self.nr, pixels)
            panel = begin
            while panel < end:
                self.gather_panel(block, band, panel, min(panel + self.nr, pixels), offsets,
                                  gathered + (panel - begin) // self.nr * self.panel_bytes)
                panel += self.nr
            self.multiply_panels(call, block, group, column_first, column_last, begin, end, gathered)
            begin = end

    cdef void gather_panel(self, const Block *block, const Band *band, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t *offsets,
                           char *panel) noexcept nogil:
        """NCHW: the windows of the block's pixels `begin` to `end` as columns of a panel."""
        cdef ptrdiff_t *run = offsets + self.depth
        cdef ptrdiff_t *length = run + self.nr
        cdef ptrdiff_t runs = 0, first = begin, width
        while first < end:
            width = min(end - first, block.width - first % block.width)
            run[runs] = first // block.width * band.step + first % block.width
            length[runs] = width
            runs += 1
            first += width
        self.kernels.gather(self.depth, offsets, runs, run, length, band.data, panel, whole(end - begin, self.kernels.vl))

    cdef void multiply_panels(self, const Call *call, const Block *block, ptrdiff_t group, ptrdiff_t column_first, ptrdiff_t column_last,
                              ptrdiff_t first, ptrdiff_t last, const char *gathered) noexcept nogil:
        """NCHW: tiles of the group's filters, rows at equal distances as windows are, times panels of the block's pixels."""
        cdef ptrdiff_t item = self.conv.itemsize, plane = self.conv.oh * self.conv.ow
        cdef ptrdiff_t begin = column_first * self.conv.group_k // self.columns, end = column_last * self.conv.group_k // self.columns
        cdef ptrdiff_t channel = group * self.conv.group_k + begin
        cdef const void *filters = <const char *>self.packed.data + channel * self.pitch * item
        cdef Epilogue epilogue = call.epilogue[0]
        epilogue.bias = NULL
        if call.epilogue.bias != NULL:
            epilogue.row_bias = <const char *>call.epilogue.bias + channel * item
        self.kernels.windows(
            self.nv, 1, 0, end - begin, last - first, 1, self.depth, &filters, self.pitch, gathered,
            call.out + ((block.image * self.conv.k + channel) * plane + block.row * self.conv.ow + block.column + first) * item,
            plane, &epilogue)


cdef void spread(const char *source, ptrdiff_t count, char *to, ptrdiff_t step, ptrdiff_t item) noexcept nogil:
    """to[i * step] = source[i], in elements of `item` bytes."""
    cdef ptrdiff_t i
    if item == 4:
        for i in range(count):
            (<uint32_t *>to)[i * step] = (<const uint32_t *>source)[i]
    else:
        for i in range(count):
            (<uint64_t *>to)[i * step] = (<const uint64_t *>source)[i]
