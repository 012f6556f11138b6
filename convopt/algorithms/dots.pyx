"""Direct convolution for few output channels: lanes go along the input, so that none is idle for want of channels.

In NHWC a row of taps reads one run of the input, width and channels together; an output is a sum of dot products of such
runs with rows of its filter (see kernels/dots-inl.h). A dilated row of taps is a run for each tap.

At the image's borders runs are clipped to what exists, so that padding costs nothing and is not read: pixels whose rows of
taps are whole go along the output row, and the columns beside them downwards, where all runs are clipped alike.
"""

from convopt.algorithms import panels
from convopt.algorithms.contract import Work, error_of_sums

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.panels cimport whole
from convopt.algorithms.shares cimport Share, next_run
from convopt.kernels.registry cimport CONVOPT_DOTS_OUTPUTS, CONVOPT_LINE_BYTES as CACHE_LINE, Kernels, Run, kernels

NAME = "dots"
REVISION = 2
LAYOUTS = ("NHWC",)
SPREADS_NONFINITE = False

cdef enum:
    BLOCK = 24      # pixels: whole tiles of any kernel
    UNITS = 64      # of work, enough for any number of threads


def why_not(shape):
    """The reason dots cannot serve a shape: several groups, or output channels that fill a vector."""
    vl, _ = panels.tiles(shape)
    if shape.groups > 1:
        return f"there are {shape.groups} groups; dots serves one"
    if shape.k > vl:
        return f"there are {shape.k} output channels; dots serves at most the {vl} of a vector"
    return None


def candidates(shape):
    """There is one way to do it."""
    return [{}]


def expected_error(shape, params):
    """That of sums in order, as an upper bound: a lane's is a part of one."""
    return error_of_sums(shape)


def row_step(shape, params):
    """Any number of rows will do."""
    return 1


