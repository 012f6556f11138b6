from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.shares cimport Share

cdef enum:
    BLOCK_BYTES = 1 << 17    # input of one block: within the smallest L2 in use


# Output pixels of one block: `rows` output rows from `row` on, columns `column` to `column + width`, of image `image`.
# Only blocks as wide as the output have several rows, so that the pixels of a block follow each other in the output.
cdef struct Block:
    ptrdiff_t image, row, column, rows, width


# Where a block finds its input. Distances in elements: from a row to the next, from a column to the next column that
# is a stride away (pixel) and, within a stride, to the next (phase); from an output row's first input row to the next
# one's (step), and from a tap's input row to the next one's (tap).
cdef struct Band:
    const char *data
    ptrdiff_t row, pixel, phase, channel, step, tap


cdef class Banded(Convolver):
    cdef int nv, nr, mr
    cdef ptrdiff_t depth                     # elements of a window
    cdef ptrdiff_t columns                   # pieces of a group's filters that threads may share
    cdef ptrdiff_t segments, block_rows      # parts of an output row; output rows of a block
    cdef ptrdiff_t band_rows, band_width     # of the largest block, in pixels
    cdef bint every_row                      # band rows are numbered by (output row, tap), not by input row

    cdef void cut(self, ptrdiff_t most) noexcept nogil
    cdef size_t band_size(self) noexcept nogil
    cdef ptrdiff_t band_columns(self) noexcept nogil
    cdef size_t part_size(self) noexcept nogil
    cdef ptrdiff_t units(self) noexcept nogil
    cdef Block block_at(self, ptrdiff_t unit, ptrdiff_t last) noexcept nogil
    cdef Band band_of(self, const char *x, const Block *block, ptrdiff_t group, char *memory) noexcept nogil
    cdef void place(self, Band *band, const char *memory) noexcept nogil
    cdef ptrdiff_t rows_of(self, const Block *block) noexcept nogil
    cdef ptrdiff_t row_at(self, const Block *block, ptrdiff_t index) noexcept nogil
    cdef void copy_band(self, const char *x, const Block *block, ptrdiff_t group, char *memory, Band *band) noexcept nogil
    cdef void clear_margins(self, char *memory) noexcept nogil
    cdef void copy_row(self, const char *source, ptrdiff_t x0, char *to) noexcept nogil
    cdef void multiply(self, const Call *call, const Block *block, const Band *band, ptrdiff_t group, ptrdiff_t column_first,
                       ptrdiff_t column_last, char *memory) noexcept nogil
