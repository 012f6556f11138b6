cdef int thread_limit(int wanted) noexcept nogil


cdef inline ptrdiff_t share_begin(ptrdiff_t count, int part, int parts) noexcept nogil:
    """First item of this part when `count` items are split as evenly as whole items allow; the end is part + 1's begin."""
    return count // parts * part + (part if part < count % parts else count % parts)
