"""Results: NumPy arrays whose data begin at a cache line.

NumPy's own allocations begin 16 bytes beyond a multiple of 64, so that every store of a 64-byte vector touches two cache
lines, which tells where there are few multiply-adds to a store, as in depthwise layers. NEP 49 lets an array own memory of
another allocator: the arrays made here own theirs as any other array does, and may be resized.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport numpy as cnp

from convopt.kernels.registry cimport CONVOPT_LINE_BYTES as CACHE_LINE

cdef extern from "sys/mman.h" nogil:
    enum: MADV_HUGEPAGE
    int madvise(void *address, size_t length, int advice)

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *ctx, size_t size) noexcept
        void *(*calloc)(void *ctx, size_t count, size_t size) noexcept
        void *(*realloc)(void *ctx, void *data, size_t size) noexcept
        void (*free)(void *ctx, void *data, size_t size) noexcept

    ctypedef struct PyDataMem_Handler:
        char name[127]
        uint8_t version
        PyDataMemAllocator allocator

    object PyDataMem_SetHandler(object handler)

cnp.import_array()

cdef enum:
    PAGE = 4096
    HUGE_ENOUGH = 1 << 22    # from where NumPy's own allocator asks for huge pages, too
    WORTH_ALIGNING = 1 << 14    # bytes; setting NumPy's allocator takes a tenth of a microsecond

# What malloc gave, and how many bytes were asked for, stand right before the data.
cdef struct Header:
    void *block
    size_t size


cdef inline Header *header_of(void *data) noexcept nogil:
    return <Header *>data - 1


cdef void *allocate(void *ctx, size_t size) noexcept nogil:
    cdef size_t space = CACHE_LINE + sizeof(Header)
    cdef char *block
    cdef char *data
    cdef uintptr_t page
    if size > <size_t>-1 - space:
        return NULL
    block = <char *>malloc(size + space)
    if block == NULL:
        return NULL
    data = <char *>((<uintptr_t>block + space) & ~<uintptr_t>(CACHE_LINE - 1))
    header_of(data).block, header_of(data).size = block, size
    if size >= HUGE_ENOUGH:
        page = (<uintptr_t>data + PAGE - 1) & ~<uintptr_t>(PAGE - 1)
        madvise(<void *>page, <uintptr_t>data + size - page, MADV_HUGEPAGE)
    return data


cdef void *allocate_zeros(void *ctx, size_t count, size_t size) noexcept nogil:
    cdef void *data
    if size and count > <size_t>-1 // size:
        return NULL
    data = allocate(ctx, count * size)
    if data != NULL:
        memset(data, 0, count * size)
    return data


cdef void release(void *ctx, void *data, size_t size) noexcept nogil:
    if data != NULL:
        free(header_of(data).block)


cdef void *reallocate(void *ctx, void *data, size_t size) noexcept nogil:
    cdef void *moved = allocate(ctx, size)
    if moved != NULL and data != NULL:
        memcpy(moved, data, min(size, header_of(data).size))
        release(ctx, data, 0)
    return moved


cdef PyDataMem_Handler HANDLER
HANDLER.name[:13] = b"convopt lines"
HANDLER.version = 1
HANDLER.allocator.malloc, HANDLER.allocator.calloc = allocate, allocate_zeros
HANDLER.allocator.realloc, HANDLER.allocator.free = reallocate, release
cdef object CAPSULE = PyCapsule_New(&HANDLER, "mem_handler", NULL)


cdef cnp.ndarray empty(int ndim, cnp.npy_intp *dims, int type_num, size_t nbytes):
    """A new array, uninitialised, of `nbytes` bytes; at a cache line unless it is too small to matter."""
    cdef object before
    if nbytes < WORTH_ALIGNING:
        return cnp.PyArray_EMPTY(ndim, dims, type_num, 0)
    before = PyDataMem_SetHandler(CAPSULE)
    try:
        return cnp.PyArray_EMPTY(ndim, dims, type_num, 0)
    finally:
        PyDataMem_SetHandler(before)
