"""How the threads of a call divide its work: evenly at first, and again where one is slower than the others.

Threads form a grid. Each row has an equal share of the items of work, in order, of which each column does its part, say for
its own output channels. A share is cut into chunks, and a thread takes half of those it has left at a time: long runs first,
that the caches like, short ones at the end. One that has none left takes half of another's last ones. So a core that
comes late, or is slower since something else has it or its other hardware thread, is waited for no longer than a short run
takes; and where all are equal each does what is its own, in each call the same.

The idea is that of work stealing: R. D. Blumofe, C. E. Leiserson, "Scheduling Multithreaded Computations by Work Stealing",
1999; that of runs which become shorter C. D. Polychronopoulos, D. J. Kuck, "Guided Self-Scheduling", 1987.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>

    /* Take half of the chunks begin..end, the odd one as well, from one end: 0 if there are none. */
    static inline int take_half(uint64_t *chunks, int from_behind, uint32_t *begin, uint32_t *end) {
        uint64_t seen = __atomic_load_n(chunks, __ATOMIC_RELAXED), left;
        do {
            const uint32_t first = (uint32_t)(seen >> 32), last = (uint32_t)seen;
            if (first >= last) return 0;
            const uint32_t half = (last - first + 1) / 2;
            *begin = from_behind ? last - half : first;
            *end = *begin + half;
            left = from_behind ? (uint64_t)first << 32 | *begin : (uint64_t)*end << 32 | last;
        } while (!__atomic_compare_exchange_n(chunks, &seen, left, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
        return 1;
    }
    """
    bint take_half(uint64_t *chunks, bint from_behind, uint32_t *begin, uint32_t *end) noexcept nogil

cdef enum:
    MOST_CHUNKS = 8    # of a share: the last run is an eighth of it


cdef int chunk_count(const Share *share, int row) noexcept nogil:
    """Chunks of a row's share: of at least `grain` items each."""
    cdef ptrdiff_t items = share_begin(share.items, row + 1, share.rows) - share_begin(share.items, row, share.rows)
    return <int>min(<ptrdiff_t>MOST_CHUNKS, max(items // share.grain, <ptrdiff_t>(items > 0)))


cdef void set_run(Share *share, int owner, uint32_t begin, uint32_t end, ptrdiff_t chunks) noexcept nogil:
    """The run of these chunks, of so many, of the thread whose number is `owner`. They hold whole grains, the last one the rest besides."""
    cdef int row = owner // share.columns
    cdef ptrdiff_t start = share_begin(share.items, row, share.rows), stop = share_begin(share.items, row + 1, share.rows)
    cdef ptrdiff_t grains = (stop - start) // share.grain
    share.column = owner % share.columns
    share.first = start + share_begin(grains, <int>begin, <int>chunks) * share.grain
    share.last = stop if end == chunks else start + share_begin(grains, <int>end, <int>chunks) * share.grain


cdef Share begin_shares(Queue *queues, int rows, int columns, ptrdiff_t items, ptrdiff_t grain) noexcept nogil:
    """Work that nothing was taken of yet. queues: MOST_QUEUES of them; more threads than that keep to their own items."""
    cdef Share share
    cdef int owner
    share.part = share.column = 0
    share.first = share.last = 0
    share.rows, share.columns, share.items, share.grain = rows, columns, items, grain
    share.begun = False
    share.queues = NULL
    if 1 < rows * columns <= MOST_QUEUES:
        share.queues = queues
        for owner in range(rows * columns):
            queues[owner].chunks = <uint64_t>chunk_count(&share, owner // columns)
    return share


cdef int grid_rows(int threads, ptrdiff_t items, ptrdiff_t columns) noexcept nogil:
    """Of a grid of threads over items x columns of filters, the rows that make the largest share smallest; of such the most.

    For items which take about as much work to get ready as a column of filters takes to be multiplied by.
    """
    cdef ptrdiff_t share, least = 0
    cdef int p, q, best = 1
    for p in range(<int>min(<ptrdiff_t>threads, items), 0, -1):
        q = <int>min(<ptrdiff_t>(threads // p), columns)
        share = (items + p - 1) // p * ((columns + q - 1) // q + 1)
        if least == 0 or share < least:
            least, best = share, p
    return best


cdef bint next_run(Share *share) noexcept nogil:
    """Take the next run of items: False where there are none left, the thread's own or others'."""
    cdef int turn, owner, threads = share.rows * share.columns
    cdef uint32_t begin, end
    if share.queues == NULL:
        if share.begun or chunk_count(share, share.part // share.columns) == 0:
            return False
        share.begun = True
        set_run(share, share.part, 0, 1, 1)
        return True
    for turn in range(threads):
        owner = (share.part + turn) % threads
        if take_half(&share.queues[owner].chunks, turn > 0, &begin, &end):
            set_run(share, owner, begin, end, chunk_count(share, owner // share.columns))
            return True
    return False


def runs_of(ptrdiff_t items, ptrdiff_t grain, int rows, int columns, takers):
    """For tests: (part, column, first, last) of the runs that threads take, these one after the other, None where there is none."""
    cdef Queue[MOST_QUEUES] queues
    cdef Share share = begin_shares(queues, rows, columns, items, grain)
    cdef list runs = []
    begun = set()
    for part in takers:
        share.part, share.begun = part, part in begun
        begun.add(part)
        taken = next_run(&share)
        runs.append((part, share.column, share.first, share.last) if taken else None)
    return runs
