"""im2col of NCHW arrays: filters x windows, channels x pixels, lanes being pixels that follow each other.

The elements of the windows of neighbours are neighbours in the band, whatever the tap, columns a stride apart being kept
together there. So a product reads vectors of them where they lie, each tap and channel at its distance from a pixel (`lines` in
kernels.h). Where rows fill their last vector badly, and filters are many, windows are gathered first: tap by tap, `gather`
copies the pixels of a block into a panel as Q = R*S*C/groups rows of `nr` pixels. Some panels are gathered at a time, so that
each output plane is written in long pieces: what follows a line is written next, not after lines of all other planes.
"""

from convopt.algorithms import panels, pointwise_planes
from convopt.algorithms.contract import Work

from libc.stdint cimport uint32_t, uint64_t

from convopt.algorithms.bands cimport BLOCK_BYTES, Band, Banded, Block
from convopt.algorithms.contract cimport Call
from convopt.algorithms.panels cimport whole
from convopt.kernels.registry cimport CONVOPT_GATHER_SLACK, CONVOPT_LINE_BYTES as CACHE_LINE, Epilogue, Spot

cdef enum:
    PANELS_BYTES = 1 << 16   # panels of pixels gathered before filters run over them: beside the band within the smallest L2
    STEP_BYTES = 1 << 14     # half of the smallest L1 in use: windows that all filters run over

# What gathering a panel takes, in tiles of filters multiplied by it.
GATHER = 1.5


def why_not(shape):
    """The reason this cannot serve a shape in NCHW: there is none."""
    return None


def reads_lines(shape, nv, width):
    """Whether windows of output rows, or of parts of them `width` pixels long, are read where they lie by tiles of `nv` vectors."""
    vl, mr = panels.tiles(shape)
    return padded(width, vl) / width < 1 + GATHER * mr[nv - 1] / shape.group_k


