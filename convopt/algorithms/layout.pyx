"""Serving NCHW arrays with an algorithm that only knows NHWC: transpose in, convolve, transpose out, a part at a time.

A part is a band of output rows of one image, with the input rows under it, or several small images. Both its transposed
tensors lie in the workspace and stay in the caches between the three steps, so that the other layout costs the work of
transposing and no traffic beyond. All parts have one shape, for which the algorithm is prepared once; the last one begins
early enough to be whole, and only what the part before did not compute is kept of it.
"""

from dataclasses import replace

from libc.string cimport memset

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.shares cimport Share, next_run, share_begin

cdef enum:
    # Both tensors of a part, bytes.
    PART_BYTES = 1 << 19
    # A part reads all filters; its tensors are so many times as large at least, so that this costs little.
    TENSORS_OVER_FILTERS = 4
    # Rows of a band over those that the next one transposes again, at least.
    ROWS_OVER_HALO = 4
    # Pixels transposed at a time where threads share a part: enough for whole cache lines on both sides.
    STRIP = 256
    # Pieces that each thread's share of transposing is cut into.
    PIECES = 4

# The part of one phase, or all parts, each by one thread.
cdef enum:
    INTO_NHWC
    OUT_OF_NHWC
    DIRECTIONS
    WHOLE_PARTS = -1

# Rows computed beyond those needed, as a share, that are not worth smaller parts.
MOST_WASTE = 0.05


