"""1x1 convolution of NCHW arrays: filters x pixels is a product of matrices as they lie, channels being its depth.

A block is a run of output pixels of one image. Its input, channel by channel, is copied to the workspace, where rows
lie close together and nothing behind them is out of bounds; with a stride only the pixels in use are copied. The
copy stays in L2 while all filters run over it, a tile of filters at a time, which stays in L1; deep ones in passes.
"""

from libc.math cimport INFINITY

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.panels cimport whole
from convopt.algorithms.shares cimport Share, grid_rows, next_run, share_begin
from convopt.kernels.registry cimport CONVOPT_LINE_BYTES as CACHE_LINE, CONVOPT_MAX_MR, Epilogue

cdef enum:
    BLOCK_BYTES = 3 << 16    # input of a block: well within the smallest L2 in use
    PASS = 256               # channels multiplied at a time: a tile of filters so deep takes a third of the smallest L1
    FEW_UNITS = 8            # blocks that are enough for any number of threads


def why_not(shape):
    """The reason this cannot serve a shape in NCHW: the kernel is larger than 1x1, or there is padding."""
    if (shape.r, shape.s) != (1, 1) or shape.pads != ((0, 0), (0, 0)):
        return "kernel or padding is larger than a pixel"
    return None


cdef class Implementation(Convolver):
    """The Convolver of im2col for 1x1 kernels in NCHW."""

    cdef int nr, mr
    cdef ptrdiff_t pixels, blocks        # of an output plane
    cdef ptrdiff_t depth, pitch          # channels of a pass; from a channel of a block to the next
    cdef ptrdiff_t filter_pitch, tiles   # from a filter to the next; tiles of filters in a group

    def __init__(self, shape, dict params):
        cdef ptrdiff_t item = self.conv.itemsize, most, panels
        self.nr, self.mr = params["nv"] * self.kernels.vl, self.kernels.mr[params["nv"]]
        self.pixels = self.conv.oh * self.conv.ow
        self.tiles = -(-shape.group_k // self.mr)
        passes = -(-shape.group_c // PASS)
        self.depth = -(-shape.group_c // passes)
        panels = (self.pixels + self.nr - 1) // self.nr
        most = max(<ptrdiff_t>1, BLOCK_BYTES // (self.depth * self.nr * item))
        self.blocks = max(<ptrdiff_t>1, (panels + most - 1) // most)
        if self.conv.n * self.blocks < FEW_UNITS:
            self.blocks = max(self.blocks, min(panels // 4, FEW_UNITS // max(<ptrdiff_t>1, self.conv.n)))
        # Rows an odd number of cache lines apart fall into all sets of a cache.
        self.pitch = whole((panels + self.blocks - 1) // self.blocks * self.nr * item, CACHE_LINE) // CACHE_LINE
        self.pitch = (self.pitch + 1 - self.pitch % 2) * CACHE_LINE // item
        self.filter_pitch = whole(shape.group_c * item, CACHE_LINE) // CACHE_LINE
        self.filter_pitch = (self.filter_pitch + 1 - self.filter_pitch % 2) * CACHE_LINE // item

    cdef size_t packed_size(self) noexcept nogil:
        return self.conv.k * self.filter_pitch * self.conv.itemsize

    cdef size_t block_size(self) noexcept nogil:
        return self.depth * self.pitch * self.conv.itemsize

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * self.block_size()

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """[output channel][channel of its group], filter_pitch apart"""
        self.kernels.transpose(self.conv.group_c, self.conv.k, filters, self.conv.k, self.packed.data, self.filter_pitch)

    cdef void run(self, const Call *call) noexcept nogil:
        """Threads share the blocks, and where those are few the filters as well."""
        cdef int rows = grid_rows(call.threads, self.conv.n * self.blocks, self.tiles)
        self.fork_join(call, 0, rows, <int>min(<ptrdiff_t>(call.threads // rows), self.tiles), self.conv.n * self.blocks, 1)

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        """Blocks, image by image."""
        cdef ptrdiff_t unit
        cdef char *block = call.workspace + share.part * self.block_size()
        while next_run(share):
            for unit in range(share.first, share.last):
                self.run_block(call, unit // self.blocks, unit % self.blocks, share_begin(self.tiles, share.column, share.columns),
                               share_begin(self.tiles, share.column + 1, share.columns), block)

    cdef void run_block(self, const Call *call, ptrdiff_t image, ptrdiff_t index, ptrdiff_t tile_first, ptrdiff_t tile_last,
                        char *block) noexcept nogil:
        """Block `index` of an image and tiles tile_first to tile_last of each group's filters."""
        cdef ptrdiff_t panels = (self.pixels + self.nr - 1) // self.nr, group, channel
        cdef ptrdiff_t first = panels * index // self.blocks * self.nr
        cdef ptrdiff_t last = min(panels * (index + 1) // self.blocks * self.nr, self.pixels)
        for group in range(self.conv.groups):
            channel = 0
            while channel < self.conv.group_c:
                self.copy(call.x, image, group * self.conv.group_c + channel, min(self.depth, self.conv.group_c - channel),
                          first, last, block)
                self.multiply(call, image, group, channel, first, last, tile_first, tile_last, block)
                channel += self.depth

    cdef void copy(self, const char *x, ptrdiff_t image, ptrdiff_t channel, ptrdiff_t channels, ptrdiff_t first, ptrdiff_t last,
                   char *to) noexcept nogil:
        """Input under output pixels `first` to `last`, of so many channels from `channel` on."""
        cdef ptrdiff_t item = self.conv.itemsize, plane = self.conv.h * self.conv.w, width = self.conv.ow, row, column, count
        cdef const char *source = x + (image * self.conv.c + channel) * plane * item
        if self.conv.stride_h == 1 and self.conv.stride_w == 1:
            width = self.pixels    # rows follow each other
        while first < last:
            row, column = first // width, first % width
            count = min(width - column, last - first)
            self.kernels.sample(channels, count, source + (row * self.conv.stride_h * self.conv.w + column * self.conv.stride_w) * item,
                                plane, self.conv.stride_w, to, self.pitch)
            first += count
            to += count * item

    cdef void multiply(self, const Call *call, ptrdiff_t image, ptrdiff_t group, ptrdiff_t channel, ptrdiff_t first, ptrdiff_t last,
                       ptrdiff_t tile_first, ptrdiff_t tile_last, const char *block) noexcept nogil:
        """Tiles of the group's filters, from their `channel` on, times the block."""
        cdef ptrdiff_t item = self.conv.itemsize, tile, begin, end, i, k, pixel
        cdef ptrdiff_t depth = min(self.depth, self.conv.group_c - channel)
        cdef const void *rows[CONVOPT_MAX_MR]
        cdef Epilogue epilogue = call.epilogue[0]
        # The first pass brings the bias, the last one the activation.
        epilogue.bias = NULL
        if channel + depth < self.conv.group_c:
            epilogue.lo, epilogue.hi = -INFINITY, INFINITY
        for tile in range(tile_first, tile_last):
            begin, end = tile * self.conv.group_k // self.tiles, (tile + 1) * self.conv.group_k // self.tiles
            k = group * self.conv.group_k + begin
            for i in range(end - begin):
                rows[i] = <const char *>self.packed.data + ((k + i) * self.filter_pitch + channel) * item
            if channel == 0 and call.epilogue.bias != NULL:
                epilogue.row_bias = <const char *>call.epilogue.bias + k * item
            pixel = first
            while pixel < last:
                self.kernels.igemm(<int>(end - begin), <int>min(<ptrdiff_t>self.nr, last - pixel), 1, depth, rows,
                                   block + (pixel - first) * item, self.pitch,
                                   call.out + ((image * self.conv.k + k) * self.pixels + pixel) * item, self.pixels, channel > 0, &epilogue)
                pixel += self.nr
