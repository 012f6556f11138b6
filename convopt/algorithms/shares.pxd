from libc.stdint cimport uint64_t

cdef enum:
    MOST_QUEUES = 64    # 4 KiB of stack; more threads than that do not take each other's work


# What one thread has not yet taken of the chunks it began with: from the upper half's to the lower half's. On a cache line
# of its own, since all threads may take from it.
cdef struct Queue:
    uint64_t chunks
    char[56] padding


# Work as a thread sees it.
cdef struct Share:
    int part                     # number of the thread, which is also that of its place in the workspace
    int column                   # of the grid of threads: the one whose items the run has
    ptrdiff_t first, last        # the run: items to do next
    int rows, columns            # of the grid
    ptrdiff_t items, grain
    Queue *queues                # of all threads, by row and column; NULL where each keeps to its own items
    bint begun


cdef Share begin_shares(Queue *queues, int rows, int columns, ptrdiff_t items, ptrdiff_t grain) noexcept nogil
cdef int grid_rows(int threads, ptrdiff_t items, ptrdiff_t columns) noexcept nogil
cdef bint next_run(Share *share) noexcept nogil


cdef inline ptrdiff_t share_begin(ptrdiff_t count, int part, int parts) noexcept nogil:
    """First item of this part when `count` items are split as evenly as whole items allow; the end is part + 1's begin."""
    return count // parts * part + (part if part < count % parts else count % parts)
