"""FFT convolution of few channels, whose vectors hold something else than channels of the input: pixels, or tiles.

See ``fft`` for what is done when.
"""

from convopt.algorithms.contract cimport Call
from convopt.algorithms.fft_planes cimport LANES_MAX, Half, TiledConvolver
from convopt.kernels.registry cimport CONVOPT_LINE_BYTES, Epilogue, FftWindow

cdef enum:
    STREAM_BYTES = 4 << 20    # results from so many bytes on would only drive other data out of the caches


cdef class FewChannels(TiledConvolver):
    cdef void column_forward(self, char *column) noexcept nogil:
        """Transform a column of a plane in place."""
        self.kernels.fft_forward(&self.along_columns, column, column + self.kernels.vl * self.conv.itemsize, self.row_step,
                                 column, self.row_step)

    # ---- Pixels in lanes: few channels, each with filters of its own ----

    cdef ptrdiff_t line_size(self) noexcept nogil:
        """Elements of a vector of rows."""
        return self.column_groups * self.kernels.vl * self.point

    cdef void plane_of_pixels(self, const Call *call, ptrdiff_t channel, ptrdiff_t pair, char *private) noexcept nogil:
        """One output channel of a pair of tiles, from image to image."""
        cdef ptrdiff_t item = self.conv.itemsize, row = self.row_step * item, point = self.point * item, vl = self.kernels.vl
        cdef ptrdiff_t pixel = self.horizontal.pitch * self.conv.c, out_pixel = self.horizontal.phases_out * self.conv.k
        cdef ptrdiff_t phase, half, i, v
        cdef char *planes = private + self.phases * self.line_size() * item
        cdef char *plane
        cdef Epilogue epilogue = self.epilogue_from(call, channel)
        cdef FftWindow window
        cdef Half halves[2]
        for phase in range(self.phases):
            plane = planes + phase * self.plane * item
            for half in range(2):
                halves[half] = self.half(2 * pair + half, phase)
                self.choose(&halves[half], channel // self.conv.group_k, 1)
            for i in range(self.vertical.n):
                for half in range(2):
                    self.window(call, &halves[half], i, &window)
                    self.kernels.fft_load_columns(&window, self.horizontal.n, pixel, plane + i * row + half * vl * item)
            for v in range(self.column_groups):
                self.column_forward(plane + v * point)
        for v in range(self.row_groups):
            self.rows_of_pixels(channel, v, planes + v * vl * row, private)
        for v in range((self.horizontal.step + vl - 1) // vl):
            self.kernels.fft_inverse(&self.along_columns, planes + v * point, self.row_step, planes + v * point, self.row_step)
        for half in range(2):
            halves[half].offset = channel
        for i in range(self.vertical.step):
            for half in range(2):
                if self.target(call, &halves[half], i, &window):
                    self.kernels.fft_store_columns(window.last, planes + i * row + half * vl * item, <char *>window.pixels, out_pixel,
                                                   &epilogue)

    cdef void rows_of_pixels(self, ptrdiff_t channel, ptrdiff_t group, char *rows, char *lines) noexcept nogil:
        """A vector of rows, in all phases: transformed, multiplied, transformed back as far as there are outputs."""
        cdef ptrdiff_t item = self.conv.itemsize, vl = self.kernels.vl, n = self.horizontal.n, line = self.line_size(), phase
        cdef ptrdiff_t square = vl * self.point
        cdef const char *filters = <const char *>self.packed.data
        cdef char *to
        filters += (channel * self.turned_size() + group * n * self.phases * self.point) * item
        for phase in range(self.phases):
            to = lines + phase * line * item
            self.kernels.fft_turn(self.column_groups, rows + phase * self.plane * item, self.row_step, self.point, to, self.point, square)
            self.kernels.fft_forward(&self.along_rows, to, to + vl * item, self.point, to, self.point)
        self.kernels.fft_multiply(n, self.phases, lines, lines, self.point, line, self.itself, filters)
        self.kernels.fft_inverse(&self.along_rows, lines, self.point, lines, self.point)
        self.kernels.fft_turn((self.horizontal.step + vl - 1) // vl, lines, self.point, square, rows, self.row_step, self.point)

    # ---- Fan: few channels, many filters ----

    cdef void run_fan(self, const Call *call, ptrdiff_t begin, ptrdiff_t end, char *private) noexcept nogil:
        """Pairs of tiles, transformed forth a vector of pairs at a time, and on from there pair by pair."""
        cdef ptrdiff_t item = self.conv.itemsize, vl = self.kernels.vl, row = self.row_step * item, first, phase, c, i, q, v
        cdef char *planes = private + self.fan_vectors * self.horizontal.n * self.point * item
        cdef char *plane
        cdef Half halves[2 * LANES_MAX]
        first = begin
        while first < end:
            for phase in range(self.phases):
                for i in range(vl):
                    halves[i] = self.half(2 * (first + i), phase)
                    halves[vl + i] = self.half(2 * (first + i) + 1, phase)
                for c in range(self.conv.c):
                    for i in range(2 * vl):
                        self.choose(&halves[i], c, 1)
                    plane = planes + (phase * self.conv.c + c) * self.plane * item
                    for i in range(self.vertical.n):
                        self.row_forward(call, halves, i, plane + i * row, private)
                    for q in range(self.horizontal.n):
                        self.column_forward(plane + q * self.point * item)
            v = 0
            while v < self.out_vectors:
                for i in range(min(vl, end - first)):
                    self.fan_columns(planes, i, v, private)
                    self.fan_rows(call, first + i, v, private)
                v += self.fan_vectors
            first += vl

    cdef void fan_columns(self, const char *inputs, ptrdiff_t lane, ptrdiff_t begin, char *private) noexcept nogil:
        """Products of the spectra in one lane with those of a line of filters, transformed back along columns."""
        cdef ptrdiff_t item = self.conv.itemsize, n = self.vertical.n, point = self.point * item, q, _v
        cdef ptrdiff_t filter_step = self.depth * self.point
        cdef char *column = private + (self.fan_vectors * self.horizontal.n * self.point + self.depth * self.plane) * item
        cdef char *output = column + 2 * n * point
        cdef const char *filters = <const char *>self.packed.data
        cdef ptrdiff_t first, second
        inputs += lane * item
        filters += begin * self.filter_points() * filter_step * item
        for _v in range(begin, min(begin + self.fan_vectors, self.out_vectors)):
            for q in range(self.column_pairs):
                first, second = self.column_of[2 * q] * point, self.column_of[2 * q + 1] * point
                self.kernels.fft_fan(
                    n, self.depth, inputs + first, inputs + second, self.row_step, self.plane, self.mirror, filters, filter_step,
                    column, column if first == second else column + n * point, self.point)
                self.kernels.fft_inverse(&self.along_columns, column, self.point, output + first, self.row_step)
                if first != second:
                    self.kernels.fft_inverse(&self.along_columns, column + n * point, self.point, output + second, self.row_step)
                filters += n * filter_step * item
            output += self.plane * item

    cdef void fan_rows(self, const Call *call, ptrdiff_t pair, ptrdiff_t begin, char *private) noexcept nogil:
        """Rows of a line of outputs of one pair of tiles back, to the image: to large ones past the caches."""
        cdef ptrdiff_t item = self.conv.itemsize, vl = self.kernels.vl, line = self.horizontal.n * self.point * item, i, v, half
        cdef ptrdiff_t count = min(self.fan_vectors, self.out_vectors - begin), pixel = self.horizontal.phases_out * self.conv.k
        cdef char *outputs = private + self.fan_vectors * line + (self.depth * self.plane + 2 * self.vertical.n * self.point) * item
        cdef bint streams = self.conv.n * self.conv.oh * self.conv.ow * self.conv.k * item >= STREAM_BYTES and \
            self.conv.k * item % CONVOPT_LINE_BYTES == 0 and <size_t>call.out % CONVOPT_LINE_BYTES == 0
        cdef FftWindow window
        cdef Half tile[2]
        cdef Epilogue epilogue
        cdef char *source
        cdef char *to
        for half in range(2):
            tile[half] = self.half(2 * pair + half, 0)
            self.choose(&tile[half], begin * vl, self.conv.k - begin * vl)
        for i in range(self.vertical.step):
            for v in range(count):
                self.kernels.fft_inverse(&self.along_rows, outputs + (v * self.plane + i * self.row_step) * item, self.point,
                                         private + v * line, self.point)
            for half in range(2):
                if not self.target(call, &tile[half], i, &window):
                    continue
                source, to = private + half * vl * item, <char *>window.pixels
                if streams:
                    epilogue = self.epilogue_from(call, begin * vl)
                    self.kernels.fft_stream(window.last, source, line // item, to, pixel, &epilogue)
                    continue
                for v in range(count):
                    epilogue = self.epilogue_from(call, (begin + v) * vl)
                    self.kernels.fft_store(window.last, source + v * line, <int>min(vl, self.conv.k - (begin + v) * vl),
                                           to + v * vl * item, pixel, 1, &epilogue)
