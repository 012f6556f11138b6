"""Winograd convolution of stride s as one of stride 1 of s*s times the channels and an s-th of the taps along each axis.

Output pixel o of an axis is the sum over a of the taps s*a + p, p < s, that act on input pixels s*(o + a) + p: pixel o + a of a
*folded* image, whose channels are those of s pixels of the image, its *phases*. That image is never made. Of a folded pixel, the
phases of one row of the image lie side by side there, s*C elements of it; tiles are transformed from where they lie, once for each
row of phases, in whole vectors: those past the s*C elements are overwritten by the next row's, and never multiplied. Only tiles at a
border, which may cut a folded pixel in two, are copied.

For few channels: the first layers of networks (7x7 of stride 2, 11x11 of stride 4) have a fifth to a quarter of direct's products.
"""

from convopt.algorithms.winograd_tiles import phases

from libc.string cimport memcpy, memset

from convopt.algorithms.contract cimport Call
from convopt.algorithms.winograd_blocks cimport Blocks
from convopt.kernels.registry cimport CONVOPT_LINE_BYTES as CACHE_LINE, WinogradTile


cdef class FoldedBlocks(Blocks):
    """The Convolver of folded strides; there are no groups and no dilations."""

    cdef ptrdiff_t phases_h, phases_w
    cdef ptrdiff_t run                # elements of a folded pixel that lie side by side in the image,
    cdef ptrdiff_t run_lanes          # and the vectors read of them

    def __init__(self, shape, dict params):
        super().__init__(shape, params)
        self.phases_h, self.phases_w = phases(shape)
        self.run = self.phases_w * self.conv.c
        self.run_lanes = (self.run + self.kernels.vl - 1) // self.kernels.vl * self.kernels.vl
        self.step_h = self.step_w = 1
        self.pixels_h = (self.h.inputs - 1) * self.conv.stride_h + self.phases_h
        self.pixels_w = (self.w.inputs - 1) * self.conv.stride_w + self.phases_w

    cdef size_t packed_size(self) noexcept nogil:
        """Transformed filters, and behind them the folded ones that they are made of."""
        return Blocks.packed_size(self) + self.folded_size()

    cdef size_t folded_size(self) noexcept nogil:
        return self.h.taps * self.w.taps * self.depth * self.conv.k * self.conv.itemsize

    cdef const char *taps(self, const void *filters) noexcept nogil:
        """Tap (a, b) of channel c of phase (p, q) is tap (a*stride_h + p, b*stride_w + q) of channel c, 0 where there is none."""
        cdef char *folded = <char *>self.packed.data + Blocks.packed_size(self)
        cdef ptrdiff_t tap = self.conv.c * self.conv.k * self.conv.itemsize, r, s, a, b, phase
        memset(folded, 0, self.folded_size())
        for r in range(self.conv.r):
            for s in range(self.conv.s):
                a, b = r // self.conv.stride_h, s // self.conv.stride_w
                phase = r % self.conv.stride_h * self.phases_w + s % self.conv.stride_w
                memcpy(folded + ((a * self.w.taps + b) * self.phases_h * self.phases_w + phase) * tap,
                       <const char *>filters + (r * self.conv.s + s) * tap, tap)
        return folded

    cdef size_t border_size(self) noexcept nogil:
        """Bytes of a tile of the image."""
        return ((self.pixels_h * self.pixels_w * self.conv.c + self.kernels.vl) * self.conv.itemsize + CACHE_LINE - 1) \
            // CACHE_LINE * CACHE_LINE

    cdef size_t part_size(self) noexcept nogil:
        return Blocks.part_size(self) + self.border_size()

    cdef void transform(self, const Call *call, ptrdiff_t group, ptrdiff_t size, const WinogradTile *tile, char *v) noexcept nogil:
        """Tile by tile, and each once for every row of phases."""
        cdef ptrdiff_t item = self.conv.itemsize, pitch, _i, phase
        # The last vector that is read of a tile ends so many elements after its beginning.
        cdef ptrdiff_t reach = ((self.pixels_h - 1) * self.conv.w + (self.w.inputs - 1) * self.conv.stride_w) * self.conv.c + self.run_lanes
        cdef ptrdiff_t elements = self.conv.n * self.conv.h * self.conv.w * self.conv.c
        cdef char *border = v + self.blocks_size()
        cdef const char *source
        cdef WinogradTile whole
        whole.input = whole.output = whole.row_first = whole.column_first = whole.rows = whole.columns = 0
        whole.row_end, whole.column_end = self.h.inputs, self.w.inputs
        for _i in range(size):
            if tile.row_first == 0 and tile.row_end == self.pixels_h and tile.column_first == 0 and tile.column_end == self.pixels_w \
                    and tile.input + reach <= elements:
                source, pitch = call.x + tile.input * item, self.conv.w * self.conv.c
            else:
                self.copy(call.x + tile.input * item, tile, border)
                source, pitch = border, self.pixels_w * self.conv.c
            for phase in range(self.phases_h):
                self.kernels.winograd_input(
                    self.h, self.w, 1, &whole, self.run_lanes, source + phase * pitch * item, self.conv.stride_h * pitch,
                    self.conv.stride_w * self.conv.c, v + phase * self.run * item, self.v_frequency, self.v_tile)
            v += self.v_tile * item
            tile += 1

    cdef void copy(self, const char *x, const WinogradTile *tile, char *to) noexcept nogil:
        """A tile of the image, zero where there is none; x is where its first pixel would be."""
        cdef ptrdiff_t pixel = self.conv.c * self.conv.itemsize, width = self.pixels_w * pixel, row
        memset(to, 0, self.border_size())
        if tile.column_first >= tile.column_end:
            return
        for row in range(tile.row_first, tile.row_end):
            memcpy(to + row * width + tile.column_first * pixel,
                   x + row * self.conv.w * pixel + tile.column_first * pixel, (tile.column_end - tile.column_first) * pixel)
