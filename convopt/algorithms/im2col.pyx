"""im2col by blocks: taps and channels are folded into one depth, and the matrix of windows never exists.

Folding pays where there are few channels (the first layer of every network): the product runs over long rows of
elements, not over C/groups of them at a time.

The input under a block of output pixels lies in one piece, its *band* (see ``bands``). In NHWC, here, a row of a window, S*C
elements, lies in one piece in the band. So nothing more is copied: the product, pixels x channels, reads the R rows of each
window where they are, windows of an output row at equal distances (`windows` in kernels.h). With dilation the pieces are
single taps, of C elements. NCHW is ``im2col_planes``' affair, and of 1x1 kernels ``pointwise_planes``'.
"""

from convopt.algorithms import im2col_planes, panels
from convopt.algorithms.contract import Work, error_of_sums

from convopt.algorithms.bands cimport BLOCK_BYTES, Band, Banded, Block
from convopt.algorithms.contract cimport Call
from convopt.algorithms.panels cimport pack_panels, whole
from convopt.kernels.registry cimport CONVOPT_LINE_BYTES as CACHE_LINE, Epilogue

NAME = "im2col"
REVISION = 9
LAYOUTS = ("NHWC", "NCHW")
SPREADS_NONFINITE = False

cdef enum:
    STEP_BYTES = 1 << 14     # half of the smallest L1 in use: filters that stay there, or input beside a panel of them

#: Bytes of one output row's band beyond which packing makes no sense: only absurd padding or dilation needs so much.
BAND_LIMIT = 1 << 28


def why_not(shape):
    """The reason im2col cannot serve a shape: one output row alone needs a copy of the input larger than BAND_LIMIT."""
    width = max(shape.ow - 1, 0) * shape.strides[1] + shape.extent[1]
    needed = shape.r * width * shape.group_c * shape.itemsize
    if needed > BAND_LIMIT:
        return f"the padded input of one output row has {needed} bytes; im2col copies at most {BAND_LIMIT}"
    return None


def candidates(shape):
    """Register-tile widths `nv` in vectors: of output channels (NHWC) or of pixels (NCHW)."""
    return panels.widths(shape) if shape.data_format == "NHWC" else im2col_planes.widths(shape)


def expected_error(shape, params):
    """That of sums in order."""
    return error_of_sums(shape)


def row_step(shape, params):
    """Any number of rows will do."""
    return 1


