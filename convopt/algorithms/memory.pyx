"""Aligned memory that lives as long as the object that owns it."""

from libc.stdlib cimport free
from libc.string cimport memset

from convopt.kernels.registry cimport CONVOPT_LINE_BYTES as CACHE_LINE

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **pointer, size_t alignment, size_t size)

cdef extern from "sys/mman.h" nogil:
    enum: MADV_HUGEPAGE
    int madvise(void *address, size_t length, int advice)

cdef enum:
    HUGE_PAGE = 1 << 21


cdef class Buffer:
    """`nbytes` bytes at a multiple of 64, on huge pages where that is large enough to matter.

    Raises MemoryError naming the byte count.
    """

    def __cinit__(self, size_t nbytes):
        cdef bint huge = nbytes >= 2 * HUGE_PAGE
        if posix_memalign(&self.data, HUGE_PAGE if huge else CACHE_LINE, nbytes if nbytes else CACHE_LINE):
            self.data = NULL
            raise MemoryError(f"cannot allocate {nbytes} bytes")
        self.nbytes = nbytes
        if huge:
            madvise(self.data, nbytes, MADV_HUGEPAGE)

    def __dealloc__(self):
        free(self.data)

    def fill(self, int byte):
        """Set every byte; for tests that must notice reads of memory nobody wrote."""
        memset(self.data, byte, self.nbytes)

    @property
    def address(self):
        """Address of the first byte."""
        return <size_t>self.data
