"""Depthwise convolution: each input channel has filters of its own, so there is no product of matrices to make.

Lanes are output channels. Several output rows and pixels of one vector of channels are computed together, so that an
input vector, once in a register, feeds all of them (see kernels/depthwise-inl.h); rows of padding are a row of zeros,
and only the outermost columns and the last channels take the careful road.

Where a channel has several filters (multiplier = K/C > 1), the input rows of a strip are first spread out in the
workspace, each element as often as it has filters, and the strip then runs as if it had K channels.
"""

from convopt.algorithms import panels
from convopt.algorithms.contract import Work

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.panels cimport whole
from convopt.algorithms.parallel cimport share_begin
from convopt.kernels.registry cimport CONVOPT_STRIP_REACH, Depthwise, Strip

NAME = "depthwise"
REVISION = 2
LAYOUTS = ("NHWC",)
SPREADS_NONFINITE = False

cdef enum:
    CACHE_LINE = 64
    MAX_LANES = 16  # elements of the widest vector


def why_not(shape):
    """The reason depthwise cannot serve a shape: a group has several input channels."""
    if shape.group_c != 1:
        return f"each group has {shape.group_c} input channels; depthwise needs exactly 1"
    return None


def candidates(shape):
    """There is one way to do it."""
    return [{}]


def expected_error(shape, params):
    """Rounding of a sum in order grows as the square root of its length."""
    return (2e-8 if shape.dtype == "float32" else 4e-17) * (9 + shape.depth) ** 0.5


