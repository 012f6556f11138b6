cdef class Buffer:
    cdef void *data
    cdef readonly size_t nbytes