def work(shape, params, threads):
    """Multiply-adds of whole vectors and whole tiles; beginning a run takes as long as one, folding a sum several."""
    vl, _ = panels.tiles(shape)
    runs, taps = _runs(shape)
    steps = runs * -(-taps * shape.c // vl)
    (top, bottom), (left, right) = _interiors(shape)
    flops, loads = 0.0, 0.0
    for outputs, pixels in _panels(shape):
        # As many pixels as whole tiles have: rows of the interior, then the columns beside it, each in its three parts.
        across = shape.oh * -(-(right - left) // pixels)
        down = (shape.ow - right + left) * (-(-(bottom - top) // pixels) + shape.oh - bottom + top)
        if _is_flat(shape):
            across = -(-shape.oh * shape.ow // pixels)
        flops += 2.0 * vl * shape.n * (across + down) * pixels * outputs * (steps + runs + FOLD)
        loads += (pixels + outputs) / pixels
    tensors = shape.n * (shape.h * shape.w * shape.c + shape.oh * shape.ow * shape.k)
    return Work(
        gemm_flops=flops,
        gemm_efficiency=1 / (0.6 + 0.85 * loads / shape.k),    # a multiply-add waits for its loads
        vector_flops=0.0,
        moved_bytes=float(shape.itemsize * (tensors + shape.k * shape.depth)),
        parts=max(1, min(shape.n * shape.oh * shape.ow // BLOCK, UNITS)),
    )


#: Folding a vector and its share of what a tile takes besides, in multiply-adds; measured.
FOLD = 10


def _panels(shape):
    """(outputs, pixels of a tile) of each panel of outputs."""
    cdef const Kernels *table = kernels(shape.itemsize)
    count = -(-shape.k // CONVOPT_DOTS_OUTPUTS)
    widths = [shape.k * (i + 1) // count - shape.k * i // count for i in range(count)]
    return [(width, table.dots_pixels[width]) for width in widths]


def _runs(shape):
    """Runs of input under a whole window, and the taps in each."""
    return (shape.r, shape.s) if shape.dilations[1] == 1 or shape.s == 1 else (shape.r * shape.s, 1)


def _is_flat(shape):
    """Whether all pixels lie in one row of inputs as well as of outputs."""
    return (shape.r, shape.s) == (1, 1) == shape.strides and shape.pads == ((0, 0), (0, 0))


def _interiors(shape):
    """(begin, end) of the outputs whose windows lie in the image, by axis."""
    interiors = []
    for size, out, taps, stride, dilation, (before, _) in zip(
        (shape.h, shape.w), (shape.oh, shape.ow), (shape.r, shape.s), shape.strides, shape.dilations, shape.pads
    ):
        begin = min(out, -(-before // stride))
        end = min(out, (size - 1 - (taps - 1) * dilation + before) // stride + 1)
        interiors.append((begin, max(begin, end)))
    return interiors


cdef class Implementation(Convolver):
    cdef ptrdiff_t images, height, width, in_height, in_width    # rows and columns of output and input, flat where they can be
    cdef ptrdiff_t top, bottom, left, right      # outputs whose windows lie in the image
    cdef ptrdiff_t blocks                        # of columns
    cdef ptrdiff_t ldf                           # from a filter to the next
    cdef bint joined                             # whether a row of taps is one run

    def __init__(self, shape, dict params):
        self.images, self.height, self.width = shape.n, shape.oh, shape.ow
        self.in_height, self.in_width = shape.h, shape.w
        if _is_flat(shape):
            self.images, self.height, self.width = 1, 1, shape.n * shape.oh * shape.ow
            self.in_height, self.in_width = 1, self.width
            self.top, self.bottom, self.left, self.right = 0, 1, 0, self.width
        else:
            (self.top, self.bottom), (self.left, self.right) = _interiors(shape)
        self.joined = _runs(shape)[0] == shape.r
        rows = max(1, self.images * self.height)
        self.blocks = max(1, min(self.width // BLOCK, -(-<int>UNITS // rows)))
        lines = -(-shape.depth * shape.itemsize // CACHE_LINE)
        # Filters an odd number of cache lines apart fall into all sets of a cache.
        self.ldf = (lines + 1 - lines % 2) * CACHE_LINE // shape.itemsize

    cdef size_t packed_size(self) noexcept nogil:
        return self.conv.k * self.ldf * self.conv.itemsize

    cdef size_t runs_size(self) noexcept nogil:
        return whole(self.conv.r * self.conv.s * sizeof(Run), CACHE_LINE)

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * self.runs_size()

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """[output channel][tap][input channel]"""
        self.kernels.transpose(self.conv.r * self.conv.s * self.conv.c, self.conv.k, filters, self.conv.k, self.packed.data, self.ldf)

    cdef void run(self, const Call *call) noexcept nogil:
        self.fork_join(call, 0, call.threads, 1, self.images * self.blocks * self.height, 1)

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        """Images, blocks of columns, rows, in order."""
        cdef ptrdiff_t row, y, count
        cdef Run *runs = <Run *>(call.workspace + share.part * self.runs_size())
        while next_run(share):
            row = share.first
            while row < share.last:
                y = row % self.height
                count = min(self.height - y, share.last - row)
                self.run_block(call, row // self.height // self.blocks, row // self.height % self.blocks, y, y + count, runs)
                row += count

    cdef void run_block(self, const Call *call, ptrdiff_t image, ptrdiff_t block, ptrdiff_t first, ptrdiff_t last,
                        Run *runs) noexcept nogil:
        """Rows `first` to `last` of a block of columns."""
        cdef ptrdiff_t begin = self.column(block), end = self.column(block + 1), y, x
        cdef ptrdiff_t left = min(max(self.left, begin), end), right = min(max(self.right, left), end)
        for y in range(first, last):
            if left < right:
                self.run_line(call, image, y, left, right - left, False, runs)
        for x in range(begin, end):
            if left <= x < right:
                continue
            y = first
            while y < last:
                if self.top <= y < self.bottom:
                    self.run_line(call, image, y, x, min(self.bottom, last) - y, True, runs)
                    y = min(self.bottom, last)
                else:
                    self.run_line(call, image, y, x, 1, True, runs)
                    y += 1

    cdef ptrdiff_t column(self, ptrdiff_t block) noexcept nogil:
        """Where a block begins."""
        if block == self.blocks:
            return self.width
        return self.width // BLOCK * block // self.blocks * BLOCK

    cdef void run_line(self, const Call *call, ptrdiff_t image, ptrdiff_t y, ptrdiff_t x, ptrdiff_t count, bint down,
                       Run *runs) noexcept nogil:
        """So many output pixels from (y, x) on, to the right or downwards, whose windows are clipped alike."""
        cdef ptrdiff_t item = self.conv.itemsize, c = self.conv.c, r, s, number = 0, length = c
        cdef ptrdiff_t in_y = y * self.conv.stride_h - self.conv.pad_top, in_x = x * self.conv.stride_w - self.conv.pad_left
        cdef Span rows = existing(in_y, self.conv.r, self.conv.dilation_h, self.in_height)
        cdef Span columns = existing(in_x, self.conv.s, self.conv.dilation_w, self.in_width)
        cdef ptrdiff_t in_step = self.conv.stride_h * self.in_width if down else self.conv.stride_w, out_step = self.width if down else 1
        cdef ptrdiff_t end = columns.end
        cdef const char *line
        if self.joined and columns.begin < columns.end:
            length = (columns.end - columns.begin) * c
            end = columns.begin + 1
        for r in range(rows.begin, rows.end):
            line = call.x + (image * self.in_height + in_y + r * self.conv.dilation_h) * self.in_width * c * item
            for s in range(columns.begin, end):
                runs[number].x = line + (in_x + s * self.conv.dilation_w) * c * item
                runs[number].filters = <const char *>self.packed.data + (r * self.conv.s + s) * c * item
                number += 1
        self.kernels.dots(count, <int>self.conv.k, number, length, runs, in_step * c, self.ldf,
                          call.out + ((image * self.height + y) * self.width + x) * self.conv.k * item, out_step * self.conv.k,
                          call.epilogue)


cdef struct Span:
    ptrdiff_t begin, end


cdef inline Span existing(ptrdiff_t first, ptrdiff_t taps, ptrdiff_t dilation, ptrdiff_t size) noexcept nogil:
    """Taps, the first at `first` and others `dilation` apart, that lie within 0 .. size-1."""
    cdef ptrdiff_t begin = 0, end = taps
    while begin < end and first + begin * dilation < 0:
        begin += 1
    while begin < end and first + (end - 1) * dilation >= size:
        end -= 1
    return Span(begin, end)
