cimport numpy as cnp


cdef class Buffer:
    cdef void *data
    cdef readonly size_t nbytes


cdef cnp.ndarray new_array(int ndim, cnp.npy_intp *dims, int type_num, size_t nbytes)
