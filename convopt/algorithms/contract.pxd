from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.shares cimport Share
from convopt.kernels.registry cimport Epilogue, Kernels


# ConvShape as C sees it; sizes in elements.
cdef struct Conv:
    ptrdiff_t n, h, w, c, k, r, s, oh, ow
    ptrdiff_t stride_h, stride_w, dilation_h, dilation_w
    ptrdiff_t pad_top, pad_left
    ptrdiff_t groups, group_c, group_k
    bint nchw
    int itemsize


# The arguments of one call: all that differs between calls of one Convolver.
cdef struct Call:
    const char *x
    const Epilogue *epilogue
    char *out
    char *workspace
    int threads


cdef class Convolver:
    cdef Conv conv
    cdef const Kernels *kernels
    cdef Buffer packed
    cdef readonly object shape
    cdef readonly dict params

    cdef size_t packed_size(self) noexcept nogil
    cdef size_t workspace_size(self, int threads) noexcept nogil
    cdef int allocate(self) except -1
    cdef int take_filters(self, const void *filters, int threads, bint borrow) except -1
    cdef void pack(self, const void *filters, int threads) noexcept nogil
    cdef void borrow(self, const void *filters, int threads) noexcept nogil
    cdef void run(self, const Call *call) noexcept nogil
    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil
    cdef void fork_join(self, const Call *call, int phase, int rows, int columns, ptrdiff_t items, ptrdiff_t grain) noexcept nogil
    cdef void one_share(self, const Call *call, int phase, const Share *whole, int part) noexcept nogil
