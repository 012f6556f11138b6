"""Aligned memory that lives as long as the object that owns it."""

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset, strcpy

cnp.import_array()

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **pointer, size_t alignment, size_t size)

cdef extern from "sys/mman.h" nogil:
    enum: MADV_HUGEPAGE
    int madvise(void *address, size_t length, int advice)

# NumPy's way (NEP 49) to arrays that own memory from elsewhere.
cdef extern from "numpy/arrayobject.h":
    ctypedef struct Allocator "PyDataMemAllocator":
        void *ctx
        void *(*malloc)(void *ctx, size_t size) noexcept nogil
        void *(*calloc)(void *ctx, size_t count, size_t size) noexcept nogil
        void *(*realloc)(void *ctx, void *memory, size_t size) noexcept nogil
        void (*free)(void *ctx, void *memory, size_t size) noexcept nogil

    ctypedef struct Handler "PyDataMem_Handler":
        char name[127]
        unsigned char version
        Allocator allocator

    object PyDataMem_SetHandler(object handler)

cdef enum:
    CACHE_LINE = 64
    PAGE = 4096
    ALIGNED_BYTES = 1 << 14    # arrays of so many bytes begin on a cache line
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


cdef void *aligned_malloc(void *ctx, size_t size) noexcept nogil:
    """Memory at a multiple of 64 that `free` frees; as NumPy does, a large one asks for huge pages."""
    cdef void *memory = NULL
    cdef size_t before
    if posix_memalign(&memory, CACHE_LINE, size if size else CACHE_LINE):
        return NULL
    if size >= 2 * HUGE_PAGE:
        before = (PAGE - <size_t>memory % PAGE) % PAGE
        madvise(<char *>memory + before, size - before, MADV_HUGEPAGE)
    return memory


cdef void *plain_calloc(void *ctx, size_t count, size_t size) noexcept nogil:
    return calloc(count, size)


cdef void *plain_realloc(void *ctx, void *memory, size_t size) noexcept nogil:
    return realloc(memory, size)


cdef void plain_free(void *ctx, void *memory, size_t size) noexcept nogil:
    free(memory)


cdef Handler aligned_handler
strcpy(aligned_handler.name, b"convopt_aligned")
aligned_handler.version = 1
aligned_handler.allocator.ctx = NULL
aligned_handler.allocator.malloc = aligned_malloc
aligned_handler.allocator.calloc = plain_calloc
aligned_handler.allocator.realloc = plain_realloc
aligned_handler.allocator.free = plain_free
cdef object aligned_memory = PyCapsule_New(&aligned_handler, "mem_handler", NULL)


cdef cnp.ndarray new_array(int ndim, cnp.npy_intp *dims, int type_num, size_t nbytes):
    """An uninitialised array of `nbytes`. Vectors stored across two cache lines cost up to 13 %, so a large one is aligned."""
    if nbytes < ALIGNED_BYTES:
        return cnp.PyArray_EMPTY(ndim, dims, type_num, 0)
    before = PyDataMem_SetHandler(aligned_memory)
    try:
        return cnp.PyArray_EMPTY(ndim, dims, type_num, 0)
    finally:
        PyDataMem_SetHandler(before)
