"""Depthwise convolution whose lanes are neighbours in a line of input, in either layout.

In NCHW a line is a row of one channel. In NHWC it is a row of pixels, channels interleaved: the neighbour on the right
lies as many values further as there are channels, and each lane has the weights of its channel. No lane is idle then
where channels are few, as in pictures, or fill vectors badly.

A unit of work is a strip of output rows of one plane, a channel or an interleaved image. The input under it is copied,
with the padding around it, to a band that stays in the caches; with stride s to s bands, of every s-th column each, so
that the bodies find neighbours side by side. Every filter of the plane then runs over it (see kernels/planes-inl.h).
"""

import math

from libc.string cimport memcpy

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.panels cimport whole
from convopt.algorithms.shares cimport Share, next_run, share_begin
from convopt.kernels.registry cimport CONVOPT_LINE_BYTES as CACHE_LINE, CONVOPT_PLANE_OVER, Plane


# Half of the smallest L1 in use, beside the output: bytes of a strip's bands.
BAND_BYTES = 1 << 14
# Half of the smallest L2, for lines so long that L1 would hold few rows; but no more output rows than this: with them
# little of the input is copied twice.
FAR_BAND_BYTES = 1 << 18
FAR_ROWS = 16

#: Bytes of one output row's band beyond which copying makes no sense: only absurd padding or dilation needs so much.
BAND_LIMIT = 1 << 28


def why_not(shape):
    """The reason planes cannot serve a depthwise shape: one output row needs a band larger than BAND_LIMIT."""
    needed = shape.extent[0] * shape.strides[1] * _pitch(shape) * shape.itemsize
    if needed > BAND_LIMIT:
        return f"the padded input of one output row has {needed} bytes; depthwise copies at most {BAND_LIMIT} in {shape.data_format}"
    return None


def _interleaved(shape):
    """Channels of a line."""
    return shape.c if shape.data_format == "NHWC" else 1


def _pitch(shape):
    """Values of a line of the bands."""
    last_column = max(shape.ow - 1, 0) + (shape.s - 1) * shape.dilations[1] // shape.strides[1]
    return (last_column + 1) * _interleaved(shape)


