"""Depthwise convolution of NCHW arrays: lanes are pixels of a row, and nothing changes its layout.

A unit of work is a strip of output rows of one input channel. The input under it is copied, with the padding around
it, to a band that stays in L1; every filter of the channel then runs over that band (see kernels/planes-inl.h).
"""

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.panels cimport whole
from convopt.algorithms.parallel cimport share_begin
from convopt.kernels.registry cimport CONVOPT_PLANE_OVER, Plane

cdef enum:
    BAND_BYTES = 1 << 14    # half of the smallest L1 in use, beside the output
    CACHE_LINE = 64

#: Bytes of one output row's band beyond which copying makes no sense: only absurd padding or dilation needs so much.
BAND_LIMIT = 1 << 28


def why_not(shape):
    """The reason planes cannot serve a depthwise shape in NCHW: one output row needs a band larger than BAND_LIMIT."""
    needed = shape.extent[0] * _pitch(shape) * shape.itemsize
    if needed > BAND_LIMIT:
        return f"the padded input of one output row has {needed} bytes; depthwise copies at most {BAND_LIMIT} in NCHW"
    return None


def _pitch(shape):
    """Columns of the padded input that one output row reads."""
    return max(shape.ow - 1, 0) * shape.strides[1] + shape.extent[1]


cdef class Implementation(Convolver):
    """The Convolver of depthwise for NCHW."""

    cdef ptrdiff_t pitch, extent    # columns of the band; input rows under one output row
    cdef ptrdiff_t strips, high     # strips of a plane; output rows of the highest
    cdef ptrdiff_t taps

    def __init__(self, shape, dict params):
        self.pitch, self.extent = _pitch(shape), shape.extent[0]
        self.taps = shape.r * shape.s
        rows = max(BAND_BYTES // (self.pitch * shape.itemsize), self.extent)
        self.strips = max(1, -(-shape.oh // ((rows - self.extent) // shape.strides[0] + 1)))
        self.high = -(-shape.oh // self.strips)

    cdef size_t packed_size(self) noexcept nogil:
        return self.conv.k * self.taps * self.conv.itemsize

    cdef size_t band_size(self) noexcept nogil:
        cdef ptrdiff_t rows = (self.high - 1) * self.conv.stride_h + self.extent
        cdef ptrdiff_t over = CONVOPT_PLANE_OVER * self.conv.stride_w * self.kernels.vl
        return whole((rows * self.pitch + over) * self.conv.itemsize, CACHE_LINE)

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * self.band_size()

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """[output channel][tap]"""
        self.kernels.transpose(self.taps, self.conv.k, filters, self.conv.k, self.packed.data, self.taps)

    cdef void share(self, const Call *call, int phase, int part, int parts) noexcept nogil:
        """Strips, plane after plane."""
        cdef ptrdiff_t units = self.conv.n * self.conv.c * self.strips, unit
        cdef char *band = call.workspace + part * self.band_size()
        for unit in range(share_begin(units, part, parts), share_begin(units, part + 1, parts)):
            self.fill_band(call.x, unit, band)
            self.run_strip(call, unit, band)

    cdef ptrdiff_t row_of(self, ptrdiff_t strip) noexcept nogil:
        """First output row of a strip."""
        if self.strips == 1:    # spares a division, which small planes feel
            return strip * self.conv.oh
        return share_begin(self.conv.oh, <int>strip, <int>self.strips)

    cdef void run_strip(self, const Call *call, ptrdiff_t unit, const char *band) noexcept nogil:
        """The output rows of a unit, of all filters of its channel."""
        cdef ptrdiff_t item = self.conv.itemsize, channel = unit // self.strips, index, k
        cdef ptrdiff_t row = self.row_of(unit % self.strips)
        cdef Plane plane
        plane.taps_h, plane.taps_w = self.conv.r, self.conv.s
        plane.stride_h, plane.stride_w = self.conv.stride_h, self.conv.stride_w
        plane.dilation_h, plane.dilation_w = self.conv.dilation_h, self.conv.dilation_w
        plane.band, plane.pitch = band, self.pitch
        plane.out_row, plane.rows, plane.width = self.conv.ow, self.row_of(unit % self.strips + 1) - row, self.conv.ow
        plane.epilogue = call.epilogue
        plane.bias = NULL
        for index in range(channel * self.conv.group_k, (channel + 1) * self.conv.group_k):
            k = index % self.conv.k
            plane.weights = <const char *>self.packed.data + k * self.taps * item
            if call.epilogue.bias != NULL:
                plane.bias = <const char *>call.epilogue.bias + k * item
            plane.out = call.out + (index * self.conv.oh + row) * self.conv.ow * item
            self.kernels.depthwise_plane(&plane)

    cdef void fill_band(self, const char *x, ptrdiff_t unit, char *band) noexcept nogil:
        """The padded input under a unit."""
        cdef ptrdiff_t item = self.conv.itemsize, row = self.row_of(unit % self.strips)
        cdef ptrdiff_t high = (self.row_of(unit % self.strips + 1) - row - 1) * self.conv.stride_h + self.extent
        cdef const char *source = x + unit // self.strips * self.conv.h * self.conv.w * item
        cdef ptrdiff_t y = row * self.conv.stride_h - self.conv.pad_top
        cdef ptrdiff_t first = min(max(<ptrdiff_t>0, -y), high), last = max(first, min(high, self.conv.h - y))
        cdef ptrdiff_t left = min(self.conv.pad_left, self.pitch), columns = min(self.conv.w, self.pitch - left)
        cdef ptrdiff_t[3] counts = [first, last - first, high - last]
        self.kernels.pad(counts, columns, source + (y + first) * self.conv.w * item, self.conv.w, left, band, self.pitch)
