"""Serving NCHW arrays with an algorithm that only knows NHWC: transpose in, convolve, transpose out.

Both transposed tensors live in the workspace, so this costs memory for one input and one output and a pass over each;
an algorithm that reads NCHW itself does not need it.
"""

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.parallel cimport share_begin

cdef enum Phase:
    INTO_NHWC
    OUT_OF_NHWC

# Pixels transposed at a time: enough for whole cache lines on both sides.
cdef enum:
    STRIP = 256


cdef class LayoutChange(Convolver):
    """A Convolver for `shape` in NCHW around `inner`, one for the same shape in NHWC."""

    cdef Convolver inner

    def __init__(self, shape, dict params, Convolver inner not None):
        self.inner = inner

    cdef size_t packed_size(self) noexcept nogil:
        return self.inner.packed_size()

    cdef size_t input_size(self) noexcept nogil:
        return cache_lines(self.conv.n * self.conv.h * self.conv.w * self.conv.c * self.conv.itemsize)

    cdef size_t output_size(self) noexcept nogil:
        return cache_lines(self.conv.n * self.conv.oh * self.conv.ow * self.conv.k * self.conv.itemsize)

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return self.input_size() + self.output_size() + self.inner.workspace_size(threads)

    cdef int allocate(self) except -1:
        return self.inner.allocate()

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        self.inner.pack(filters, threads)

    cdef void borrow(self, const void *filters, int threads) noexcept nogil:
        self.inner.borrow(filters, threads)

    cdef void run(self, const Call *call) noexcept nogil:
        cdef Call within = call[0]
        within.x = call.workspace
        within.out = call.workspace + self.input_size()
        within.workspace = within.out + self.output_size()
        self.fork_join(call, INTO_NHWC, call.threads)
        self.inner.run(&within)
        self.fork_join(call, OUT_OF_NHWC, call.threads)

    cdef void share(self, const Call *call, int phase, int part, int parts) noexcept nogil:
        cdef ptrdiff_t channels = self.conv.c if phase == INTO_NHWC else self.conv.k
        cdef ptrdiff_t pixels = self.conv.h * self.conv.w if phase == INTO_NHWC else self.conv.oh * self.conv.ow
        cdef ptrdiff_t strips = (pixels + STRIP - 1) // STRIP, item = self.conv.itemsize
        cdef ptrdiff_t strip, first, count, image
        for strip in range(share_begin(self.conv.n * strips, part, parts), share_begin(self.conv.n * strips, part + 1, parts)):
            first = strip % strips * STRIP
            count = min(<ptrdiff_t>STRIP, pixels - first)
            image = strip // strips * pixels * channels * item
            if phase == INTO_NHWC:
                self.kernels.transpose(channels, count, call.x + image + first * item, pixels,
                                       call.workspace + image + first * channels * item, channels)
            else:
                self.kernels.transpose(count, channels, call.workspace + self.input_size() + image + first * channels * item, channels,
                                       call.out + image + first * item, pixels)


cdef inline size_t cache_lines(size_t nbytes) noexcept nogil:
    return (nbytes + 63) // 64 * 64
