from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.shares cimport Share
from convopt.kernels.registry cimport WinogradAxis, WinogradTile


cdef class Blocks(Convolver):
    cdef const WinogradAxis *h
    cdef const WinogradAxis *w
    cdef Buffer g_h, g_w                     # filter transforms, values x taps
    cdef Buffer tile_y, tile_x               # first output pixel of each row and column of tiles
    cdef ptrdiff_t tile_rows, tile_columns, tiles
    cdef ptrdiff_t pixels_h, pixels_w        # rows and columns of the image that a tile reads,
    cdef ptrdiff_t step_h, step_w            # so far apart
    cdef ptrdiff_t frequencies, filters      # per tile; values of a transformed filter
    cdef ptrdiff_t depth                     # channels that a product sums over
    cdef int nv, nr
    cdef ptrdiff_t vectors, panels           # of output channels of one group; filter panels, at most nv vectors wide
    cdef ptrdiff_t runs                      # parts that the sum over channels is made of
    cdef ptrdiff_t block_tiles, run_tiles    # the most tiles of one block; the fewest of a thread's run, whole blocks of small ones
    cdef ptrdiff_t v_tile, v_frequency       # strides of the transformed input, elements
    cdef ptrdiff_t q_tile, q_frequency       # strides of the sums, elements

    cdef const WinogradAxis *axis(self, form)
    cdef ptrdiff_t odd_lines(self, ptrdiff_t elements) noexcept nogil
    cdef ptrdiff_t padded_k(self) noexcept nogil
    cdef ptrdiff_t panel_begin(self, ptrdiff_t panel) noexcept nogil
    cdef size_t table_size(self) noexcept nogil
    cdef size_t blocks_size(self) noexcept nogil
    cdef size_t part_size(self) noexcept nogil
    cdef const char *panel(self, ptrdiff_t group, ptrdiff_t offset) noexcept nogil
    cdef const char *taps(self, const void *filters) noexcept nogil
    cdef void pack_panel(self, const char *taps, ptrdiff_t column) noexcept nogil
    cdef ptrdiff_t columns(self) noexcept nogil
    cdef int tile_parts(self, int threads) noexcept nogil
    cdef void share_tiles(self, const Call *call, Share *share, WinogradTile *table) noexcept nogil
    cdef void share_panels(self, const Call *call, Share *share, WinogradTile *table) noexcept nogil
    cdef ptrdiff_t run_block(self, const Call *call, ptrdiff_t size, ptrdiff_t column_first, ptrdiff_t column_last,
                             WinogradTile *table, ptrdiff_t transformed) noexcept nogil
    cdef void transform(self, const Call *call, ptrdiff_t group, ptrdiff_t size, const WinogradTile *table, char *v) noexcept nogil
    cdef void multiply(self, const Call *call, ptrdiff_t group, ptrdiff_t panel, ptrdiff_t size, const WinogradTile *table,
                       const char *v, char *q) noexcept nogil
    cdef void locate(self, ptrdiff_t begin, ptrdiff_t size, WinogradTile *tile) noexcept nogil
