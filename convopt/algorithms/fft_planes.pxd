from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.kernels.registry cimport Epilogue, FftLength, FftMultiply, FftWindow, Kernels


# One axis of the cut, as fft_tiles.Axis describes it, and its phases, as fft_phases.Phases does.
cdef struct Axis:
    ptrdiff_t n, count, step, first, shift, held
    ptrdiff_t phases_out, phases_in, pitch, taps, start


# What one half (real or imaginary) of a plane holds: `channels` channels from `offset` on of one tile of an image.
cdef struct Half:
    ptrdiff_t image
    ptrdiff_t top                       # row of the image, which may be outside, under the tile's first row of points
    ptrdiff_t first, last, column       # points first <= j < last of a row are pixels, from this column on
    ptrdiff_t row, left, width          # the first output, and how many a row has: none where there is no such tile
    ptrdiff_t offset
    int channels


cdef enum:
    LANES_MAX = 16


cdef class TiledConvolver(Convolver):
    cdef Axis vertical, horizontal
    cdef FftLength along_rows, along_columns           # transforms of nw and of nh points
    cdef FftLength pack_rows, pack_columns             # the same in float64
    cdef const Kernels *pack_kernels
    cdef list tables                                   # owners of what the pointers below point at
    cdef const ptrdiff_t *mirror                       # position of the mirrored frequency, along a column
    cdef const ptrdiff_t *itself                       # as many positions as a row has, each its own
    cdef const ptrdiff_t *column_of                    # two per pair of mirrored columns, equal where it is its own mirror
    cdef ptrdiff_t column_pairs
    cdef bint pointwise, pairs_channels, lanes_are_pixels, fans_out
    cdef FftMultiply *multiply                         # pointwise: the product of a column and a filter's
    cdef ptrdiff_t filter_point                        # pointwise: elements of a filter's spectrum per frequency
    cdef ptrdiff_t tile_units                          # pointwise: planes that all tiles of a channel make
    cdef ptrdiff_t row_groups, column_groups           # vectors of rows, and of columns, of a tile
    cdef ptrdiff_t tiles, pairs, batch
    cdef ptrdiff_t phases                              # input phases
    cdef ptrdiff_t fan_vectors                         # vectors of output channels that a fan makes at a time
    cdef ptrdiff_t in_vectors, out_vectors             # vectors of channels of one group, inputs in all phases
    cdef ptrdiff_t depth                               # input channels that a product sums, those of all phases
    cdef ptrdiff_t point, row_step, plane, in_step, out_step   # elements: a point, a row of a plane, a plane, a row of columns
    cdef Buffer pack_scratch

    cdef FftLength length(self, int n, dtype)
    cdef const ptrdiff_t *indices(self, values)
    cdef ptrdiff_t filter_points(self) noexcept nogil
    cdef ptrdiff_t channel_units(self) noexcept nogil
    cdef ptrdiff_t turned_size(self) noexcept nogil
    cdef ptrdiff_t pack_scratch_size(self) noexcept nogil
    cdef ptrdiff_t pack_units(self) noexcept nogil
    cdef void pack_share(self, const void *filters, int part, int parts, double *scratch) noexcept nogil
    cdef void pack_lanes(self, const void *filters, ptrdiff_t source, ptrdiff_t lane, ptrdiff_t count, ptrdiff_t first,
                         ptrdiff_t step, ptrdiff_t phase, double scale, double *rows) noexcept nogil
    cdef void put_turned(self, ptrdiff_t first, ptrdiff_t q, const double *column, double scale) noexcept nogil
    cdef void add_taps(self, double *to, const void *filters, ptrdiff_t index, ptrdiff_t lane, ptrdiff_t count) noexcept nogil
    cdef void put(self, ptrdiff_t index, const double *values, ptrdiff_t count, double scale) noexcept nogil
    cdef Half half(self, ptrdiff_t tile, ptrdiff_t phase) noexcept nogil
    cdef void choose(self, Half *half, ptrdiff_t offset, ptrdiff_t channels) noexcept nogil
    cdef bint window(self, const Call *call, const Half *half, ptrdiff_t i, FftWindow *window) noexcept nogil
    cdef bint target(self, const Call *call, const Half *half, ptrdiff_t i, FftWindow *window) noexcept nogil
    cdef void row_forward(self, const Call *call, const Half *halves, ptrdiff_t i, char *to, char *scratch) noexcept nogil
    cdef void row_inverse(self, const Call *call, const Half *halves, ptrdiff_t i, ptrdiff_t lane, char *line, char *scratch) noexcept nogil
    cdef Epilogue epilogue_from(self, const Call *call, ptrdiff_t channel) noexcept nogil
