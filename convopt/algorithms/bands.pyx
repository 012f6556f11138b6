"""What im2col in both layouts stands on: the cut into blocks of output pixels, and the input under each of them.

A block is some output rows of one image, or a part of one row. Its input, with the padding around it, is the *band*:
a copy in the workspace, or the input itself where the block touches no padding. In NCHW the band keeps columns that are a
stride apart together, so that neighbouring outputs read neighbouring elements.
"""

from libc.string cimport memcpy, memset

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.panels cimport whole
from convopt.algorithms.shares cimport Share, grid_rows, next_run, share_begin
from convopt.kernels.registry cimport CONVOPT_GATHER_SLACK, CONVOPT_LINE_BYTES as CACHE_LINE

cdef enum:
    RUNS = 4    # of a thread in a block, or in its share of a smaller image, at most


cdef class Banded(Convolver):
    """Blocks and bands; how a band is multiplied by filters is the subclass's."""

    def __init__(self, shape, dict params):
        self.nv = params["nv"]
        self.nr = self.nv * self.kernels.vl
        self.mr = self.kernels.mr[self.nv]
        self.depth = self.conv.r * self.conv.s * self.conv.group_c

    cdef void cut(self, ptrdiff_t most) noexcept nogil:
        """Blocks of about `most` output pixels."""
        cdef ptrdiff_t ow = max(<ptrdiff_t>1, self.conv.ow), extent_h = (self.conv.r - 1) * self.conv.dilation_h + 1
        self.segments = (ow + most - 1) // most
        self.block_rows = 1 if self.segments > 1 else min(max(<ptrdiff_t>1, self.conv.oh), most // ow)
        self.band_width = ((ow + self.segments - 1) // self.segments - 1) * self.conv.stride_w
        self.band_width += (self.conv.s - 1) * self.conv.dilation_w + 1
        self.every_row = self.block_rows * self.conv.r < (self.block_rows - 1) * self.conv.stride_h + extent_h
        self.band_rows = self.block_rows * self.conv.r if self.every_row else (self.block_rows - 1) * self.conv.stride_h + extent_h

    cdef size_t band_size(self) noexcept nogil:
        return whole(self.band_rows * self.band_columns() * self.conv.group_c * self.conv.itemsize + CONVOPT_GATHER_SLACK, CACHE_LINE)

    cdef ptrdiff_t band_columns(self) noexcept nogil:
        """Pixels of a row that is copied."""
        return self.band_width

    cdef size_t part_size(self) noexcept nogil:
        """Bytes that one thread needs besides the band."""
        return 0

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * (self.band_size() + self.part_size())

    cdef ptrdiff_t units(self) noexcept nogil:
        """Output rows, or segments of them."""
        return self.conv.n * self.conv.oh * self.segments

    cdef void run(self, const Call *call) noexcept nogil:
        """Threads share the output rows, and where those are few the filters as well."""
        cdef int rows = grid_rows(call.threads, self.units(), self.columns)
        cdef ptrdiff_t block = min(self.block_rows, (self.units() + rows - 1) // rows)
        self.fork_join(call, 0, rows, <int>min(<ptrdiff_t>(call.threads // rows), self.columns), self.units(), (block + RUNS - 1) // RUNS)

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        """Output rows, or segments of them, block by block."""
        cdef char *memory = call.workspace + share.part * (self.band_size() + self.part_size())
        cdef ptrdiff_t unit, group
        cdef Block block
        cdef Band band
        if self.segments == 1 and not self.conv.nchw:
            self.clear_margins(memory)
        while next_run(share):
            unit = share.first
            while unit < share.last:
                block = self.block_at(unit, share.last)
                unit += block.rows
                for group in range(self.conv.groups):
                    band = self.band_of(call.x, &block, group, memory)
                    self.multiply(call, &block, &band, group, share_begin(self.columns, share.column, share.columns),
                                  share_begin(self.columns, share.column + 1, share.columns), memory + self.band_size())

    cdef void multiply(self, const Call *call, const Block *block, const Band *band, ptrdiff_t group, ptrdiff_t column_first,
                       ptrdiff_t column_last, char *memory) noexcept nogil:
        """The block's pixels times columns column_first to column_last of the group's filters; memory: part_size() bytes."""

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
        """Copy the group's channels of the block's input, padding included, to `memory`; here of NHWC."""
        cdef ptrdiff_t item = self.conv.itemsize, index, y, x0 = block.column * self.conv.stride_w - self.conv.pad_left
        cdef ptrdiff_t group_c = self.conv.group_c
        band.phase, band.pixel, band.row, band.channel = group_c, self.conv.stride_w * group_c, self.band_width * group_c, 1
        self.place(band, memory)
        for index in range(self.rows_of(block)):
            y = self.row_at(block, index)
            if y < 0 or y >= self.conv.h:
                memset(memory + index * band.row * item, 0, band.row * item)
            else:
                self.copy_row(x + ((block.image * self.conv.h + y) * self.conv.w * self.conv.c + group * group_c) * item,
                              x0, memory + index * band.row * item)

    cdef void place(self, Band *band, const char *memory) noexcept nogil:
        """A copied band's data, and distances that follow from the one from a row to the next."""
        band.data = memory
        band.step, band.tap = self.conv.stride_h * band.row, self.conv.dilation_h * band.row
        if self.every_row:
            band.step, band.tap = self.conv.r * band.row, band.row

    cdef ptrdiff_t rows_of(self, const Block *block) noexcept nogil:
        """Input rows that the copied band of a block has."""
        if self.every_row:
            return block.rows * self.conv.r
        return (block.rows - 1) * self.conv.stride_h + (self.conv.r - 1) * self.conv.dilation_h + 1

    cdef ptrdiff_t row_at(self, const Block *block, ptrdiff_t index) noexcept nogil:
        """The input row, of which there may be none, that such a row is a copy of."""
        cdef ptrdiff_t first = block.row * self.conv.stride_h - self.conv.pad_top
        if self.every_row:
            return first + index // self.conv.r * self.conv.stride_h + index % self.conv.r * self.conv.dilation_h
        return first + index

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

    cdef void copy_row(self, const char *source, ptrdiff_t x0, char *to) noexcept nogil:
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