cdef class Implementation(Convolver):
    """The Convolver of depthwise for NCHW, and for NHWC where each channel has one filter."""

    cdef ptrdiff_t channels, period         # interleaved in a line; vectors after which they return to the same lanes
    cdef ptrdiff_t planes, filters          # channels or images; filters of each of them
    cdef ptrdiff_t pitch, extent            # values of a line of a band; input rows under one output row
    cdef ptrdiff_t bands, band_bytes
    cdef ptrdiff_t strips, high             # strips of a plane; output rows of the highest
    cdef ptrdiff_t batch                    # strips whose bands are filled before the first of them is used
    cdef ptrdiff_t taps
    cdef Buffer columns                     # where in the bands a column of taps begins

    def __init__(self, shape, dict params):
        self.channels = _interleaved(shape)
        self.period = self.channels // math.gcd(self.channels, self.kernels.vl)
        self.planes, self.filters = shape.n * shape.c // self.channels, 1 if self.channels > 1 else shape.group_k
        self.pitch, self.extent, self.taps = _pitch(shape), shape.extent[0], shape.r * shape.s
        self.bands = 1 if shape.s == 1 else shape.strides[1]
        self.strips = max(1, -(-shape.oh // self.rows_for(shape)))
        self.high = -(-shape.oh // self.strips)
        values = ((self.high - 1) * shape.strides[0] + self.extent) * self.pitch + CONVOPT_PLANE_OVER * self.kernels.vl
        self.band_bytes = whole(values * shape.itemsize, CACHE_LINE)
        # Loads wait long for values just stored in parts, as the bands of small planes are: a batch lies between the two.
        self.batch = max(1, BAND_BYTES // (self.bands * self.band_bytes))
        self.columns = Buffer(shape.s * sizeof(ptrdiff_t))
        for s in range(shape.s):
            column, band = divmod(s * shape.dilations[1], shape.strides[1])
            (<ptrdiff_t *>self.columns.data)[s] = column * self.channels + band * self.band_bytes // shape.itemsize

    def rows_for(self, shape):
        """Output rows of a strip, at most."""
        row_bytes = self.bands * self.pitch * shape.itemsize
        near, far = ((size // row_bytes - self.extent) // shape.strides[0] + 1 for size in (BAND_BYTES, FAR_BAND_BYTES))
        return max(1, near, min(far, FAR_ROWS))

    cdef size_t packed_size(self) noexcept nogil:
        if self.channels > 1:
            return self.period * self.taps * self.kernels.vl * self.conv.itemsize
        return self.conv.k * self.taps * self.conv.itemsize

    cdef size_t line_size(self) noexcept nogil:
        """Of a bias for each lane of a period."""
        return whole(self.period * self.kernels.vl * self.conv.itemsize, CACHE_LINE) if self.channels > 1 else 0

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * self.share_size()

    cdef size_t share_size(self) noexcept nogil:
        """Of one thread."""
        return self.batch * self.bands * self.band_bytes + self.line_size()

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """[output channel][tap], or [vector of a period][tap][lane]"""
        cdef ptrdiff_t vectors = self.kernels.vl * self.conv.itemsize, phase, tap
        cdef char *to = <char *>self.packed.data
        if self.channels == 1:
            self.kernels.transpose(self.taps, self.conv.k, filters, self.conv.k, self.packed.data, self.taps)
            return
        for phase in range(self.period):
            for tap in range(self.taps):
                self.interleave(<const char *>filters + tap * self.conv.k * self.conv.itemsize, phase, to)
                to += vectors

    cdef void interleave(self, const char *values, ptrdiff_t phase, char *to) noexcept nogil:
        """Of a value for each channel, a vector of those that its lanes have."""
        cdef ptrdiff_t item = self.conv.itemsize, lane
        for lane in range(self.kernels.vl):
            memcpy(to + lane * item, values + (phase * self.kernels.vl + lane) % self.channels * item, item)

    cdef void run(self, const Call *call) noexcept nogil:
        self.fork_join(call, 0, call.threads, 1, self.planes * self.strips, self.batch)

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        """Strips, plane after plane; small ones in batches."""
        cdef ptrdiff_t unit, index, count, size = self.bands * self.band_bytes
        cdef char *memory = call.workspace + share.part * self.share_size()
        cdef Plane plane
        self.begin(call, memory + self.batch * size, &plane)
        while next_run(share):
            unit = share.first
            while unit < share.last:
                count = min(self.batch, share.last - unit)
                for index in range(count):
                    self.fill_bands(call.x, unit + index, memory + index * size)
                for index in range(count):
                    plane.band = memory + index * size
                    self.run_strip(call, unit + index, &plane)
                unit += count

    cdef void begin(self, const Call *call, char *bias, Plane *plane) noexcept nogil:
        """What all strips have in common."""
        cdef ptrdiff_t vector
        plane.taps_h, plane.taps_w, plane.period, plane.lanes = self.conv.r, self.conv.s, self.period, self.channels > 1
        plane.row, plane.tap_row = self.conv.stride_h * self.pitch, self.conv.dilation_h * self.pitch
        plane.columns = <const ptrdiff_t *>self.columns.data
        plane.out_row = plane.width = self.conv.ow * self.channels
        plane.epilogue, plane.bias, plane.weights = call.epilogue, NULL, self.packed.data
        if self.channels > 1 and call.epilogue.bias != NULL:
            plane.bias = bias
            for vector in range(self.period):
                self.interleave(<const char *>call.epilogue.bias, vector, bias + vector * self.kernels.vl * self.conv.itemsize)

    cdef ptrdiff_t row_of(self, ptrdiff_t strip) noexcept nogil:
        """First output row of a strip."""
        if self.strips == 1:    # spares a division, which small planes feel
            return strip * self.conv.oh
        return share_begin(self.conv.oh, <int>strip, <int>self.strips)

    cdef void run_strip(self, const Call *call, ptrdiff_t unit, Plane *plane) noexcept nogil:
        """The output rows of a unit, of all filters of its plane."""
        cdef ptrdiff_t item = self.conv.itemsize, index = unit // self.strips, strip = unit - index * self.strips, k
        cdef ptrdiff_t row = self.row_of(strip)
        plane.rows = self.row_of(strip + 1) - row
        for index in range(index * self.filters, (index + 1) * self.filters):
            if self.channels == 1:
                k = index % self.conv.k
                plane.weights = <const char *>self.packed.data + k * self.taps * item
                if call.epilogue.bias != NULL:
                    plane.bias = <const char *>call.epilogue.bias + k * item
            plane.out = call.out + (index * self.conv.oh + row) * plane.out_row * item
            self.kernels.depthwise_plane(plane)

    cdef void fill_bands(self, const char *x, ptrdiff_t unit, char *to) noexcept nogil:
        """The padded input under a unit, columns sorted by their remainder modulo the stride."""
        cdef ptrdiff_t item = self.conv.itemsize, row = self.row_of(unit % self.strips), line = self.conv.w * self.channels
        cdef ptrdiff_t high = (self.row_of(unit % self.strips + 1) - row - 1) * self.conv.stride_h + self.extent
        cdef ptrdiff_t y = row * self.conv.stride_h - self.conv.pad_top
        cdef ptrdiff_t first = min(max(<ptrdiff_t>0, -y), high), last = max(first, min(high, self.conv.h - y))
        cdef const char *source = x + (unit // self.strips * self.conv.h + y + first) * line * item
        cdef ptrdiff_t[3] counts = [first, last - first, high - last]
        cdef ptrdiff_t stride = self.conv.stride_w, band, left, column, columns
        for band in range(self.bands):
            left = max(<ptrdiff_t>0, (self.conv.pad_left - band + stride - 1) // stride)
            column = band + left * stride - self.conv.pad_left    # of x, the first of the band
            columns = max(<ptrdiff_t>0, (self.conv.w - column + stride - 1) // stride)
            left = min(left * self.channels, self.pitch)
            columns = min(columns * self.channels, self.pitch - left)
            self.kernels.pad(counts, columns, source + column * self.channels * item, line, stride, left, to, self.pitch)
            to += self.band_bytes