def part_shape(shape, row_step):
    """The shape in NHWC that an algorithm is to be prepared for, so as to serve `shape`, a NHWC one, part by part.

    row_step: output rows that it computes together, of which a band is a multiple; None: tensors are not divided.
    """
    if row_step is None:
        return shape
    filters = shape.r * shape.s * shape.group_c * shape.k
    budget = max(PART_BYTES, TENSORS_OVER_FILTERS * filters * shape.itemsize)
    image_bytes = max(1, shape.h * shape.w * shape.c + shape.oh * shape.ow * shape.k) * shape.itemsize
    if image_bytes > budget:
        return part_of(shape, 1, _band_rows(shape, row_step, budget))
    parts = -(-shape.n // max(1, budget // image_bytes))
    return part_of(shape, -(-shape.n // max(1, parts)), shape.oh)


def part_of(shape, images, rows):
    """The shape of so many images with so many of their output rows; if not with all of them, padding above and below is input."""
    if rows >= shape.oh:
        return replace(shape, n=images)
    extent = (shape.r - 1) * shape.dilations[0] + 1
    return replace(shape, n=images, h=(rows - 1) * shape.strides[0] + extent, pads=((0, 0), shape.pads[1]))


def _band_rows(shape, row_step, budget):
    """Rows of a band within the budget, or a little more where the halo asks for it; all rows where bands would waste too much."""
    stride = shape.strides[0]
    halo = (shape.r - 1) * shape.dilations[0] + 1 - stride
    row_bytes = (stride * shape.w * shape.c + shape.ow * shape.k) * shape.itemsize
    steps = -(-shape.oh // row_step)
    most = max(budget // row_bytes, -(-ROWS_OVER_HALO * halo // stride)) // row_step
    fewest_computed, best = min((-(-steps // size) * size, -size) for size in range(max(1, most // 2), max(1, most) + 1))
    return -best * row_step if fewest_computed <= (1 + MOST_WASTE) * steps else shape.oh


cdef class LayoutChange(Convolver):
    """A Convolver for `shape` in NCHW around `inner`, one for a part of it (see ``part_shape``) in NHWC."""

    cdef Convolver inner
    cdef ptrdiff_t bands, parts          # of an image; of all images
    cdef ptrdiff_t top                   # rows of padding that belong to the first band's input

    def __init__(self, shape, dict params, Convolver inner not None):
        self.inner = inner
        if inner.conv.oh < self.conv.oh:
            self.bands = (self.conv.oh + inner.conv.oh - 1) // inner.conv.oh
            self.parts = self.conv.n * self.bands
            self.top = self.conv.pad_top
        else:
            self.bands = 1
            self.parts = 1 if self.conv.n == 0 else (self.conv.n + inner.conv.n - 1) // inner.conv.n

    cdef size_t packed_size(self) noexcept nogil:
        return self.inner.packed_size()

    cdef size_t input_size(self) noexcept nogil:
        return cache_lines(self.inner.conv.n * self.inner.conv.h * self.inner.conv.w * self.conv.c * self.conv.itemsize)

    cdef size_t output_size(self) noexcept nogil:
        return cache_lines(self.inner.conv.n * self.inner.conv.oh * self.inner.conv.ow * self.conv.k * self.conv.itemsize)

    cdef size_t slot_size(self, int threads) noexcept nogil:
        """Bytes to serve one part by so many threads."""
        return self.input_size() + self.output_size() + cache_lines(self.inner.workspace_size(threads))

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return max(<size_t>min(<ptrdiff_t>threads, self.parts) * self.slot_size(1), self.slot_size(threads))

    cdef int allocate(self) except -1:
        return self.inner.allocate()

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        self.inner.pack(filters, threads)

    cdef void borrow(self, const void *filters, int threads) noexcept nogil:
        """Filters are used once only where there is one part."""
        if self.parts > 1:
            self.inner.pack(filters, threads)
        else:
            self.inner.borrow(filters, threads)

    cdef void run(self, const Call *call) noexcept nogil:
        """Each thread takes parts of its own; where that would leave some without, all work on one part after the other."""
        cdef ptrdiff_t turns = (self.parts + call.threads - 1) // call.threads, part
        if 10 * self.parts >= 9 * turns * call.threads:
            self.fork_join(call, WHOLE_PARTS, call.threads, 1, self.parts, 1)
            return
        for part in range(self.parts):
            self.fork_join(call, <int>(part * DIRECTIONS + INTO_NHWC), call.threads, 1, PIECES * call.threads, 1)
            self.convolve(call, call.workspace, call.threads)
            self.fork_join(call, <int>(part * DIRECTIONS + OUT_OF_NHWC), call.threads, 1, PIECES * call.threads, 1)

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        cdef char *slot = call.workspace + share.part * self.slot_size(1)
        cdef ptrdiff_t item
        while next_run(share):
            for item in range(share.first, share.last):
                if phase == WHOLE_PARTS:
                    self.into_nhwc(call, item, slot, 0, 1)
                    self.convolve(call, slot, 1)
                    self.out_of_nhwc(call, item, slot, 0, 1)
                elif phase % DIRECTIONS == INTO_NHWC:
                    self.into_nhwc(call, phase // DIRECTIONS, call.workspace, <int>item, <int>share.items)
                else:
                    self.out_of_nhwc(call, phase // DIRECTIONS, call.workspace, <int>item, <int>share.items)

    cdef void convolve(self, const Call *call, char *slot, int threads) noexcept nogil:
        cdef Call within = call[0]
        within.x, within.out = slot, slot + self.input_size()
        within.workspace = within.out + self.output_size()
        within.threads = threads
        self.inner.run(&within)

    cdef ptrdiff_t first_image(self, ptrdiff_t part) noexcept nogil:
        return min(part // self.bands * self.inner.conv.n, self.conv.n - self.inner.conv.n)

    cdef ptrdiff_t first_row(self, ptrdiff_t part) noexcept nogil:
        return min(part % self.bands * self.inner.conv.oh, self.conv.oh - self.inner.conv.oh)

    cdef void into_nhwc(self, const Call *call, ptrdiff_t part, char *slot, int index, int count) noexcept nogil:
        """Share `index` of `count` of the part's input, rows of padding as zeros."""
        cdef ptrdiff_t y = self.first_row(part) * self.conv.stride_h - self.top, rows = self.inner.conv.h
        cdef ptrdiff_t begin = min(max(-y, <ptrdiff_t>0), rows), end = max(begin, min(rows, self.conv.h - y))
        cdef ptrdiff_t pixels = (end - begin) * self.conv.w, strips = (pixels + STRIP - 1) // STRIP, strip, strips_first, strips_last
        cdef ptrdiff_t first, image, row_bytes = self.conv.w * self.conv.c * self.conv.itemsize
        cdef const char *x = call.x + self.first_image(part) * self.conv.h * row_bytes + (y + begin) * self.conv.w * self.conv.itemsize
        for image in range(share_begin(self.inner.conv.n, index, count), share_begin(self.inner.conv.n, index + 1, count)):
            memset(slot + image * rows * row_bytes, 0, begin * row_bytes)
            memset(slot + (image * rows + end) * row_bytes, 0, (rows - end) * row_bytes)
        strips_first = share_begin(self.inner.conv.n * strips, index, count)
        strips_last = share_begin(self.inner.conv.n * strips, index + 1, count)
        for strip in range(strips_first, strips_last):
            first, image = strip % strips * STRIP, strip // strips
            self.kernels.transpose(
                self.conv.c, min(<ptrdiff_t>STRIP, pixels - first), x + image * self.conv.h * row_bytes + first * self.conv.itemsize,
                self.conv.h * self.conv.w,
                slot + (image * rows + begin) * row_bytes + first * self.conv.c * self.conv.itemsize, self.conv.c)

    cdef void out_of_nhwc(self, const Call *call, ptrdiff_t part, const char *slot, int index, int count) noexcept nogil:
        """Share `index` of `count` of the part's output, without the images or rows that the part before has."""
        cdef ptrdiff_t image_first = self.first_image(part), surplus = part // self.bands * self.inner.conv.n - image_first
        cdef ptrdiff_t row_first = self.first_row(part), above = part % self.bands * self.inner.conv.oh - row_first
        cdef ptrdiff_t images = self.inner.conv.n - surplus, rows = self.inner.conv.oh - above
        cdef ptrdiff_t pixels = rows * self.conv.ow, strips = (pixels + STRIP - 1) // STRIP, strip, first, image
        cdef ptrdiff_t row_bytes = self.conv.ow * self.conv.k * self.conv.itemsize
        slot += self.input_size() + (surplus * self.inner.conv.oh + above) * row_bytes
        cdef char *out = call.out + (image_first + surplus) * self.conv.oh * row_bytes
        out += (row_first + above) * self.conv.ow * self.conv.itemsize
        for strip in range(share_begin(images * strips, index, count), share_begin(images * strips, index + 1, count)):
            first, image = strip % strips * STRIP, strip // strips
            self.kernels.transpose(
                min(<ptrdiff_t>STRIP, pixels - first), self.conv.k,
                slot + image * self.inner.conv.oh * row_bytes + first * self.conv.k * self.conv.itemsize, self.conv.k,
                out + image * self.conv.oh * row_bytes + first * self.conv.itemsize, self.conv.oh * self.conv.ow)


cdef inline size_t cache_lines(size_t nbytes) noexcept nogil:
    return (nbytes + 63) // 64 * 64