def work(shape, params, threads):
    """Multiply-adds on vectors, without the reuse a GEMM has; a multiplier adds spreading the input out."""
    vl, _ = panels.tiles(shape)
    padded_k = -(-shape.k // vl) * vl
    pixels = shape.n * shape.oh * shape.ow
    inputs = shape.n * shape.h * shape.w
    special = (shape.r, shape.s) in ((3, 3), (5, 5), (7, 7)) and shape.dilations == (1, 1) and shape.strides in ((1, 1), (2, 2))
    # Strips overlap, so a row is spread out about once per tap row.
    spread = 0 if shape.k == shape.c else inputs * padded_k * max(1, shape.r // shape.strides[0])
    return Work(
        gemm_flops=2.0 * pixels * padded_k * shape.depth,
        gemm_efficiency=0.6 if special else 0.4,
        vector_flops=2.0 * spread * vl,
        moved_bytes=shape.itemsize * (inputs * shape.c + pixels * shape.k + 2.0 * spread),
        parts=max(1, shape.n * shape.oh * padded_k // vl // 4),
    )


cdef class Implementation(Convolver):
    cdef Depthwise *kernel
    cdef int rows, columns               # output pixels computed together
    cdef ptrdiff_t vl, blocks, strips    # channels of a vector, vectors of channels, strips of an image
    cdef ptrdiff_t input_rows            # under a strip
    cdef ptrdiff_t multiplier
    cdef Buffer zeros

    def __init__(self, shape, dict params):
        cdef bint dilated = self.conv.dilation_h > 1 or self.conv.dilation_w > 1
        self.kernel = self.kernels.depthwise(
            self.conv.r, self.conv.s, self.conv.stride_h, self.conv.stride_w, dilated, &self.rows, &self.columns)
        self.vl = self.kernels.vl
        self.blocks = (self.conv.k + self.vl - 1) // self.vl
        self.strips = (self.conv.oh + self.rows - 1) // self.rows
        # A strip of several rows has neighbouring taps in neighbouring rows.
        self.input_rows = (self.rows - 1) * self.conv.stride_h + self.conv.r
        self.multiplier = self.conv.group_k
        pitch = shape.c if self.multiplier == 1 else self.vl
        self.zeros = Buffer((CONVOPT_STRIP_REACH * pitch + self.vl) * shape.itemsize)
        self.zeros.fill(0)

    cdef size_t packed_size(self) noexcept nogil:
        return self.blocks * self.conv.r * self.conv.s * self.vl * self.conv.itemsize

    cdef size_t spread_size(self) noexcept nogil:
        return self.input_rows * self.conv.w * self.vl * self.conv.itemsize if self.multiplier > 1 else 0

    cdef size_t pointers_size(self) noexcept nogil:
        return whole(self.input_rows * sizeof(void *), CACHE_LINE)

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * (self.pointers_size() + whole(self.spread_size(), CACHE_LINE))

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """[vector of channels][tap][channel], the last vector's padding zero."""
        cdef ptrdiff_t item = self.conv.itemsize, taps = self.conv.r * self.conv.s, block, tap, count
        cdef char *to = <char *>self.packed.data
        for block in range(self.blocks):
            count = min(self.vl, self.conv.k - block * self.vl)
            for tap in range(taps):
                memcpy(to, <const char *>filters + (tap * self.conv.k + block * self.vl) * item, count * item)
                memset(to + count * item, 0, (self.vl - count) * item)
                to += self.vl * item

    cdef void share(self, const Call *call, int phase, int part, int parts) noexcept nogil:
        """Strips, and within a strip vectors of channels, in order: thread `part` has an equal run of them."""
        cdef ptrdiff_t units = self.conv.n * self.strips * self.blocks
        cdef ptrdiff_t unit = share_begin(units, part, parts), last = share_begin(units, part + 1, parts), block, end
        cdef char *memory = call.workspace + part * (self.pointers_size() + whole(self.spread_size(), CACHE_LINE))
        while unit < last:
            block = unit % self.blocks
            end = min(self.blocks, block + last - unit)
            self.run_strip(call, unit // self.blocks, block, end, <const void **>memory, memory + self.pointers_size())
            unit += end - block

    cdef void run_strip(self, const Call *call, ptrdiff_t strip_index, ptrdiff_t begin, ptrdiff_t end, const void **inputs,
                        char *spread) noexcept nogil:
        """Vectors of channels from `begin` to `end` of one strip of output rows."""
        cdef ptrdiff_t item = self.conv.itemsize, image = strip_index // self.strips, i, y, block, first = 0
        cdef ptrdiff_t index = strip_index % self.strips, row = index * self.conv.oh // self.strips
        cdef ptrdiff_t tap_step = self.conv.dilation_h if self.rows == 1 else 1, row_bytes = self.conv.w * self.conv.c * item
        cdef const char *origin = call.x + image * self.conv.h * row_bytes
        cdef char *out = call.out + (image * self.conv.oh + row) * self.conv.ow * self.conv.k * item
        cdef Strip strip
        strip.taps_h, strip.taps_w, strip.stride_w, strip.dilation_w = self.conv.r, self.conv.s, self.conv.stride_w, self.conv.dilation_w
        strip.inputs, strip.zeros = inputs, self.zeros.data
        strip.pitch = self.conv.c if self.multiplier == 1 else self.vl
        strip.column, strip.columns = -self.conv.pad_left, self.conv.w
        strip.out_row, strip.out_pixel = self.conv.ow * self.conv.k, self.conv.k
        strip.rows = <int>((index + 1) * self.conv.oh // self.strips - row)
        strip.epilogue = call.epilogue
        # Short strips: all vectors of channels of a few pixels in turn, so that memory is walked in order. A few more
        # where neighbouring windows share most of their columns, which then come from L1.
        cdef ptrdiff_t short = self.columns if self.conv.stride_w > 1 else 2 * self.columns
        while first < self.conv.ow:
            strip.width = self.conv.ow - first
            if self.multiplier == 1 and strip.width >= short + self.columns:
                strip.width = short
            strip.column = first * self.conv.stride_w - self.conv.pad_left
            for block in range(begin, end):
                for i in range(self.input_rows):
                    y = row * self.conv.stride_h - self.conv.pad_top + i * tap_step
                    if y < 0 or y >= self.conv.h:
                        inputs[i] = strip.zeros
                    elif self.multiplier == 1:
                        inputs[i] = origin + y * row_bytes + block * self.vl * item
                    else:
                        inputs[i] = spread + i * self.conv.w * self.vl * item
                        self.spread_row(origin + y * row_bytes, block, spread + i * self.conv.w * self.vl * item)
                strip.count = <int>min(self.vl, self.conv.k - block * self.vl)
                strip.weights = <const char *>self.packed.data + block * self.conv.r * self.conv.s * self.vl * item
                strip.bias = NULL
                if call.epilogue.bias != NULL:
                    strip.bias = <const char *>call.epilogue.bias + block * self.vl * item
                strip.out = out + (first * self.conv.k + block * self.vl) * item
                self.kernel(&strip)
            first += strip.width

    cdef void spread_row(self, const char *source, ptrdiff_t block, char *to) noexcept nogil:
        """The input row as output channels see it: lane l of a pixel is the input channel of output channel block*vl + l."""
        cdef ptrdiff_t lane, count = min(self.vl, self.conv.k - block * self.vl)
        cdef ptrdiff_t channel[MAX_LANES]
        for lane in range(count):
            channel[lane] = (block * self.vl + lane) // self.multiplier
        for _column in range(self.conv.w):
            if self.conv.itemsize == 4:
                for lane in range(count):
                    (<uint32_t *>to)[lane] = (<const uint32_t *>source)[channel[lane]]
            else:
                for lane in range(count):
                    (<uint64_t *>to)[lane] = (<const uint64_t *>source)[channel[lane]]
            source += self.conv.c * self.conv.itemsize
            to += self.vl * self.conv.itemsize
