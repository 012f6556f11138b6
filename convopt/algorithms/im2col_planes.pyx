"""im2col of NCHW arrays: windows are gathered, panel by panel, and filters x panels are the product.

Tap by tap, `gather` copies the pixels of a block into a panel as Q = R*S*C/groups rows of `nr` pixels; the product is filters
x this panel, channels x pixels. Some panels are gathered at a time, so that each output plane is written in long pieces: what
follows a line is written next, not after lines of all other planes.
"""

from libc.stdint cimport uint32_t, uint64_t

from convopt.algorithms.bands cimport BLOCK_BYTES, Band, Banded, Block
from convopt.algorithms.contract cimport Call
from convopt.algorithms.panels cimport whole
from convopt.kernels.registry cimport CONVOPT_GATHER_SLACK, CONVOPT_LINE_BYTES as CACHE_LINE, Epilogue

cdef enum:
    PANELS_BYTES = 1 << 16   # panels of pixels gathered before filters run over them: beside the band within the smallest L2


def why_not(shape):
    """The reason this cannot serve a shape in NCHW: there is none."""
    return None


cdef class Implementation(Banded):
    """The Convolver of im2col for NCHW."""

    cdef ptrdiff_t pitch                     # elements from a filter to the next
    cdef ptrdiff_t panel_count, panel_bytes  # panels of pixels gathered at a time, and from one to the next

    def __init__(self, shape, dict params):
        super().__init__(shape, params)
        cdef ptrdiff_t item = self.conv.itemsize
        # Rows a multiple of a small power of two apart would fall into few cache sets.
        self.pitch = self.depth if self.depth * item % 256 else self.depth + CACHE_LINE // item
        self.columns = (self.conv.group_k + self.mr - 1) // self.mr
        self.panel_bytes = self.depth * self.nr * item
        self.panel_count = max(<ptrdiff_t>1, PANELS_BYTES // self.panel_bytes)
        # One divisor after the other: strides may be so large that their product is beyond all integers.
        self.cut(max(<ptrdiff_t>(4 * self.nr), BLOCK_BYTES // (self.conv.group_c * item) // self.conv.stride_h // self.conv.stride_w))

    cdef size_t packed_size(self) noexcept nogil:
        return self.conv.k * self.pitch * self.conv.itemsize

    cdef size_t panels_size(self) noexcept nogil:
        """Of the panels of pixels gathered at a time."""
        return whole(self.panel_count * self.panel_bytes + CONVOPT_GATHER_SLACK, CACHE_LINE)

    cdef size_t part_size(self) noexcept nogil:
        """Of the panels and of the offsets that `gather` needs."""
        return self.panels_size() + whole((self.depth + 2 * self.nr) * sizeof(void *), CACHE_LINE)

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """[output channel][input channel][tap], `pitch` apart."""
        cdef ptrdiff_t taps = self.conv.r * self.conv.s, item = self.conv.itemsize, channel, tap
        cdef const char *source = <const char *>filters
        cdef char *to = <char *>self.packed.data
        for tap in range(taps):
            for channel in range(self.conv.group_c):
                spread(source, self.conv.k, to + (channel * taps + tap) * item, self.pitch, item)
                source += self.conv.k * item

    cdef void multiply(self, const Call *call, const Block *block, const Band *band, ptrdiff_t group, ptrdiff_t column_first,
                       ptrdiff_t column_last, char *gathered) noexcept nogil:
        """Gather some panels of the block's pixels at a time, and multiply the group's filters with each."""
        cdef ptrdiff_t c, r, s, reach, begin = 0, end, panel, pixels = block.rows * block.width
        cdef ptrdiff_t *offsets = <ptrdiff_t *>(gathered + self.panels_size())
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
        """The windows of the block's pixels `begin` to `end` as columns of a panel."""
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
        """Tiles of the group's filters, rows at equal distances as windows are, times panels of the block's pixels."""
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
