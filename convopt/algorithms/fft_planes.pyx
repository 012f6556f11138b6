"""What both roads of FFT convolution stand on: the cut into tiles, the filters' spectra, and the rows of tiles.

A *plane* is the complex tile of one vector of channels: its real and its imaginary half are two real tiles. Rows of a
plane are transformed as they come from the image, and transformed back as they go there.
"""

import numpy as np

from convopt.algorithms.fft_tiles import tiling
from convopt.kernels.fourier import LENGTHS

from libc.string cimport memset

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.kernels.registry cimport Epilogue, FftLength, FftWindow, kernels


cdef class TiledConvolver(Convolver):
    """Geometry, transforms and packed filters; how planes go through the phases is the subclass's."""

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
        cdef ptrdiff_t taps = self.conv.group_c * self.conv.k, r, s, j, q, i, target
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
                for j in range(count):
                    to[j] += self.element(filters, (r * self.conv.s + s) * taps + source + j * lane)
            self.pack_kernels.fft_forward(&self.pack_rows, line, line + vl, point, line, point)
        for q in range(self.column_pairs):
            memset(column, 0, self.vertical.n * point * sizeof(double))
            for r in range(self.conv.r):
                to = column + _wrapped(r - self.vertical.shift, self.vertical.n) * point
                line = rows + r * row_step + self.column_of[2 * q] * point
                for j in range(point):
                    to[j] += line[j]
            self.pack_kernels.fft_forward(&self.pack_columns, column, column + vl, point, column, point)
            for i in range(self.vertical.n):
                target = first + (q * self.vertical.n + i) * step
                for j in range(count):
                    self.put(target + j, column[i * point + j] * scale)
                    self.put(target + imaginary + j, -column[i * point + vl + j] * scale)

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
        cdef ptrdiff_t n = self.horizontal.n, vl = self.kernels.vl, item = self.conv.itemsize, j
        cdef bint some = False
        for j in range(2 * vl if self.lanes_are_tiles else 2):
            some = self.window(call, halves + j, i, &windows[j]) or some
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
        cdef ptrdiff_t vl = self.kernels.vl, _part, j
        cdef Epilogue epilogue
        cdef char *source = scratch
        self.kernels.fft_inverse(&self.along_rows, line, self.point, scratch, self.point)
        for _part in range(2):
            epilogue = call.epilogue[0]
            if epilogue.bias != NULL:
                epilogue.bias = <const char *>epilogue.bias + halves[0].offset * self.conv.itemsize
            if self.lanes_are_tiles:
                for j in range(vl):
                    self.target(call, halves + j, i, &windows[j])
                self.kernels.fft_store_tiles(windows, source, self.conv.k, &epilogue)
                halves += vl
            else:
                if self.target(call, halves, i, &windows[0]):
                    self.kernels.fft_store(windows[0].last, source, halves[0].channels, <char *>windows[0].pixels, self.conv.k, lane,
                                           &epilogue)
                halves += 1
            source += vl * self.conv.itemsize


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
