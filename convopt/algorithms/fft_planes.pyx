"""What both roads of FFT convolution stand on: the cut into tiles, the filters' spectra, and the rows of tiles.

A *plane* is the complex tile of one vector of channels: its real and its imaginary half are two real tiles. Rows of a
plane are transformed as they come from the image, and transformed back as they go there.
"""

import numpy as np

from convopt.algorithms.fft_tiles import fan_vectors, tiling
from convopt.kernels.fourier import LENGTHS

from cython.parallel cimport prange
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.shares cimport share_begin
from convopt.kernels.registry cimport Epilogue, FftLength, FftWindow, kernels


cdef class TiledConvolver(Convolver):
    """Geometry, transforms and packed filters; how planes go through the phases is the subclass's."""

    def __init__(self, shape, dict params):
        cut = tiling(shape, params["nh"], params["nw"])
        if cut is None:
            raise ValueError(f"tiles of {params['nh']} x {params['nw']} points cannot hold a kernel of {shape.r} x {shape.s}")
        self.vertical = _axis(cut.vertical, cut.phases[0])
        self.horizontal = _axis(cut.horizontal, cut.phases[1])
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
        self.pointwise, self.pairs_channels = cut.is_pointwise, cut.pairs_channels(self.kernels.vl)
        self.tiles, self.pairs = cut.tiles, (cut.tiles + 1) // 2
        self.lanes_are_pixels = cut.lanes_are_pixels(self.kernels.vl)
        self.fans_out = cut.fans_out(self.kernels.vl)
        self.fan_vectors = fan_vectors(self.kernels.vl * self.kernels.itemsize)
        self.multiply, self.filter_point, self.tile_units = self.kernels.fft_multiply, 2 * self.kernels.vl, self.pairs
        if self.pairs_channels:
            self.multiply, self.filter_point = self.kernels.fft_multiply_two, 4 * self.kernels.vl
        self.itself = self.indices(np.arange(params["nw"]))
        self.row_groups, self.column_groups = (-(-n // self.kernels.vl) for n in (params["nh"], params["nw"]))
        self.in_vectors, self.out_vectors = cut.vectors(self.kernels.vl)
        self.phases, self.depth = cut.inputs, cut.depth(self.kernels.vl)
        self.batch = cut.batch(self.kernels.vl)
        self.point = 2 * self.kernels.vl
        # Odd multiples of a point: a power of two would put a whole column into a few sets of the cache.
        self.row_step = ((self.column_groups if self.lanes_are_pixels else self.horizontal.n) | 1) * self.point
        self.plane = (self.row_groups * self.kernels.vl if self.lanes_are_pixels else self.vertical.n) * self.row_step
        self.in_step = (self.batch * self.in_vectors | 1) * self.point
        self.out_step = (self.batch * self.out_vectors | 1) * self.point
        self.pack_scratch = Buffer(self.pack_scratch_size())

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
        if self.lanes_are_pixels:
            return self.conv.k
        return ((vectors + 1) // 2 if self.pairs_channels else vectors) * self.conv.group_k

    cdef size_t packed_size(self) noexcept nogil:
        cdef ptrdiff_t elements
        if self.lanes_are_pixels:
            return self.channel_units() * self.turned_size() * self.conv.itemsize
        if self.pointwise:
            elements = self.channel_units() * self.phases * self.filter_point
        else:
            elements = self.conv.groups * self.out_vectors * self.depth * self.point
        return elements * self.filter_points() * self.conv.itemsize

    cdef ptrdiff_t turned_size(self) noexcept nogil:
        """Elements of the spectrum of a channel's filter, where lanes are pixels."""
        return self.row_groups * self.horizontal.n * self.phases * self.point

    # ---- Filters ----

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        """Spectra in the order the products read them, lanes being output channels:

        dense      [group][column pair][row][vector of outputs][phase][input channel]
        fan        [vector of outputs][column pair][row][phase][input channel]
        pointwise  [vector of channels][multiplier][column pair][row][phase], with paired vectors [2] at the end;
                   where lanes are pixels, in this case rows, [channel][multiplier][vector of rows][column][phase]
        """
        cdef ptrdiff_t scratch_size = self.pack_scratch_size(), units = self.pack_units()
        cdef int part, parts = <int>max(min(threads, units), 1)
        cdef char *scratch = NULL
        memset(self.packed.data, 0, self.packed_size())
        if parts > 1:
            scratch = <char *>malloc(parts * scratch_size)
        if scratch == NULL:
            self.pack_share(filters, 0, 1, <double *>self.pack_scratch.data)
            return
        for part in prange(parts, num_threads=parts, schedule="static", chunksize=1):
            self.pack_share(filters, part, parts, <double *>(scratch + part * scratch_size))
        free(scratch)

    cdef ptrdiff_t pack_scratch_size(self) noexcept nogil:
        """Bytes of half-transformed rows of a vector of filters, and of a column."""
        return (self.conv.r * (self.horizontal.n | 1) + self.vertical.n) * 2 * self.pack_kernels.vl * sizeof(double)

    cdef ptrdiff_t pack_units(self) noexcept nogil:
        """Pieces of work of packing: filters of up to a vector of output channels each."""
        cdef ptrdiff_t lanes = 1 if self.lanes_are_pixels else self.kernels.vl
        if self.pointwise:
            return (self.conv.c + lanes - 1) // lanes * self.conv.group_k * self.phases
        return self.conv.groups * self.out_vectors * self.conv.group_c * self.phases

    cdef void pack_share(self, const void *filters, int part, int parts, double *scratch) noexcept nogil:
        cdef ptrdiff_t units = self.pack_units(), multiplier = self.conv.group_k, vl = self.kernels.vl
        cdef ptrdiff_t item, unit, phase, group, vector, c, k, first, step, source, lane, count, channels, j
        cdef ptrdiff_t lanes = self.pack_kernels.vl
        cdef double scale = 0.5 if self.pairs_channels else 1.0
        if self.lanes_are_pixels:
            lanes = vl = 1
        for item in range(share_begin(units, part, parts), share_begin(units, part + 1, parts)):
            if self.pointwise:
                unit, phase = item // self.phases, item % self.phases
                vector, k = unit // multiplier, unit % multiplier
                step, lane = self.phases * self.filter_point, multiplier
                first = phase * self.filter_point + (vector % 2 * self.point if self.pairs_channels else 0)
                first += ((vector // 2 if self.pairs_channels else vector) * multiplier + k) * self.filter_points() * step
                if self.lanes_are_pixels:
                    first = unit * self.turned_size() + phase * self.point
                source, channels = vector * vl * multiplier + k, self.conv.c - vector * vl
            else:
                # Input channels change fastest: they lie side by side in each of the frequencies.
                unit, c = item // self.conv.group_c, item % self.conv.group_c
                vector, phase = unit // self.phases, unit % self.phases
                group, vector = vector // self.out_vectors, vector % self.out_vectors
                step, lane = self.out_vectors * self.depth * self.point, 1
                first = group * self.filter_points() * step + vector * self.depth * self.point
                if self.fans_out:
                    step = self.depth * self.point
                    first = vector * self.filter_points() * step
                first += (phase * self.depth // self.phases + c) * self.point
                source, channels = c * self.conv.k + group * multiplier + vector * vl, multiplier - vector * vl
            count = min(channels, vl)
            j = 0
            while j < count:
                self.pack_lanes(filters, source + j * lane, lane, min(lanes, count - j), first + j, step, phase, scale,
                                scratch)
                j += lanes

    cdef void pack_lanes(self, const void *filters, ptrdiff_t source, ptrdiff_t lane, ptrdiff_t count, ptrdiff_t first,
                         ptrdiff_t step, ptrdiff_t phase, double scale, double *rows) noexcept nogil:
        """The spectra of a phase of `count` filters, `lane` elements apart from element `source` of a tap on, to elements first,
        first + 1, ... of every frequency, `step` apart. In float64; conjugated, because the product is to be a correlation."""
        cdef ptrdiff_t vl = self.pack_kernels.vl, point = 2 * vl, row_step = (self.horizontal.n | 1) * point
        cdef ptrdiff_t taps = self.conv.group_c * self.conv.k, first_tap, r, s, j, q, i
        cdef ptrdiff_t phase_r = phase // self.horizontal.phases_in, phase_s = phase % self.horizontal.phases_in
        cdef ptrdiff_t taps_r = _reaching(self.conv.r - phase_r, self.vertical.taps)
        cdef ptrdiff_t taps_s = _reaching(self.conv.s - phase_s, self.horizontal.taps)
        cdef ptrdiff_t imaginary = self.kernels.vl
        cdef double *column = rows + self.conv.r * row_step
        cdef double *to
        cdef double *line
        scale /= self.vertical.n * self.horizontal.n
        memset(rows, 0, self.conv.r * row_step * sizeof(double))
        for r in range(taps_r):
            line = rows + r * row_step
            first_tap = (phase_r + r * self.vertical.taps) * self.conv.s + phase_s
            for s in range(taps_s):
                to = line + _wrapped(s - self.horizontal.shift, self.horizontal.n) * point
                self.add_taps(to, filters, (first_tap + s * self.horizontal.taps) * taps + source, lane, count)
            self.pack_kernels.fft_forward(&self.pack_rows, line, line + vl, point, line, point)
        for q in range(self.column_pairs):
            memset(column, 0, self.vertical.n * point * sizeof(double))
            for r in range(taps_r):
                to = column + _wrapped(r - self.vertical.shift, self.vertical.n) * point
                line = rows + r * row_step + self.column_of[2 * q] * point
                for j in range(0, point, 2):
                    to[j] += line[j]
                    to[j + 1] += line[j + 1]
            self.pack_kernels.fft_forward(&self.pack_columns, column, column + vl, point, column, point)
            if self.lanes_are_pixels:
                self.put_turned(first, q, column, scale)
                continue
            for i in range(self.vertical.n):
                self.put(first, column + i * point, count, scale)
                self.put(first + imaginary, column + i * point + vl, count, -scale)
                first += step

    cdef void put_turned(self, ptrdiff_t first, ptrdiff_t q, const double *column, double scale) noexcept nogil:
        """Of the filter whose spectrum begins at element `first`, the q-th column in the lane of each row, and its mirror image."""
        cdef ptrdiff_t vl = self.kernels.vl, i, side, to, row
        for i in range(self.vertical.n):
            for side in range(2):
                row = self.mirror[i] if side else i
                to = first + (row // vl * self.horizontal.n + self.column_of[2 * q + side]) * self.phases * self.point + row % vl
                self.put(to, column, 1, scale)
                self.put(to + vl, column + self.pack_kernels.vl, 1, scale if side else -scale)
            column += 2 * self.pack_kernels.vl

    cdef void add_taps(self, double *to, const void *filters, ptrdiff_t index, ptrdiff_t lane, ptrdiff_t count) noexcept nogil:
        """to[j] += filters[index + j * lane] for j < count."""
        cdef const float *single = <const float *>filters + index
        cdef const double *double_ = <const double *>filters + index
        cdef ptrdiff_t j
        if self.conv.itemsize == 8:
            for j in range(count):
                to[j] += double_[j * lane]
        elif lane == 1 and count == 8:    # a constant count becomes vector instructions
            for j in range(8):
                to[j] += single[j]
        else:
            for j in range(count):
                to[j] += single[j * lane]

    cdef void put(self, ptrdiff_t index, const double *values, ptrdiff_t count, double scale) noexcept nogil:
        """packed[index + j] = values[j] * scale for j < count."""
        cdef float *single = <float *>self.packed.data + index
        cdef double *double_ = <double *>self.packed.data + index
        cdef ptrdiff_t j
        if self.conv.itemsize == 8:
            for j in range(count):
                double_[j] = values[j] * scale
        elif count == 8:
            for j in range(8):
                single[j] = <float>(values[j] * scale)
        else:
            for j in range(count):
                single[j] = <float>(values[j] * scale)

    # ---- Rows: between the image and planes of half-transformed tiles ----

    cdef Half half(self, ptrdiff_t tile, ptrdiff_t phase) noexcept nogil:
        """Where a tile lies in its image: its points of one input phase, and its outputs. Its channels are chosen later."""
        cdef ptrdiff_t column = tile % self.horizontal.count, rest = tile // self.horizontal.count
        cdef ptrdiff_t row = rest % self.vertical.count, phase_y, phase_x, y, x
        cdef Half half
        rest //= self.vertical.count
        phase_x, rest = rest % self.horizontal.phases_out, rest // self.horizontal.phases_out
        phase_y, half.image = rest % self.vertical.phases_out, rest // self.vertical.phases_out
        half.offset, half.channels = 0, 0
        half.first = half.last = half.column = half.top = half.row = half.left = half.width = 0
        if tile >= self.tiles:
            return half
        y, x = row * self.vertical.step, column * self.horizontal.step
        half.top = (y + self.vertical.first) * self.vertical.pitch + phase_y * self.conv.stride_h + \
            phase // self.horizontal.phases_in * self.conv.dilation_h - self.vertical.start
        half.column = (x + self.horizontal.first) * self.horizontal.pitch + phase_x * self.conv.stride_w + \
            phase % self.horizontal.phases_in * self.conv.dilation_w - self.horizontal.start
        half.first = _reaching(-half.column, self.horizontal.pitch)
        half.last = min(_reaching(self.conv.w - half.column, self.horizontal.pitch), self.horizontal.held)
        half.column += half.first * self.horizontal.pitch
        half.row = y * self.vertical.phases_out + phase_y
        half.left = x * self.horizontal.phases_out + phase_x
        half.width = min(_reaching(self.conv.ow - half.left, self.horizontal.phases_out), self.horizontal.step)
        return half

    cdef void choose(self, Half *half, ptrdiff_t offset, ptrdiff_t channels) noexcept nogil:
        """`channels` channels from `offset` on, or a vector where there are more."""
        half.offset, half.channels = offset, <int>max(min(<ptrdiff_t>self.kernels.vl, channels), 0)

    cdef bint window(self, const Call *call, const Half *half, ptrdiff_t i, FftWindow *window) noexcept nogil:
        """What row i of a tile sees of the image; False where that is nothing but padding."""
        cdef ptrdiff_t y = half.top + i * self.vertical.pitch
        window.first, window.last = half.first, half.last
        if half.channels == 0 or not 0 <= y < self.conv.h or i >= self.vertical.held or half.first >= half.last:
            window.first = window.last = 0
            return False
        y += half.image * self.conv.h
        window.pixels = call.x + ((y * self.conv.w + half.column) * self.conv.c + half.offset) * self.conv.itemsize
        return True

    cdef bint target(self, const Call *call, const Half *half, ptrdiff_t i, FftWindow *window) noexcept nogil:
        """The outputs of row i of a tile; False where there are none."""
        cdef ptrdiff_t y = half.row + i * self.vertical.phases_out
        window.first = window.last = 0
        if half.channels == 0 or y >= self.conv.oh or half.width == 0:
            return False
        window.last = half.width
        y += half.image * self.conv.oh
        window.pixels = call.out + ((y * self.conv.ow + half.left) * self.conv.k + half.offset) * self.conv.itemsize
        return True

    cdef void row_forward(self, const Call *call, const Half *halves, ptrdiff_t i, char *to, char *scratch) noexcept nogil:
        """Row i of a plane, transformed, to `to`. halves: real and imaginary; where lanes are tiles, vl of each."""
        cdef FftWindow windows[2 * LANES_MAX]
        cdef ptrdiff_t n = self.horizontal.n, vl = self.kernels.vl, item = self.conv.itemsize, j
        cdef ptrdiff_t pixel = self.horizontal.pitch * self.conv.c
        cdef bint some = False
        for j in range(2 * vl if self.fans_out else 2):
            some = self.window(call, halves + j, i, &windows[j]) or some
        if not some:
            memset(to, 0, n * self.point * item)
            return
        if self.fans_out:
            self.kernels.fft_load_tiles(windows, n, pixel, scratch)
            self.kernels.fft_load_tiles(windows + vl, n, pixel, scratch + vl * item)
        elif windows[0].last - windows[0].first == n and windows[1].last - windows[1].first == n and \
                halves[0].channels == vl and halves[1].channels == vl:
            self.kernels.fft_forward(&self.along_rows, windows[0].pixels, windows[1].pixels, pixel, to, self.point)
            return
        else:
            self.kernels.fft_load(&windows[0], n, pixel, halves[0].channels, scratch)
            self.kernels.fft_load(&windows[1], n, pixel, halves[1].channels, scratch + vl * item)
        self.kernels.fft_forward(&self.along_rows, scratch, scratch + vl * item, self.point, to, self.point)

    cdef void row_inverse(self, const Call *call, const Half *halves, ptrdiff_t i, ptrdiff_t lane, char *line,
                          char *scratch) noexcept nogil:
        """Transform row i back and store its pixels; lanes that are channels lie `lane` elements apart in the output."""
        cdef FftWindow window
        cdef ptrdiff_t vl = self.kernels.vl, pixel = self.horizontal.phases_out * self.conv.k, half
        cdef Epilogue epilogue
        cdef char *source = scratch
        self.kernels.fft_inverse(&self.along_rows, line, self.point, scratch, self.point)
        for half in range(2):
            if self.target(call, halves + half, i, &window):
                epilogue = self.epilogue_from(call, halves[half].offset)
                self.kernels.fft_store(window.last, source, halves[half].channels, <char *>window.pixels, pixel, lane, &epilogue)
            source += vl * self.conv.itemsize

    cdef Epilogue epilogue_from(self, const Call *call, ptrdiff_t channel) noexcept nogil:
        """The call's epilogue for outputs from a channel on."""
        cdef Epilogue epilogue = call.epilogue[0]
        if epilogue.bias != NULL:
            epilogue.bias = <const char *>epilogue.bias + channel * self.conv.itemsize
        return epilogue


cdef Axis _axis(cut, phases):
    cdef Axis axis
    axis.n, axis.count, axis.step, axis.first, axis.shift, axis.held = cut.n, cut.count, cut.step, cut.first, cut.shift, cut.held
    axis.phases_out, axis.phases_in = phases.outputs, phases.inputs
    axis.pitch, axis.taps, axis.start = phases.pitch, phases.taps, phases.start
    return axis


cdef inline ptrdiff_t _reaching(ptrdiff_t distance, ptrdiff_t step) noexcept nogil:
    """The fewest steps that reach so far."""
    return 0 if distance <= 0 else distance if step == 1 else (distance + step - 1) // step


cdef inline ptrdiff_t _wrapped(ptrdiff_t index, ptrdiff_t n) noexcept nogil:
    index %= n
    return index + n if index < 0 else index


def _mirrors(n):
    """For each position of a spectrum, the position of the mirrored frequency (see fft-inl.h for the order)."""
    n1, n2 = LENGTHS[n]
    frequency = (np.arange(n1)[:, None] + n1 * np.arange(n2)).ravel()
    position = np.argsort(frequency)
    return position[-frequency % n]
