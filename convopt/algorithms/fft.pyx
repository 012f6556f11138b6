"""Convolution as a product of spectra, tile by tile: its cost hardly depends on the size of the kernel.

The image is cut into overlapping tiles (see ``fft_tiles``). Filters are real, so two real tiles are transformed as the
real and imaginary part of one complex tile and come back so. SIMD lanes are channels. Two roads:

* *dense*: three steps for a batch of tile pairs. Rows of all tiles are transformed as they are read from the image;
  then, column by column, transform, one complex matrix product (pairs x channels times channels x filters) per
  frequency, inverse transform, all while the column is in cache; then rows are transformed back and stored.
  Columns of mirrored frequencies go together: their filter spectra are conjugates, so half of them is kept.
* *pointwise* (depthwise, or one channel and one filter): a pair of tiles of one vector of channels goes all the way in
  one piece of memory. A single tile pairs two vectors of channels instead. With few channels, lanes are pixels of one
  channel: columns of the tiles while columns are transformed, and rows while rows are, turned in between and after.
* *fan* (many filters on a channel or a few): lanes of the input spectra are pairs of tiles, lanes of the output spectra
  filters. The spectra of one pair and a cache line of filters stay in the second-level cache from product to image; large
  results bypass the caches.

Strides and dilations make phases, each of stride 1 (see ``fft_phases``): those of the output are more tiles, those of the
input more channels. Every thread works on rows or columns of its own. Spectra are kept in the order the transforms leave them in.
"""

import math

from convopt.algorithms.contract import Work
from convopt.algorithms.fft_tiles import holds_kernel, largest_kernel, tiling, tilings

from convopt.algorithms.contract cimport Call
from convopt.algorithms.fft_few cimport FewChannels
from convopt.algorithms.fft_planes cimport Half
from convopt.algorithms.shares cimport Share, next_run
from convopt.kernels.registry cimport kernels

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *address) noexcept nogil

NAME = "fft"
REVISION = 6
LAYOUTS = ("NHWC",)
SPREADS_NONFINITE = True


def why_not(shape):
    """Kernels beyond the longest transform are not served."""
    if not shape.is_empty and not holds_kernel(shape):
        return f"the kernel is {shape.r} x {shape.s}; fft serves kernels of up to {largest_kernel()} taps along each axis"
    return None


def candidates(shape):
    """Tile sizes nh x nw in points, in the order of their estimated time."""
    return [{"nh": cut.vertical.n, "nw": cut.horizontal.n} for cut in tilings(shape, kernels(shape.itemsize).vl)]


def expected_error(shape, params):
    """Rounding grows with the number of passes, hardly with the kernel or the channels."""
    passes = 1 + math.log2(params["nh"] * params["nw"])
    return float((2.5e-8 if shape.dtype == "float32" else 5e-17) * passes)


def row_step(shape, params):
    """None: all rows at once."""
    return None


