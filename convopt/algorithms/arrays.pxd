cimport numpy as cnp


cdef cnp.ndarray empty(int ndim, cnp.npy_intp *dims, int type_num, size_t nbytes)
