"""Convolution as a product of spectra, tile by tile: its cost hardly depends on the size of the kernel.

The image is cut into overlapping tiles (see ``fft_tiles``). Filters are real, so two real tiles are transformed as the
real and imaginary part of one complex tile and come back so. SIMD lanes are channels. Two roads:

* *dense*: three phases for a batch of tile pairs. Rows of all tiles are transformed as they are read from the image;
  then, column by column, transform, one complex matrix product (pairs x channels times channels x filters) per
  frequency, inverse transform, all while the column is in cache; then rows are transformed back and stored.
  Columns of mirrored frequencies go together: their filter spectra are conjugates, so half of them is kept.
* *pointwise* (depthwise, or one channel and one filter): a pair of tiles of one vector of channels goes all the way in
  one piece of memory. A single tile pairs two vectors of channels instead.

Every thread works on rows or columns of its own. Spectra are kept in the order the transforms leave them in.
"""

import numpy as np

from convopt.algorithms.contract import Work
from convopt.algorithms.fft_tiles import largest_kernel, tiling, tilings
from convopt.kernels.fourier import LENGTHS

from libc.string cimport memset

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.parallel cimport share_begin
from convopt.kernels.registry cimport Epilogue, FftLength, FftMultiply, FftWindow, Kernels, kernels

NAME = "fft"
REVISION = 1
LAYOUTS = ("NHWC",)
SPREADS_NONFINITE = True


def why_not(shape):
    """Strides, dilations and kernels beyond the longest transform are not served."""
    if shape.strides != (1, 1):
        return f"strides are {shape.strides}; fft needs (1, 1)"
    if shape.dilations != (1, 1):
        return f"dilations are {shape.dilations}; fft needs (1, 1)"
    if not shape.is_empty and not tilings(shape, kernels(shape.itemsize).vl):
        return f"the kernel is {shape.r} x {shape.s}; fft serves kernels of up to {largest_kernel()} taps along each axis"
    return None


def candidates(shape):
    """Tile sizes nh x nw in points, in the order of their estimated time."""
    return [{"nh": cut.vertical.n, "nw": cut.horizontal.n} for cut in tilings(shape, kernels(shape.itemsize).vl)]


def expected_error(shape, params):
    """Rounding grows with the number of passes, hardly with the kernel or the channels."""
    passes = 1 + np.log2(params["nh"] * params["nw"])
    return float((2.5e-8 if shape.dtype == "float32" else 5e-17) * passes)


