from convopt.algorithms.contract cimport Conv


cdef inline ptrdiff_t whole(ptrdiff_t count, ptrdiff_t unit) noexcept nogil:
    """`count` rounded up to a multiple of `unit`."""
    return (count + unit - 1) // unit * unit


cdef void pack_panels(const Conv *conv, int vl, int nr, const char *filters, char *to, int threads) noexcept nogil
cdef void pack_rows(const char *source, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t wide, char *to) noexcept nogil