def work(shape, params, threads):
    """Products of spectra, transforms of input and output tiles, and the bytes of both and of the filters' spectra."""
    cut = tiling(shape, params["nh"], params["nw"])
    vl = kernels(shape.itemsize).vl
    if cut.is_pointwise:
        parts = cut.units(vl)
    elif cut.fans_out(vl):
        parts = (cut.tiles + 1) // 2
    else:
        parts = shape.groups * (params["nw"] // 2 + 1)
    return Work(
        gemm_flops=cut.gemm_flops(vl),
        # Where a multiply-add cannot broadcast its operand, loading it is as much work again.
        gemm_efficiency=0.9 if kernels(shape.itemsize).nv_max > 3 else 0.65,
        vector_flops=cut.vector_flops(vl),
        moved_bytes=cut.moved_bytes(vl),
        parts=parts,
        packing_flops=20.0 * math.log2(cut.points) * cut.filter_bytes / shape.itemsize**2,
    )


cdef enum Stage:
    ROWS, COLUMNS, ROWS_BACK, STAGES


cdef class Implementation(FewChannels):
    cdef size_t planes_size(self) noexcept nogil:
        """Bytes of the planes that all threads share: input and output spectra of a batch, between row and column transforms."""
        if self.pointwise or self.fans_out:
            return 0
        return self.batch * self.conv.groups * (self.in_vectors + self.out_vectors) * self.plane * self.conv.itemsize

    cdef size_t private_size(self) noexcept nogil:
        """Bytes of one thread: a row, and a plane or two mirrored columns of all pairs before and after the product."""
        cdef ptrdiff_t elements = self.horizontal.n * self.point
        if self.lanes_are_pixels:
            elements = self.phases * (self.line_size() + self.plane)
        elif self.pointwise:
            elements += self.phases * self.plane
        elif self.fans_out:
            elements = self.fan_vectors * (self.horizontal.n * self.point + self.plane)
            elements += self.depth * self.plane + 2 * self.vertical.n * self.point
        else:
            elements += 2 * self.vertical.n * (self.in_step + self.out_step) + self.batch * self.in_vectors * self.kernels.vl
        return (elements * self.conv.itemsize + 63) // 64 * 64

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return self.planes_size() + threads * self.private_size()

    # ---- Phases ----

    cdef void run(self, const Call *call) noexcept nogil:
        cdef ptrdiff_t batches = (self.pairs + self.batch - 1) // self.batch
        cdef int phase
        if self.pointwise:
            self.fork_join(call, 0, call.threads, 1, self.channel_units() * self.tile_units, 1)
        elif self.fans_out:
            self.fork_join(call, 0, call.threads, 1, self.pairs, self.kernels.vl)
        else:
            for phase in range(<int>(batches * STAGES)):
                self.fork_join(call, phase, call.threads, 1, self.stage_items(phase), 1)

    cdef ptrdiff_t batch_pairs(self, int phase) noexcept nogil:
        """Pairs of tiles of a phase's batch."""
        return min(self.batch, self.pairs - phase // <int>STAGES * self.batch)

    cdef ptrdiff_t stage_items(self, int phase) noexcept nogil:
        """Pieces of a phase's work: columns, or rows of a vector of channels. There may be as few rows as threads."""
        cdef Stage stage = <Stage>(phase % <int>STAGES)
        if stage == COLUMNS:
            return self.conv.groups * self.horizontal.n
        return self.batch_pairs(phase) * self.conv.groups * (
            self.vertical.n * self.in_vectors if stage == ROWS else self.vertical.step * self.out_vectors)

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        cdef char *private = call.workspace + self.planes_size() + share.part * self.private_size()
        cdef Stage stage = <Stage>(phase % <int>STAGES)
        while next_run(share):
            if self.pointwise:
                self.run_pointwise(call, share.first, share.last, private)
            elif self.fans_out:
                self.run_fan(call, share.first, share.last, private)
            elif stage == COLUMNS:
                self.run_columns(call, self.batch_pairs(phase), share.first, share.last, private)
            else:
                self.run_rows(call, stage, phase // <int>STAGES * self.batch, share.first, share.last, private)
        if self.fans_out:
            self.kernels.stream_end()

    cdef void run_rows(self, const Call *call, Stage stage, ptrdiff_t first, ptrdiff_t begin, ptrdiff_t end, char *private) noexcept nogil:
        """Rows of pairs first, first + 1, ...: from the image to the input planes, or from the output planes to the image.

        They are counted in pieces, one for each phase and vector of channels.
        """
        cdef bint back = stage == ROWS_BACK
        cdef ptrdiff_t rows = self.vertical.step if back else self.vertical.n
        cdef ptrdiff_t phases = 1 if back else self.phases, groups = self.conv.groups
        cdef ptrdiff_t vectors = (self.out_vectors if back else self.in_vectors) // phases
        cdef ptrdiff_t channels = self.conv.group_k if back else self.conv.group_c
        cdef ptrdiff_t pieces = phases * groups * vectors
        cdef ptrdiff_t item = begin // pieces, piece, pair, i, phase, group, vector, plane, half
        cdef char *planes = call.workspace
        cdef char *line
        cdef Half halves[2]
        if back:
            planes += self.batch * groups * self.in_vectors * self.plane * self.conv.itemsize
        while item * pieces < end:
            pair, i = item // rows, item % rows
            phase = -1
            for piece in range(max(begin - item * pieces, 0), min(end - item * pieces, pieces)):
                group, vector = piece // vectors % groups, piece % vectors
                if piece // (groups * vectors) != phase:
                    phase = piece // (groups * vectors)
                    for half in range(2):
                        halves[half] = self.half(2 * (first + pair) + half, phase)
                for half in range(2):
                    self.choose(&halves[half], group * channels + vector * self.kernels.vl, channels - vector * self.kernels.vl)
                plane = ((pair * groups + group) * phases + phase) * vectors + vector
                line = planes + (plane * self.plane + i * self.row_step) * self.conv.itemsize
                if back:
                    self.row_inverse(call, halves, i, 1, line, private)
                else:
                    self.row_forward(call, halves, i, line, private)
            item += 1

    cdef void run_columns(self, const Call *call, ptrdiff_t pairs, ptrdiff_t begin, ptrdiff_t end, char *private) noexcept nogil:
        """Pairs of mirrored columns of a group each, those whose first column is one of these; all groups' columns are numbered."""
        cdef ptrdiff_t weight = 0, group, q
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
        cdef ptrdiff_t filter_step = self.out_vectors * self.depth * point
        for d in range(columns):
            for p in range(pairs):
                for v in range(self.in_vectors):
                    source = planes + ((p * self.conv.groups + group) * self.in_vectors + v) * self.plane * item + \
                        self.column_of[2 * q + d] * point
                    self.fetch_column(source + self.plane * item)
                    self.kernels.fft_forward(&self.along_columns, source, source + point // 2, self.row_step,
                                             inputs + d * in_column + (p * self.in_vectors + v) * point, self.in_step)
        filters += (group * self.column_pairs + q) * n * filter_step
        for i in range(n):
            j = self.mirror[i]
            if columns == 2 or i <= j:
                self.kernels.fft_product(
                    pairs, self.depth, self.out_vectors, inputs + i * self.in_step * item, self.in_vectors * self.point,
                    filters + i * filter_step, outputs + i * self.out_step * item, self.out_vectors * self.point, False, scratch)
            if columns == 2 or i < j:
                self.kernels.fft_product(
                    pairs, self.depth, self.out_vectors, inputs + (columns - 1) * in_column + j * self.in_step * item,
                    self.in_vectors * self.point, filters + i * filter_step,
                    outputs + (columns - 1) * out_column + j * self.out_step * item, self.out_vectors * self.point, True, scratch)
        for d in range(columns):
            for p in range(pairs):
                for v in range(self.out_vectors):
                    self.fetch_column(target + ((p * self.conv.groups + group) * self.out_vectors + v + 1) * self.plane * item +
                                      self.column_of[2 * q + d] * point)
                    self.kernels.fft_inverse(
                        &self.along_columns, outputs + d * out_column + (p * self.out_vectors + v) * point, self.out_step,
                        target + ((p * self.conv.groups + group) * self.out_vectors + v) * self.plane * item +
                        self.column_of[2 * q + d] * point, self.row_step)

    cdef void fetch_column(self, const char *column) noexcept nogil:
        """Ask for a column of a plane, whose points lie too far apart for the processor to foresee them."""
        cdef ptrdiff_t item = self.conv.itemsize, row = self.row_step * item, i, line
        for i in range(self.vertical.n):
            for line in range(0, self.point * item, 64):
                prefetch(column + i * row + line)

    cdef void run_pointwise(self, const Call *call, ptrdiff_t begin, ptrdiff_t end, char *private) noexcept nogil:
        """Planes of work: channels x multiplier x tiles, tiles changing fastest so that a filter's spectrum is reused."""
        cdef ptrdiff_t unit
        for unit in range(begin, end):
            if self.lanes_are_pixels:
                self.plane_of_pixels(call, unit // self.tile_units, unit % self.tile_units, private)
            else:
                self.plane_pointwise(call, unit // self.tile_units, unit % self.tile_units, private)

    cdef void plane_pointwise(self, const Call *call, ptrdiff_t channel_unit, ptrdiff_t tile_unit, char *private) noexcept nogil:
        """One complex plane from image to image."""
        cdef ptrdiff_t item = self.conv.itemsize, row = self.row_step * item, multiplier = self.conv.group_k, vl = self.kernels.vl, i
        cdef ptrdiff_t channels = channel_unit // multiplier, phase
        cdef char *plane = private + self.horizontal.n * self.point * item
        cdef Half halves[2]
        for phase in range(self.phases):
            for i in range(2):
                if self.pairs_channels:
                    halves[i] = self.half(0, phase)
                    self.choose(&halves[i], (2 * channels + i) * vl, self.conv.c - (2 * channels + i) * vl)
                else:
                    halves[i] = self.half(2 * tile_unit + i, phase)
                    self.choose(&halves[i], channels * vl, self.conv.c - channels * vl)
            for i in range(self.vertical.n):
                self.row_forward(call, halves, i, plane + phase * self.plane * item + i * row, private)
        self.columns_pointwise(channel_unit, plane)
        for i in range(2):
            halves[i].offset = halves[i].offset * multiplier + channel_unit % multiplier
        for i in range(self.vertical.step):
            self.row_inverse(call, halves, i, multiplier, plane + i * row, private)

    cdef void columns_pointwise(self, ptrdiff_t channel_unit, char *plane) noexcept nogil:
        """Transform each column and its mirror image, multiply by the filter's, transform back, in the plane of the first phase."""
        cdef ptrdiff_t item = self.conv.itemsize, n = self.vertical.n, point = self.point * item, q, phase
        cdef ptrdiff_t filter_column = n * self.phases * self.filter_point * item
        cdef const char *filters = <const char *>self.packed.data + channel_unit * self.column_pairs * filter_column
        cdef char *first
        cdef char *second
        for q in range(self.column_pairs):
            first = plane + self.column_of[2 * q] * point
            second = plane + self.column_of[2 * q + 1] * point
            for phase in range(self.phases):
                self.column_forward(first + phase * self.plane * item)
                if first != second:
                    self.column_forward(second + phase * self.plane * item)
            self.multiply(n, self.phases, first, second, self.row_step, self.plane, self.mirror, filters + q * filter_column)
            self.kernels.fft_inverse(&self.along_columns, first, self.row_step, first, self.row_step)
            if first != second:
                self.kernels.fft_inverse(&self.along_columns, second, self.row_step, second, self.row_step)
