"""What this machine can do at most, measured with the kernels of the instruction set in use."""

from cython.parallel cimport prange

import numpy as np

from convopt.kernels.registry cimport Kernels, kernels

#: Elements apart that threads write to: no two in one cache line.
cdef enum: APART = 64


def multiply_add(ptrdiff_t rounds, int threads):
    """Multiply and add in registers only, on so many threads; returns the floating-point operations of all together."""
    cdef const Kernels *table = kernels(4)
    cdef float[:, ::1] results = np.full((threads, APART), 0.5, np.float32)
    cdef double flops = 0
    cdef int thread
    with nogil:
        if threads == 1:
            flops = table.limit_multiply_add(rounds, &results[0, 0])
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                flops += table.limit_multiply_add(rounds, &results[thread, 0])
    return flops


def read(float[:, ::1] numbers, ptrdiff_t repeats):
    """Read row i of `numbers` on thread i, `repeats` times over."""
    cdef const Kernels *table = kernels(4)
    cdef int threads = <int>numbers.shape[0], thread
    cdef ptrdiff_t count = numbers.shape[1], _i
    cdef float[:, ::1] results = np.zeros((threads, APART), np.float32)
    with nogil:
        if threads == 1:
            for _i in range(repeats):
                table.limit_read(count, &numbers[0, 0], &results[0, 0])
        else:
            for thread in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                _read(table, count, &numbers[thread, 0], &results[thread, 0], repeats)


cdef void _read(const Kernels *table, ptrdiff_t count, const float *numbers, float *result, ptrdiff_t repeats) noexcept nogil:
    cdef ptrdiff_t _i
    for _i in range(repeats):
        table.limit_read(count, numbers, result)