def padded(width, vl):
    """Pixels up to the end of a row's last vector."""
    return -(-width // vl) * vl


def widths(shape):
    """Register-tile widths `nv` in vectors of pixels, as parameter sets, the one that wastes least first."""
    vl, mr = panels.tiles(shape)
    vectors = -(-max(1, shape.oh * shape.ow) // vl)
    cost = {nv: _waste(shape, nv) / _efficiency(shape, nv) for nv in range(min(len(mr), vectors), 0, -1)}
    return [{"nv": nv} for nv in sorted(cost, key=cost.__getitem__)]


def work(shape, params):
    """A window may be written to a panel and read from it; tensors and filters move once."""
    pixels = shape.n * shape.oh * shape.ow
    gathered = 0 if _is_pointwise(shape) or reads_lines(shape, params["nv"], max(1, shape.ow)) else pixels * shape.depth * shape.groups
    tensors = shape.n * shape.h * shape.w * shape.c + pixels * shape.k + shape.depth * shape.k
    return Work(
        gemm_flops=2.0 * pixels * shape.k * shape.depth * _waste(shape, params["nv"]),
        gemm_efficiency=0.95 * shape.depth / (shape.depth + 6) * _efficiency(shape, params["nv"]),
        vector_flops=0.0,
        moved_bytes=float(shape.itemsize * (tensors + 2 * gathered)),
        parts=max(1, shape.n * shape.oh),
    )


def _is_pointwise(shape):
    """Whether ``pointwise_planes`` serves the shape, whose pixels follow each other from row to row."""
    return pointwise_planes.why_not(shape) is None


def _waste(shape, nv):
    """Pixels in all lanes over those there are."""
    vl, _ = panels.tiles(shape)
    width = shape.ow if not _is_pointwise(shape) and reads_lines(shape, nv, max(1, shape.ow)) else shape.oh * shape.ow
    return padded(width, vl) / width if width else 1.0


def _efficiency(shape, nv):
    """Of the micro-kernel: enough sums to hide their latency, and few loads to each; two vectors in five span two cache lines."""
    _, mr = panels.tiles(shape)
    rows = shape.group_k / -(-shape.group_k // mr[nv - 1])
    sums, loads = rows * nv, rows + 1.4 * nv + 1
    return min(1.0, sums / 8, 1 / (0.6 + 0.5 * loads / sums))


# Those that a block is multiplied by, and where in their first output plane it begins.
cdef struct Filters:
    const char *data
    ptrdiff_t count
    char *out
    Epilogue epilogue


cdef class Implementation(Banded):
    """The Convolver of im2col for NCHW."""

    cdef ptrdiff_t pitch                     # elements from a filter to the next
    cdef ptrdiff_t panel_count, panel_bytes  # panels of pixels gathered at a time, and from one to the next
    cdef bint in_lines                       # whether windows are read where they lie instead,
    cdef ptrdiff_t most_spots                # those of so many spots at a time

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
        self.most_spots = self.nv * max(<ptrdiff_t>1, STEP_BYTES // (self.conv.r * self.phases() * self.conv.group_c * self.nr * item))
        self.in_lines = reads_lines(shape, self.nv, max(1, -(-shape.ow // self.segments)))

    cdef size_t packed_size(self) noexcept nogil:
        return self.conv.k * self.pitch * self.conv.itemsize

    cdef size_t panels_size(self) noexcept nogil:
        """Of the panels of pixels gathered at a time."""
        return whole(self.panel_count * self.panel_bytes + CONVOPT_GATHER_SLACK, CACHE_LINE)

    cdef size_t part_size(self) noexcept nogil:
        """Of offsets, and of spots, or of panels and what else `gather` needs."""
        if self.in_lines:
            return self.offsets_size() + whole(self.most_spots * sizeof(Spot), CACHE_LINE)
        return self.offsets_size() + self.panels_size() + whole(2 * self.nr * sizeof(ptrdiff_t), CACHE_LINE)

    cdef size_t offsets_size(self) noexcept nogil:
        """Of where the elements of a window lie."""
        return whole(self.depth * sizeof(ptrdiff_t), CACHE_LINE)

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """[output channel][input channel][tap], `pitch` apart."""
        cdef ptrdiff_t taps = self.conv.r * self.conv.s, item = self.conv.itemsize, channel, tap
        cdef const char *source = <const char *>filters
        cdef char *to = <char *>self.packed.data
        for tap in range(taps):
            for channel in range(self.conv.group_c):
                spread(source, self.conv.k, to + (channel * taps + tap) * item, self.pitch, item)
                source += self.conv.k * item

    cdef ptrdiff_t phases(self) noexcept nogil:
        """Sorts of columns, by their remainder modulo the stride, that windows reach."""
        return min(self.conv.stride_w, (self.conv.s - 1) * self.conv.dilation_w + 1)

    cdef ptrdiff_t phase_columns(self) noexcept nogil:
        """Of one row, at most."""
        return (self.band_width + self.conv.stride_w - 1) // self.conv.stride_w

    cdef ptrdiff_t band_columns(self) noexcept nogil:
        return self.phases() * self.phase_columns()

    cdef void copy_band(self, const char *x, const Block *block, ptrdiff_t group, char *memory, Band *band) noexcept nogil:
        """Channel by channel, and of each the columns that are a stride apart together: [channel][column % stride][row][column]."""
        cdef ptrdiff_t item = self.conv.itemsize, stride = self.conv.stride_w, rows = self.rows_of(block), _channel, phase, index, y
        cdef ptrdiff_t x0 = block.column * stride - self.conv.pad_left, left, column, columns
        cdef ptrdiff_t[3] counts
        cdef const char *plane = x + (block.image * self.conv.c + group * self.conv.group_c) * self.conv.h * self.conv.w * item
        band.row, band.pixel = self.phase_columns(), 1
        band.phase = rows * band.row
        band.channel = self.phases() * band.phase
        self.place(band, memory)
        for _channel in range(self.conv.group_c):
            for phase in range(self.phases()):
                left = min(max(<ptrdiff_t>0, (stride - 1 - x0 - phase) // stride), band.row) if x0 + phase < 0 else 0
                column = x0 + phase + left * stride
                columns = min(max(<ptrdiff_t>0, (self.conv.w - column + stride - 1) // stride), band.row - left)
                index = 0
                while index < rows:
                    # Rows of padding, rows of input, and so on; one by one where they do not follow each other in the input.
                    y = self.row_at(block, index)
                    counts[0] = min(max(<ptrdiff_t>0, -y), rows - index)
                    counts[1] = max(<ptrdiff_t>0, min(rows - index, self.conv.h - y) - counts[0])
                    counts[2] = rows - index - counts[0] - counts[1]
                    if self.every_row:
                        counts[1] = 0 <= y < self.conv.h
                        counts[0], counts[2] = 1 - counts[1], 0
                    self.kernels.pad(counts, columns, plane + ((y + counts[0]) * self.conv.w + column) * item, self.conv.w, stride, left,
                                     memory, band.row)
                    memory += (counts[0] + counts[1] + counts[2]) * band.row * item
                    index += counts[0] + counts[1] + counts[2]
            plane += self.conv.h * self.conv.w * item

    cdef void multiply(self, const Call *call, const Block *block, const Band *band, ptrdiff_t group, ptrdiff_t column_first,
                       ptrdiff_t column_last, char *memory) noexcept nogil:
        """Multiply the group's filters with the windows of the block's pixels."""
        cdef ptrdiff_t c, r, s, reach, begin = column_first * self.conv.group_k // self.columns
        cdef ptrdiff_t end = column_last * self.conv.group_k // self.columns, channel = group * self.conv.group_k + begin
        cdef ptrdiff_t *offsets = <ptrdiff_t *>memory
        cdef ptrdiff_t *tap = offsets
        cdef Filters filters
        filters.data = <const char *>self.packed.data + channel * self.pitch * self.conv.itemsize
        filters.count = end - begin
        filters.out = call.out + ((block.image * self.conv.k + channel) * self.conv.oh + block.row) * self.conv.ow * self.conv.itemsize
        filters.out += block.column * self.conv.itemsize
        filters.epilogue = call.epilogue[0]
        filters.epilogue.bias = NULL
        if call.epilogue.bias != NULL:
            filters.epilogue.row_bias = <const char *>call.epilogue.bias + channel * self.conv.itemsize
        for c in range(self.conv.group_c):
            for r in range(self.conv.r):
                for s in range(self.conv.s):
                    reach = s * self.conv.dilation_w
                    tap[0] = c * band.channel + r * band.tap + reach // self.conv.stride_w
                    if self.conv.stride_w > 1:
                        tap[0] += reach % self.conv.stride_w * band.phase
                    tap += 1
        memory += self.offsets_size()
        if self.in_lines:
            self.multiply_lines(block, band, &filters, offsets, <Spot *>memory)
        else:
            self.multiply_panels(block, band, &filters, offsets, memory)

    cdef void multiply_lines(self, const Block *block, const Band *band, const Filters *filters, const ptrdiff_t *offsets,
                             Spot *spots) noexcept nogil:
        """So few spots at a time that their windows stay in L1 for all filters."""
        cdef ptrdiff_t vl = self.kernels.vl, row = 0, column = 0, begin, count
        while row < block.rows:
            count = 0
            while count < self.most_spots and row < block.rows:
                begin = max(<ptrdiff_t>0, min(column, block.width - vl))    # a row's last spot is whole too, if need be once more
                spots[count].source, spots[count].out = row * band.step + begin, row * self.conv.ow + begin
                spots[count].count = <int>min(vl, block.width)
                count += 1
                column += vl
                if column >= block.width:
                    column = 0
                    row += 1
            self.kernels.lines(self.nv, filters.count, count, spots, self.depth, offsets, filters.data, self.pitch, band.data,
                               filters.out, self.conv.oh * self.conv.ow, &filters.epilogue)

    cdef void multiply_panels(self, const Block *block, const Band *band, const Filters *filters, ptrdiff_t *offsets,
                              char *memory) noexcept nogil:
        """Gather some panels of the block's pixels at a time: tiles of filters, rows at equal distances as windows are, times each."""
        cdef ptrdiff_t begin = 0, end, panel, pixels = block.rows * block.width
        cdef ptrdiff_t *runs = <ptrdiff_t *>(memory + self.panels_size())
        cdef const void *data = filters.data
        while begin < pixels:
            end = min(begin + self.panel_count * self.nr, pixels)
            panel = begin
            while panel < end:
                self.gather_panel(block, band, panel, min(panel + self.nr, pixels), offsets, runs,
                                  memory + (panel - begin) // self.nr * self.panel_bytes)
                panel += self.nr
            self.kernels.windows(self.nv, 1, 0, filters.count, end - begin, 1, self.depth, &data, self.pitch, memory,
                                 filters.out + begin * self.conv.itemsize, self.conv.oh * self.conv.ow, &filters.epilogue)
            begin = end

    cdef void gather_panel(self, const Block *block, const Band *band, ptrdiff_t begin, ptrdiff_t end, const ptrdiff_t *offsets,
                           ptrdiff_t *run, char *panel) noexcept nogil:
        """The windows of the block's pixels `begin` to `end` as columns of a panel."""
        cdef ptrdiff_t *length = run + self.nr
        cdef ptrdiff_t runs = 0, first = begin, width
        while first < end:
            width = min(end - first, block.width - first % block.width)
            run[runs] = first // block.width * band.step + first % block.width
            length[runs] = width
            runs += 1
            first += width
        self.kernels.gather(self.depth, offsets, runs, run, length, band.data, panel, whole(end - begin, self.kernels.vl))


cdef void spread(const char *source, ptrdiff_t count, char *to, ptrdiff_t step, ptrdiff_t item) noexcept nogil:
    """to[i * step] = source[i], in elements of `item` bytes."""
    cdef ptrdiff_t i
    if item == 4:
        for i in range(count):
            (<uint32_t *>to)[i * step] = (<const uint32_t *>source)[i]
    else:
        for i in range(count):
            (<uint64_t *>to)[i * step] = (<const uint64_t *>source)[i]
