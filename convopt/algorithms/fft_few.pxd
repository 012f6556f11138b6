from convopt.algorithms.contract cimport Call
from convopt.algorithms.fft_planes cimport TiledConvolver


cdef class FewChannels(TiledConvolver):
    cdef void column_forward(self, char *column) noexcept nogil
    cdef ptrdiff_t line_size(self) noexcept nogil
    cdef void plane_of_pixels(self, const Call *call, ptrdiff_t channel, ptrdiff_t pair, char *private) noexcept nogil
    cdef void rows_of_pixels(self, ptrdiff_t channel, ptrdiff_t group, char *rows, char *lines) noexcept nogil
    cdef void run_fan(self, const Call *call, ptrdiff_t begin, ptrdiff_t end, char *private) noexcept nogil
    cdef void fan_columns(self, const char *inputs, ptrdiff_t lane, ptrdiff_t begin, char *private) noexcept nogil
    cdef void fan_rows(self, const Call *call, ptrdiff_t pair, ptrdiff_t begin, char *private) noexcept nogil