def work(shape, params, threads):
    """Tensors and filters move once; windows are read from the copied input, in L2."""
    if shape.data_format == "NCHW":
        return im2col_planes.work(shape, params)
    vl, _ = panels.tiles(shape)
    pixels = shape.n * shape.oh * shape.ow
    return Work(
        gemm_flops=2.0 * pixels * -(-shape.group_k // vl) * vl * shape.groups * shape.depth,
        gemm_efficiency=0.95 * shape.depth / (shape.depth + 2) * panels.efficiency(shape, params["nv"]),
        vector_flops=0.0,
        moved_bytes=float(shape.itemsize * (shape.n * shape.h * shape.w * shape.c + pixels * shape.k + shape.depth * shape.k)),
        parts=max(1, shape.n * shape.oh),
    )


cdef class Implementation(Banded):
    """The Convolver of NHWC."""

    cdef ptrdiff_t runs, length    # a window is so many runs of so many elements that are neighbours in the band
    cdef ptrdiff_t step            # pixels multiplied by a panel of filters before the next one
    cdef bint resident             # whether a group's filters stay in L1, all panels of them

    def __init__(self, shape, dict params):
        super().__init__(shape, params)
        cdef ptrdiff_t item = self.conv.itemsize, pixels = BLOCK_BYTES // (self.conv.group_c * item) // self.conv.stride_w
        self.columns = (self.conv.group_k + self.nr - 1) // self.nr
        self.runs = self.conv.r if self.conv.dilation_w == 1 else self.conv.r * self.conv.s
        self.length = self.depth // self.runs
        # Reading a panel for fewer pixels than it has channels costs more than reading the pixels for each panel, from L2;
        # so does a panel too large for L1.
        self.step = STEP_BYTES // (self.conv.group_c * item) // self.conv.stride_w // self.conv.r
        if self.step < self.nr or self.nr * self.depth * item > 2 * STEP_BYTES:
            self.step = max(<ptrdiff_t>self.mr, pixels // self.conv.r)
        self.resident = whole(self.conv.group_k, self.kernels.vl) * self.depth * item <= STEP_BYTES
        self.cut(max(<ptrdiff_t>self.mr, pixels // self.conv.stride_h))

    cdef size_t packed_size(self) noexcept nogil:
        return self.conv.groups * whole(self.conv.group_k, self.kernels.vl) * self.depth * self.conv.itemsize

    cdef size_t part_size(self) noexcept nogil:
        """Of the pointers to the runs of an output row's windows."""
        return whole(self.runs * sizeof(void *), CACHE_LINE)

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """Panels as for direct."""
        pack_panels(&self.conv, self.kernels.vl, self.nr, <const char *>filters, <char *>self.packed.data, threads)

    cdef void multiply(self, const Call *call, const Block *block, const Band *band, ptrdiff_t group, ptrdiff_t column_first,
                       ptrdiff_t column_last, char *memory) noexcept nogil:
        """Pixels x channels: filters that stay in L1 all at once, others panel by panel."""
        cdef const void **lines = <const void **>memory
        cdef ptrdiff_t item = self.conv.itemsize, rows = block.rows, width = block.width
        cdef ptrdiff_t first = column_first * self.nr, last = min(column_last * self.nr, self.conv.group_k)
        cdef ptrdiff_t columns = last - first, step_rows, parts = 1, part, begin, row, channel
        cdef const char *filters = <const char *>self.packed.data + group * whole(self.conv.group_k, self.kernels.vl) * self.depth * item
        cdef char *origin = call.out + ((block.image * self.conv.oh + block.row) * self.conv.ow + block.column) * self.conv.k * item
        cdef Epilogue epilogue = call.epilogue[0]
        # Windows without padding or overlap may go on from one row to the next: those of 1x1 do.
        if band.step == width * band.pixel:
            rows, width = 1, rows * width
        step_rows = rows
        if not self.resident and column_last - column_first > 1:
            columns = self.nr
            step_rows = max(<ptrdiff_t>1, self.step // width)
            parts = (width + self.step - 1) // self.step
        origin += group * self.conv.group_k * item
        row = 0
        while row < rows:
            for part in range(parts):
                begin = part * width // parts
                self.fill_lines(band, row, begin, lines)
                channel = first
                while channel < last:
                    if call.epilogue.bias != NULL:
                        epilogue.bias = <const char *>call.epilogue.bias + (group * self.conv.group_k + channel) * item
                    self.kernels.windows(self.nv, min(step_rows, rows - row), band.step, (part + 1) * width // parts - begin,
                                         min(columns, last - channel), self.runs, self.length, lines, band.pixel,
                                         filters + channel * self.depth * item,
                                         origin + ((row * width + begin) * self.conv.k + channel) * item, self.conv.k, &epilogue)
                    channel += columns
            row += step_rows

    cdef void fill_lines(self, const Band *band, ptrdiff_t row, ptrdiff_t column, const void **lines) noexcept nogil:
        """lines[run] is where that run of the window at a pixel of the block lies."""
        cdef ptrdiff_t item = self.conv.itemsize, r, s, across = self.runs // self.conv.r
        cdef const char *start = band.data + (row * band.step + column * band.pixel) * item
        for r in range(self.conv.r):
            for s in range(across):
                lines[r * across + s] = start + (r * band.tap + s * self.conv.dilation_w * band.phase) * item
