cdef int thread_limit(int wanted) noexcept nogil