def work(shape, params, threads):
    """Products of spectra, transforms of input and output tiles, and the bytes of both and of the filters' spectra."""
    cut = tiling(shape, params["nh"], params["nw"])
    vl = kernels(shape.itemsize).vl
    pointwise = cut.is_pointwise
    return Work(
        gemm_flops=0.0 if pointwise else cut.product_flops(vl),
        gemm_efficiency=0.85 * shape.group_c / (shape.group_c + 4),
        vector_flops=cut.transform_flops(vl) + (cut.product_flops(vl) if pointwise else 0.0),
        moved_bytes=cut.moved_bytes(vl),
        parts=cut.units(vl) if pointwise else shape.groups * (params["nw"] // 2 + 1),
    )


# One axis of the cut, as fft_tiles.Axis describes it.
cdef struct Axis:
    ptrdiff_t n, count, step, first, shift


# What one half (real or imaginary) of a plane holds: `channels` channels from `offset` on of the tile whose first output
# is (y, x) of an image; no channels where there is no such tile.
cdef struct Half:
    ptrdiff_t image, y, x, offset
    int channels


cdef enum:
    LANES_MAX = 16

cdef enum Stage:
    ROWS, COLUMNS, ROWS_BACK, STAGES


cdef class Implementation(Convolver):
    cdef Axis vertical, horizontal
    cdef FftLength along_rows, along_columns           # transforms of nw and of nh points
    cdef FftLength pack_rows, pack_columns             # the same in float64
    cdef const Kernels *pack_kernels
    cdef list tables                                   # owners of what the pointers below point at
    cdef const ptrdiff_t *mirror                       # position of the mirrored frequency, along a column
    cdef const ptrdiff_t *column_of                    # two per pair of mirrored columns, equal where it is its own mirror
    cdef ptrdiff_t column_pairs
    cdef bint pointwise, pairs_channels, lanes_are_tiles
    cdef FftMultiply *multiply                         # pointwise: the product of a column and a filter's
    cdef ptrdiff_t filter_point                        # pointwise: elements of a filter's spectrum per frequency
    cdef ptrdiff_t tile_units                          # pointwise: planes that all tiles of a channel make
    cdef ptrdiff_t tiles, pairs, batch
    cdef ptrdiff_t in_vectors, out_vectors             # vectors of channels of one group
    cdef ptrdiff_t point, row_step, plane, in_step, out_step   # elements: a point, a row of a plane, a plane, a row of columns
    cdef Buffer pack_scratch

    def __init__(self, shape, dict params):
        cut = tiling(shape, params["nh"], params["nw"])
        if cut is None:
            raise ValueError(f"tiles of {params['nh']} x {params['nw']} points cannot hold a kernel of {shape.r} x {shape.s}")
        self.vertical = _axis(cut.vertical)
        self.horizontal = _axis(cut.horizontal)
        self.tables = []
        self.pack_kernels = kernels(8)
        self.along_rows = self.length(params["nw"], shape.dtype)
        self.along_columns = self.length(params["nh"], shape.dtype)
        self.pack_rows = self.length(params["nw"], "float64")
        self.pack_columns = self.length(params["nh"], "float64")
        self.mirror = self.indices(_mirrors(params["nh"]))
        column_mirrors = _mirrors(params["nw"])
        # Columns that are their own mirror first: they cost half, and shares are even when they lie together.
        columns = sorted(((q, int(m)) for q, m in enumerate(column_mirrors) if q <= m), key=lambda pair: (pair[0] != pair[1], pair))
        self.column_of = self.indices(np.array(columns))
        self.column_pairs = len(columns)
        self.pointwise, self.pairs_channels = cut.is_pointwise, cut.pairs_channels
        self.tiles, self.pairs = cut.tiles, (cut.tiles + 1) // 2
        self.lanes_are_tiles = cut.lanes_are_tiles(self.kernels.vl)
        if self.lanes_are_tiles:
            self.multiply, self.filter_point = self.kernels.fft_multiply_one, 2
            self.tile_units = (self.tiles + 2 * self.kernels.vl - 1) // (2 * self.kernels.vl)
        elif self.pairs_channels:
            self.multiply, self.filter_point, self.tile_units = self.kernels.fft_multiply_two, 4 * self.kernels.vl, 1
        else:
            self.multiply, self.filter_point, self.tile_units = self.kernels.fft_multiply, 2 * self.kernels.vl, self.pairs
        self.in_vectors, self.out_vectors = cut.vectors(self.kernels.vl)
        self.batch = cut.batch(self.kernels.vl)
        self.point = 2 * self.kernels.vl
        # Odd multiples of a point: a power of two would put a whole column into a few sets of the cache.
        self.row_step = (self.horizontal.n | 1) * self.point
        self.plane = self.vertical.n * self.row_step
        self.in_step = (self.batch * self.in_vectors | 1) * self.point
        self.out_step = (self.batch * self.out_vectors | 1) * self.point
        rows, columns_high = self.conv.r * (self.horizontal.n | 1), self.vertical.n
        self.pack_scratch = Buffer((rows + columns_high) * 2 * self.pack_kernels.vl * sizeof(double))

    cdef FftLength length(self, int n, dtype):
        """The factors and twiddle factors of transforms of n points."""
        cdef FftLength length
        n1, n2 = LENGTHS[n]
        angles = 2 * np.pi / n * np.outer(np.arange(1, n2), np.arange(1, n1))
        forward = np.ascontiguousarray(np.stack([np.cos(angles), np.sin(angles)], axis=-1), dtype)
        inverse = np.ascontiguousarray(forward.transpose(1, 0, 2))
        self.tables += [forward, inverse]
        length.n1, length.n2 = n1, n2
        length.forward = <const void *><size_t>forward.ctypes.data
        length.inverse = <const void *><size_t>inverse.ctypes.data
        return length

    cdef const ptrdiff_t *indices(self, values):
        table = np.ascontiguousarray(values, np.intp)
        self.tables.append(table)
        return <const ptrdiff_t *><size_t>table.ctypes.data

    # ---- Sizes ----

    cdef ptrdiff_t filter_points(self) noexcept nogil:
        return self.column_pairs * self.vertical.n

    cdef ptrdiff_t channel_units(self) noexcept nogil:
        """Filter spectra of a pointwise convolution: channels, or vectors, or pairs of vectors of them, x multiplier."""
        cdef ptrdiff_t vectors = (self.conv.c + self.kernels.vl - 1) // self.kernels.vl
        if self.lanes_are_tiles:
            return self.conv.k
        return ((vectors + 1) // 2 if self.pairs_channels else vectors) * self.conv.group_k

    cdef size_t packed_size(self) noexcept nogil:
        cdef ptrdiff_t elements
        if self.pointwise:
            elements = self.channel_units() * self.filter_point
        else:
            elements = self.conv.groups * self.out_vectors * self.conv.group_c * self.point
        return elements * self.filter_points() * self.conv.itemsize

    cdef size_t planes_size(self) noexcept nogil:
        """Bytes of the planes that all threads share: input and output spectra of a batch, between row and column transforms."""
        if self.pointwise:
            return 0
        return self.batch * self.conv.groups * (self.in_vectors + self.out_vectors) * self.plane * self.conv.itemsize

    cdef size_t private_size(self) noexcept nogil:
        """Bytes of one thread: a row, and a plane or two mirrored columns of all pairs before and after the product."""
        cdef ptrdiff_t elements = self.horizontal.n * self.point
        if self.pointwise:
            elements += self.plane
        else:
            elements += 2 * self.vertical.n * (self.in_step + self.out_step) + self.batch * self.in_vectors * self.kernels.vl
        return (elements * self.conv.itemsize + 63) // 64 * 64

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return self.planes_size() + threads * self.private_size()

    # ---- Filters ----

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """Spectra in the order the products read them, lanes being output channels:

        dense      [group][column pair][row][vector of outputs][input channel]
        pointwise  [vector of channels][multiplier][column pair][row], with paired vectors [2] at the end;
                   where lanes are tiles [channel][multiplier][column pair][row] pairs of numbers
        """
        cdef ptrdiff_t k, count, c, group, vl = self.kernels.vl, lanes = self.pack_kernels.vl
        cdef ptrdiff_t step, first, multiplier = self.conv.group_k, block
        memset(self.packed.data, 0, self.packed_size())
        if self.pointwise:
            step = self.filter_point
            if self.lanes_are_tiles:
                lanes = vl = 1
            for k in range(multiplier):
                c = 0
                while c < self.conv.c:
                    block = c // vl
                    first = c % vl
                    if self.pairs_channels:
                        first += block % 2 * self.point
                        block //= 2
                    first += (block * multiplier + k) * self.filter_points() * step
                    self.pack_lanes(filters, c * multiplier + k, multiplier, min(lanes, self.conv.c - c), first, step,
                                    0.5 if self.pairs_channels else 1.0)
                    c += lanes
            return
        step = self.out_vectors * self.conv.group_c * self.point
        for group in range(self.conv.groups):
            k = 0
            while k < self.conv.group_k:
                count = min(lanes, self.conv.group_k - k)
                for c in range(self.conv.group_c):
                    first = group * self.filter_points() * step + (k // vl * self.conv.group_c + c) * self.point + k % vl
                    self.pack_lanes(filters, c * self.conv.k + group * self.conv.group_k + k, 1, count, first, step, 1.0)
                k += lanes

    cdef void pack_lanes(self, const void *filters, ptrdiff_t source, ptrdiff_t lane, ptrdiff_t count, ptrdiff_t first,
                         ptrdiff_t step, double scale) noexcept nogil:
        """The spectra of `count` filters, `lane` elements apart from element `source` of a tap on, to elements first, first + 1, ...
        of every frequency, `step` apart. In float64; conjugated, because the product is to be a correlation."""
        cdef ptrdiff_t vl = self.pack_kernels.vl, point = 2 * vl, row_step = (self.horizontal.n | 1) * point
        cdef ptrdiff_t taps = self.conv.group_c * self.conv.k, r, s, l, q, i, target
        cdef ptrdiff_t imaginary = 1 if self.lanes_are_tiles else self.kernels.vl
        cdef double *rows = <double *>self.pack_scratch.data
        cdef double *column = rows + self.conv.r * row_step
        cdef double *to
        cdef double *line
        scale /= self.vertical.n * self.horizontal.n
        memset(rows, 0, self.conv.r * row_step * sizeof(double))
        for r in range(self.conv.r):
            line = rows + r * row_step
            for s in range(self.conv.s):
                to = line + _wrapped(s - self.horizontal.shift, self.horizontal.n) * point
                for l in range(count):
                    to[l] += self.element(filters, (r * self.conv.s + s) * taps + source + l * lane)
            self.pack_kernels.fft_forward(&self.pack_rows, line, line + vl, point, line, point)
        for q in range(self.column_pairs):
            memset(column, 0, self.vertical.n * point * sizeof(double))
            for r in range(self.conv.r):
                to = column + _wrapped(r - self.vertical.shift, self.vertical.n) * point
                line = rows + r * row_step + self.column_of[2 * q] * point
                for l in range(point):
                    to[l] += line[l]
            self.pack_kernels.fft_forward(&self.pack_columns, column, column + vl, point, column, point)
            for i in range(self.vertical.n):
                target = first + (q * self.vertical.n + i) * step
                for l in range(count):
                    self.put(target + l, column[i * point + l] * scale)
                    self.put(target + imaginary + l, -column[i * point + vl + l] * scale)

    cdef double element(self, const void *filters, ptrdiff_t index) noexcept nogil:
        return (<const float *>filters)[index] if self.conv.itemsize == 4 else (<const double *>filters)[index]

    cdef void put(self, ptrdiff_t index, double value) noexcept nogil:
        if self.conv.itemsize == 4:
            (<float *>self.packed.data)[index] = <float>value
        else:
            (<double *>self.packed.data)[index] = value

    # ---- Rows: between the image and planes of half-transformed tiles ----

    cdef Half half(self, ptrdiff_t tile, ptrdiff_t offset, ptrdiff_t channels) noexcept nogil:
        cdef ptrdiff_t down = tile // self.horizontal.count
        cdef Half half
        half.image = down // self.vertical.count
        half.y = down % self.vertical.count * self.vertical.step
        half.x = tile % self.horizontal.count * self.horizontal.step
        half.offset = offset
        half.channels = <int>max(min(<ptrdiff_t>self.kernels.vl, channels), 0) if tile < self.tiles else 0
        return half

    cdef bint window(self, const Call *call, const Half *half, ptrdiff_t i, FftWindow *window) noexcept nogil:
        """What row i of a tile sees of the image; False where that is nothing but padding."""
        cdef ptrdiff_t y = half.y + self.vertical.first + i, x = half.x + self.horizontal.first
        window.first = max(-x, 0)
        window.last = min(self.conv.w - x, self.horizontal.n)
        if half.channels == 0 or not 0 <= y < self.conv.h or window.first >= window.last:
            window.first = window.last = 0
            return False
        y += half.image * self.conv.h
        window.pixels = call.x + ((y * self.conv.w + x + window.first) * self.conv.c + half.offset) * self.conv.itemsize
        return True

    cdef bint target(self, const Call *call, const Half *half, ptrdiff_t i, FftWindow *window) noexcept nogil:
        """The outputs of row i of a tile; False where there are none."""
        cdef ptrdiff_t y = half.y + i
        window.first = window.last = 0
        if half.channels == 0 or y >= self.conv.oh:
            return False
        window.last = min(self.horizontal.step, self.conv.ow - half.x)
        y += half.image * self.conv.oh
        window.pixels = call.out + ((y * self.conv.ow + half.x) * self.conv.k + half.offset) * self.conv.itemsize
        return True

    cdef void row_forward(self, const Call *call, const Half *halves, ptrdiff_t i, char *to, char *scratch) noexcept nogil:
        """Row i of a plane, transformed, to `to`. halves: real and imaginary; where lanes are tiles, vl of each."""
        cdef FftWindow windows[2 * LANES_MAX]
        cdef ptrdiff_t n = self.horizontal.n, vl = self.kernels.vl, item = self.conv.itemsize, l
        cdef bint some = False
        for l in range(2 * vl if self.lanes_are_tiles else 2):
            some = self.window(call, halves + l, i, &windows[l]) or some
        if not some:
            memset(to, 0, n * self.point * item)
            return
        if self.lanes_are_tiles:
            self.kernels.fft_load_tiles(windows, n, self.conv.c, scratch)
            self.kernels.fft_load_tiles(windows + vl, n, self.conv.c, scratch + vl * item)
        elif windows[0].last - windows[0].first == n and windows[1].last - windows[1].first == n and \
                halves[0].channels == vl and halves[1].channels == vl:
            self.kernels.fft_forward(&self.along_rows, windows[0].pixels, windows[1].pixels, self.conv.c, to, self.point)
            return
        else:
            self.kernels.fft_load(&windows[0], n, self.conv.c, halves[0].channels, scratch)
            self.kernels.fft_load(&windows[1], n, self.conv.c, halves[1].channels, scratch + vl * item)
        self.kernels.fft_forward(&self.along_rows, scratch, scratch + vl * item, self.point, to, self.point)

    cdef void row_inverse(self, const Call *call, const Half *halves, ptrdiff_t i, ptrdiff_t lane, char *line,
                          char *scratch) noexcept nogil:
        """Transform row i back and store its pixels; lanes that are channels lie `lane` elements apart in the output."""
        cdef FftWindow windows[LANES_MAX]
        cdef ptrdiff_t vl = self.kernels.vl, part, l
        cdef Epilogue epilogue
        cdef char *source = scratch
        self.kernels.fft_inverse(&self.along_rows, line, self.point, scratch, self.point)
        for part in range(2):
            epilogue = call.epilogue[0]
            if epilogue.bias != NULL:
                epilogue.bias = <const char *>epilogue.bias + halves[0].offset * self.conv.itemsize
            if self.lanes_are_tiles:
                for l in range(vl):
                    self.target(call, halves + l, i, &windows[l])
                self.kernels.fft_store_tiles(windows, source, self.conv.k, &epilogue)
                halves += vl
            else:
                if self.target(call, halves, i, &windows[0]):
                    self.kernels.fft_store(windows[0].last, source, halves[0].channels, <char *>windows[0].pixels, self.conv.k, lane,
                                           &epilogue)
                halves += 1
            source += vl * self.conv.itemsize

    # ---- Phases ----

    cdef void run(self, const Call *call) noexcept nogil:
        cdef ptrdiff_t batches = (self.pairs + self.batch - 1) // self.batch
        cdef int phase
        if self.pointwise:
            self.fork_join(call, 0, call.threads)
            return
        for phase in range(<int>(batches * STAGES)):
            self.fork_join(call, phase, call.threads)

    cdef void share(self, const Call *call, int phase, int part, int parts) noexcept nogil:
        cdef char *private = call.workspace + self.planes_size() + part * self.private_size()
        cdef ptrdiff_t first = phase // <int>STAGES * self.batch
        cdef ptrdiff_t pairs = min(self.batch, self.pairs - first)
        cdef Stage stage = <Stage>(phase % <int>STAGES)
        if self.pointwise:
            self.share_pointwise(call, part, parts, private)
        elif stage == COLUMNS:
            self.share_columns(call, pairs, part, parts, private)
        else:
            self.share_rows(call, stage, first, pairs, part, parts, private)

    cdef void share_rows(self, const Call *call, Stage stage, ptrdiff_t first, ptrdiff_t pairs, int part, int parts,
                         char *private) noexcept nogil:
        """Rows of pairs first, first + 1, ...: from the image to the input planes, or from the output planes to the image."""
        cdef bint back = stage == ROWS_BACK
        cdef ptrdiff_t rows = self.vertical.step if back else self.vertical.n
        cdef ptrdiff_t vectors = self.out_vectors if back else self.in_vectors
        cdef ptrdiff_t channels = self.conv.group_k if back else self.conv.group_c
        cdef ptrdiff_t item, pair, i, group, vector, offset, half
        cdef char *planes = call.workspace
        cdef char *line
        cdef Half halves[2]
        if back:
            planes += self.batch * self.conv.groups * self.in_vectors * self.plane * self.conv.itemsize
        for item in range(share_begin(pairs * rows, part, parts), share_begin(pairs * rows, part + 1, parts)):
            pair, i = item // rows, item % rows
            for group in range(self.conv.groups):
                for vector in range(vectors):
                    offset = vector * self.kernels.vl
                    for half in range(2):
                        halves[half] = self.half(2 * (first + pair) + half, group * channels + offset, channels - offset)
                    line = planes + (((pair * self.conv.groups + group) * vectors + vector) * self.plane + i * self.row_step) * \
                        self.conv.itemsize
                    if back:
                        self.row_inverse(call, halves, i, 1, line, private)
                    else:
                        self.row_forward(call, halves, i, line, private)

    cdef void share_columns(self, const Call *call, ptrdiff_t pairs, int part, int parts, char *private) noexcept nogil:
        """Pairs of mirrored columns of a group each; the weight of one is the number of its columns."""
        cdef ptrdiff_t total = self.conv.groups * self.horizontal.n, weight = 0, group, q
        cdef ptrdiff_t begin = share_begin(total, part, parts), end = share_begin(total, part + 1, parts)
        for group in range(self.conv.groups):
            for q in range(self.column_pairs):
                if begin <= weight < end:
                    self.column_pair(call, pairs, group, q, private + self.horizontal.n * self.point * self.conv.itemsize)
                weight += 1 if self.column_of[2 * q] == self.column_of[2 * q + 1] else 2

    cdef void column_pair(self, const Call *call, ptrdiff_t pairs, ptrdiff_t group, ptrdiff_t q, char *private) noexcept nogil:
        """Transform, multiply, transform back one column and its mirror image, of all pairs of tiles and all channels of a group."""
        cdef ptrdiff_t item = self.conv.itemsize, n = self.vertical.n, point = self.point * item, p, v, d, i, j
        cdef ptrdiff_t columns = 1 if self.column_of[2 * q] == self.column_of[2 * q + 1] else 2
        cdef ptrdiff_t in_column = n * self.in_step * item, out_column = n * self.out_step * item
        cdef char *inputs = private
        cdef char *outputs = inputs + 2 * in_column
        cdef char *scratch = outputs + 2 * out_column
        cdef char *planes = call.workspace
        cdef char *target = planes + self.batch * self.conv.groups * self.in_vectors * self.plane * item
        cdef char *source
        cdef const char *filters = <const char *>self.packed.data
        cdef ptrdiff_t filter_step = self.out_vectors * self.conv.group_c * point
        for d in range(columns):
            for p in range(pairs):
                for v in range(self.in_vectors):
                    source = planes + ((p * self.conv.groups + group) * self.in_vectors + v) * self.plane * item + \
                        self.column_of[2 * q + d] * point
                    self.kernels.fft_forward(&self.along_columns, source, source + point // 2, self.row_step,
                                             inputs + d * in_column + (p * self.in_vectors + v) * point, self.in_step)
        filters += (group * self.column_pairs + q) * n * filter_step
        for i in range(n):
            j = self.mirror[i]
            if columns == 2 or i <= j:
                self.kernels.fft_product(
                    pairs, self.conv.group_c, self.out_vectors, inputs + i * self.in_step * item, self.in_vectors * self.point,
                    filters + i * filter_step, outputs + i * self.out_step * item, self.out_vectors * self.point, False, scratch)
            if columns == 2 or i < j:
                self.kernels.fft_product(
                    pairs, self.conv.group_c, self.out_vectors, inputs + (columns - 1) * in_column + j * self.in_step * item,
                    self.in_vectors * self.point, filters + i * filter_step,
                    outputs + (columns - 1) * out_column + j * self.out_step * item, self.out_vectors * self.point, True, scratch)
        for d in range(columns):
            for p in range(pairs):
                for v in range(self.out_vectors):
                    self.kernels.fft_inverse(
                        &self.along_columns, outputs + d * out_column + (p * self.out_vectors + v) * point, self.out_step,
                        target + ((p * self.conv.groups + group) * self.out_vectors + v) * self.plane * item +
                        self.column_of[2 * q + d] * point, self.row_step)

    cdef void share_pointwise(self, const Call *call, int part, int parts, char *private) noexcept nogil:
        """Planes of work: channels x multiplier x tiles, tiles changing fastest so that a filter's spectrum is reused."""
        cdef ptrdiff_t units = self.channel_units() * self.tile_units, unit
        for unit in range(share_begin(units, part, parts), share_begin(units, part + 1, parts)):
            self.plane_pointwise(call, unit // self.tile_units, unit % self.tile_units, private)

    cdef void plane_pointwise(self, const Call *call, ptrdiff_t channel_unit, ptrdiff_t tile_unit, char *private) noexcept nogil:
        """One complex plane from image to image."""
        cdef ptrdiff_t item = self.conv.itemsize, row = self.row_step * item, multiplier = self.conv.group_k, vl = self.kernels.vl, i
        cdef ptrdiff_t channels = channel_unit // multiplier
        cdef char *plane = private + self.horizontal.n * self.point * item
        cdef Half halves[2 * LANES_MAX]
        cdef int count = 2
        if self.lanes_are_tiles:
            count = <int>(2 * vl)
            for i in range(count):
                halves[i] = self.half(count * tile_unit + i, channels, 1)
        else:
            for i in range(2):
                if self.pairs_channels:
                    halves[i] = self.half(0, (2 * channels + i) * vl, self.conv.c - (2 * channels + i) * vl)
                else:
                    halves[i] = self.half(2 * tile_unit + i, channels * vl, self.conv.c - channels * vl)
        for i in range(self.vertical.n):
            self.row_forward(call, halves, i, plane + i * row, private)
        self.columns_pointwise(channel_unit, plane)
        for i in range(count):
            halves[i].offset = halves[i].offset * multiplier + channel_unit % multiplier
        for i in range(self.vertical.step):
            self.row_inverse(call, halves, i, multiplier, plane + i * row, private)

    cdef void columns_pointwise(self, ptrdiff_t channel_unit, char *plane) noexcept nogil:
        """Transform each column and its mirror image, multiply by the filter's, transform back; all in place."""
        cdef ptrdiff_t item = self.conv.itemsize, n = self.vertical.n, point = self.point * item, q
        cdef ptrdiff_t filter_column = n * self.filter_point * item
        cdef const char *filters = <const char *>self.packed.data + channel_unit * self.column_pairs * filter_column
        cdef char *first
        cdef char *second
        for q in range(self.column_pairs):
            first = plane + self.column_of[2 * q] * point
            second = plane + self.column_of[2 * q + 1] * point
            self.kernels.fft_forward(&self.along_columns, first, first + point // 2, self.row_step, first, self.row_step)
            if first != second:
                self.kernels.fft_forward(&self.along_columns, second, second + point // 2, self.row_step, second, self.row_step)
            self.multiply(n, first, second, self.row_step, self.mirror, filters + q * filter_column)
            self.kernels.fft_inverse(&self.along_columns, first, self.row_step, first, self.row_step)
            if first != second:
                self.kernels.fft_inverse(&self.along_columns, second, self.row_step, second, self.row_step)


cdef Axis _axis(cut):
    cdef Axis axis
    axis.n, axis.count, axis.step, axis.first, axis.shift = cut.n, cut.count, cut.step, cut.first, cut.shift
    return axis


cdef inline ptrdiff_t _wrapped(ptrdiff_t index, ptrdiff_t n) noexcept nogil:
    index %= n
    return index + n if index < 0 else index


def _mirrors(n):
    """For each position of a spectrum, the position of the mirrored frequency (see fft-inl.h for the order)."""
    n1, n2 = LENGTHS[n]
    frequency = (np.arange(n1)[:, None] + n1 * np.arange(n2)).ravel()
    position = np.argsort(frequency)
    return position[-frequency % n]
