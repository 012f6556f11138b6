"""Direct convolution as an implicit GEMM: the im2col matrix exists only as a table of row pointers.

For a tile of output pixels the table holds, per filter tap, the address of each pixel's input channels, or of a row
of zeros where the tap falls on padding; so padding, stride and dilation cost nothing inside the product. The idea is
M. Dukhan, "The Indirect Convolution Algorithm", 2019.

Loops, outermost first: share of a thread (pixels x filter panels) > block of pixel tiles whose input stays in L2 >
filter panel > pass of it that stays in L2 > pixel tile. A filter panel is read once per block, a pixel row once per
panel from L1 or L2. Tap rows that lie in the padding for a whole tile are skipped: at 7x7 with a 3x3 kernel that is
up to a tenth of the work.

Filters that are used once are read where they lie if few tiles need them: that their rows are far apart costs less than
moving them. For many tiles that holds only of rows in whole cache lines, which neither stay in L1 once packed nor are read
from beyond L2 more than once. All others are packed when their turn comes, by the share that multiplies by them at once.
"""

from convopt.algorithms import panels
from convopt.algorithms.contract import Work, error_of_sums

from libc.math cimport INFINITY

from convopt.algorithms.contract cimport Call, Convolver
from convopt.algorithms.memory cimport Buffer
from convopt.algorithms.panels cimport pack_panels, pack_rows, whole
from convopt.algorithms.shares cimport Share, next_run, share_begin
from convopt.kernels.registry cimport CONVOPT_LINE_BYTES as CACHE_LINE, Epilogue

NAME = "direct"
REVISION = 6
LAYOUTS = ("NHWC",)
SPREADS_NONFINITE = False

# Input of one block of pixel tiles, bytes: half of the smallest L2 in use, the rest is for the filter panel.
cdef enum:
    BLOCK_BYTES = 1 << 18
    BLOCK_TILES = 64
    TABLE_BYTES = 1 << 20        # row pointers of a block
    PASS_BYTES = 1 << 17         # part of a filter panel multiplied by all tiles of a block before the next part
    L2_WAY_BYTES = 1 << 17       # addresses so far apart meet in one set of the L2 ...
    L2_WAYS = 8                  # ... which holds so many lines
    L1_BYTES = 1 << 14           # half of the smallest L1 in use
    FEW_TILES = 12               # so many do not repay packing, whatever the panel
    RUN_TILES = 8                # of a thread's run at least: their heights are even then, whatever the pixels


def why_not(shape):
    """The reason direct cannot serve a shape: there is none."""
    return None


def candidates(shape):
    """Register-tile widths `nv` in vectors, the one that wastes least first."""
    return panels.widths(shape)


def expected_error(shape, params):
    """That of sums in order."""
    return error_of_sums(shape)


def row_step(shape, params):
    """Any number of rows will do."""
    return 1


def work(shape, params, threads):
    """One pass over input and output per filter panel block; filters once per block of pixels."""
    vl, _ = panels.tiles(shape)
    padded_k = -(-shape.group_k // vl) * vl * shape.groups
    pixels = shape.n * shape.oh * shape.ow
    tensors = shape.itemsize * (shape.n * shape.h * shape.w * shape.c + pixels * shape.k)
    return Work(
        gemm_flops=2.0 * pixels * padded_k * shape.depth,
        # A tap costs a pointer per pixel, a tile its sums' way to memory.
        gemm_efficiency=0.95 * panels.efficiency(shape, params["nv"]) * shape.depth / (shape.depth + 2 * shape.r * shape.s + 14),
        vector_flops=0.0,
        moved_bytes=tensors + shape.itemsize * padded_k * shape.depth,
        parts=max(1, pixels // 8) * shape.groups,
        # What is packed stays in L2; but a panel of the caller's filters is a narrow strip, which comes slower than in a row.
        packing_bytes=float(shape.itemsize * shape.k * shape.depth),
    )


# Where the product finds the filters: packed beforehand; as the caller has them, to be packed when their turn comes, for
# this block or for later ones too; or read where they lie.
cdef enum Source:
    PACKED, PACK, PACK_AND_KEEP, IN_PLACE


# Where a tile begins.
cdef struct Position:
    ptrdiff_t n, oy, ox


# Output pixels multiplied together, and the taps [first, last) that any of them has outside the padding.
cdef struct Tile:
    ptrdiff_t pixel, first, last
    const void **table
    int mr


cdef class Implementation(Convolver):
    cdef int nv, nr, mr
    cdef ptrdiff_t panels
    cdef ptrdiff_t fold, depth, taps     # each tap's channels as `fold` runs of `depth`; taps counts the runs of all taps
    cdef ptrdiff_t pass_taps             # of which so many make a pass
    cdef ptrdiff_t block_tiles           # pixel tiles whose pointers are built at a time
    cdef Buffer zeros
    cdef const char *borrowed            # filters as the caller has them; NULL where they are packed
    cdef bint readable                   # whether the product can read these: panels are whole vectors
    cdef bint roomy                      # whether rows of a pass over these leave room in their cache sets for other data

    def __init__(self, shape, dict params):
        self.nv = params["nv"]
        self.nr = self.nv * self.kernels.vl
        self.mr = self.kernels.mr[self.nv]
        self.panels = (self.conv.group_k + self.nr - 1) // self.nr
        step_bytes = self.nr * self.conv.itemsize
        distance = self.conv.k * self.conv.itemsize
        rows = PASS_BYTES // step_bytes
        tiles = -(-shape.n * shape.oh * shape.ow // self.mr)
        sets = max(1, L2_WAY_BYTES // (distance & -distance))    # groups of them that rows a multiple of a power of two apart share
        self.readable = self.conv.group_k % self.kernels.vl == 0
        self.roomy = min(rows, self.conv.r * self.conv.s * self.conv.group_c) <= L2_WAYS // 2 * sets
        if self.readable and tiles <= FEW_TILES:
            rows = min(rows, L2_WAYS * sets)    # the rows of a pass must not crowd each other out of L2
        self.fold = 1
        while self.conv.group_c // self.fold > rows and self.conv.group_c % (2 * self.fold) == 0:
            self.fold *= 2
        self.depth = self.conv.group_c // self.fold
        self.taps = self.conv.r * self.conv.s * self.fold
        self.pass_taps = max(1, rows // self.depth)
        row_bytes = self.conv.c * self.conv.itemsize * min(self.conv.stride_w, self.conv.s) * min(self.conv.stride_h, self.conv.r)
        self.block_tiles = max(1, min(<int>BLOCK_TILES, BLOCK_BYTES // (row_bytes * self.mr)))
        # A second block would read all filters again: a little more input than planned is better.
        if tiles <= min(<ptrdiff_t>BLOCK_TILES, 2 * self.block_tiles):
            self.block_tiles = max(1, tiles)
        self.block_tiles = max(1, min(self.block_tiles, TABLE_BYTES // (self.taps * self.mr * <ptrdiff_t>sizeof(void *))))
        self.zeros = Buffer(self.depth * self.conv.itemsize)
        self.zeros.fill(0)

    cdef ptrdiff_t padded_k(self) noexcept nogil:
        return whole(self.conv.group_k, self.kernels.vl)

    cdef size_t packed_size(self) noexcept nogil:
        return self.conv.groups * self.padded_k() * self.taps * self.depth * self.conv.itemsize

    cdef size_t table_size(self) noexcept nogil:
        """Bytes of a block's tiles with their row pointers."""
        return self.block_tiles * (sizeof(Tile) + self.taps * self.mr * sizeof(void *))

    cdef size_t pass_size(self) noexcept nogil:
        """Bytes of a pass over a filter panel."""
        return whole(min(self.pass_taps, self.taps) * self.depth * self.nr * self.conv.itemsize, CACHE_LINE)

    cdef size_t workspace_size(self, int threads) noexcept nogil:
        return threads * (self.table_size() + self.pass_size())

    cdef void pack(self, const void *filters, int threads) noexcept nogil:
        pack_panels(&self.conv, self.kernels.vl, self.nr, <const char *>filters, <char *>self.packed.data, threads)
        self.borrowed = NULL

    cdef void borrow(self, const void *filters, int threads) noexcept nogil:
        """Unless several shares would pack the same panels."""
        cdef int rows = self.pixel_parts(threads)
        cdef ptrdiff_t tiles = (self.conv.n * self.conv.oh * self.conv.ow // rows + self.mr - 1) // self.mr
        self.borrowed = <const char *>filters
        if rows > 1 and self.source(tiles, rows) != IN_PLACE:
            self.pack(filters, threads)

    cdef Source source(self, ptrdiff_t tiles, int rows) noexcept nogil:
        """How a share of so many tiles, one of so many along the pixels, uses borrowed filters."""
        cdef bint stays_in_l1 = self.taps * self.depth * self.nr * self.conv.itemsize <= L1_BYTES
        cdef bint once = <ptrdiff_t>self.packed_size() <= 2 * BLOCK_BYTES or tiles <= self.block_tiles    # read from beyond L2
        # Vectors across the borders of cache lines cost two reads.
        cdef bint aligned = <size_t>self.borrowed % (self.kernels.vl * self.conv.itemsize) == 0
        if self.readable and (tiles <= FEW_TILES or (aligned and self.roomy and once and not stays_in_l1)):
            return IN_PLACE
        # What is kept for later blocks must have been packed by the share itself.
        return PACK_AND_KEEP if tiles > self.block_tiles and rows == 1 else PACK

    cdef void run(self, const Call *call) noexcept nogil:
        cdef int rows = self.pixel_parts(call.threads)
        cdef ptrdiff_t pixels = self.conv.n * self.conv.oh * self.conv.ow
        # Filters that the caller keeps are packed by the run that needs them first, for all others of its share: there is one.
        self.fork_join(call, 0, rows, call.threads // rows, pixels, RUN_TILES * self.mr if self.borrowed == NULL else pixels)

    cdef void share(self, const Call *call, int phase, Share *share) noexcept nogil:
        """Pixels."""
        cdef char *memory = call.workspace + share.part * (self.table_size() + self.pass_size())
        while next_run(share):
            self.multiply_run(call, share, memory)

    cdef void multiply_run(self, const Call *call, const Share *run, char *panel) noexcept nogil:
        """Pixels of the run times filters of its column of the grid, block by block."""
        cdef ptrdiff_t columns = self.conv.groups * self.panels, first = run.first, last = run.last
        cdef ptrdiff_t column_first = share_begin(columns, run.column, run.columns)
        cdef ptrdiff_t column_last = share_begin(columns, run.column + 1, run.columns)
        cdef ptrdiff_t tiles = (last - first + self.mr - 1) // self.mr, block = 0, count, column, group, tabled
        cdef Tile *tile = <Tile *>(panel + self.pass_size())
        cdef Source source = PACKED if self.borrowed == NULL else self.source(tiles, run.rows)
        while block < tiles:
            count = min(self.block_tiles, tiles - block)
            tabled = -1
            for column in range(column_first, column_last):
                group = column // self.panels
                if group != tabled:
                    self.fill_block(call.x + group * self.conv.group_c * self.conv.itemsize, first, last, tiles, block, count, tile)
                    tabled = group
                self.multiply(call, column, tile, count, source, panel)
            block += count
            if source == PACK_AND_KEEP:
                source = PACKED

    cdef void fill_block(self, const char *x, ptrdiff_t first, ptrdiff_t last, ptrdiff_t tiles, ptrdiff_t block, ptrdiff_t count,
                         Tile *tile) noexcept nogil:
        """The block's tiles, each with its row pointers: the share's pixels in tiles as even as can be, the taller ones first."""
        cdef ptrdiff_t small = (last - first) // tiles, taller = (last - first) % tiles, index
        cdef ptrdiff_t pixel = first + block * small + min(block, taller)
        cdef const void **table = <const void **>(tile + self.block_tiles)
        cdef Position position = Position(pixel // self.conv.ow // self.conv.oh, pixel // self.conv.ow % self.conv.oh, pixel % self.conv.ow)
        for index in range(block, block + count):
            tile.pixel = pixel
            tile.mr = <int>(small + (index < taller))
            tile.table = table
            self.fill_table(x, &position, tile)
            pixel += tile.mr
            table += self.taps * self.mr
            tile += 1

    cdef void multiply(self, const Call *call, ptrdiff_t column, const Tile *tiles, ptrdiff_t count, Source source,
                       char *memory) noexcept nogil:
        """One filter panel times the block's tiles, pass by pass."""
        cdef ptrdiff_t item = self.conv.itemsize
        cdef ptrdiff_t group = column // self.panels, offset = column % self.panels * self.nr
        cdef ptrdiff_t channel = group * self.conv.group_k + offset
        cdef ptrdiff_t wide = min(<ptrdiff_t>self.nr, self.padded_k() - offset)
        cdef int nr = <int>min(<ptrdiff_t>self.nr, self.conv.group_k - offset)
        cdef ptrdiff_t begin = 0, end, first, last, ldb = self.conv.k if source == IN_PLACE else wide
        cdef const char *filters = self.borrowed + channel * item if self.borrowed != NULL else NULL
        cdef char *panel = <char *>self.packed.data + (group * self.padded_k() + offset) * self.taps * self.depth * item
        cdef const char *part                      # of the panel, which the pass multiplies
        cdef const Tile *tile
        cdef Epilogue plain = call.epilogue[0], epilogue
        plain.lo, plain.hi = -INFINITY, INFINITY
        while begin < self.taps:
            end = min(begin + self.pass_taps, self.taps)
            if source == IN_PLACE:
                part = filters + begin * self.depth * self.conv.k * item
            else:
                part = memory if source == PACK else panel + begin * self.depth * wide * item
                if source != PACKED:
                    pack_rows(filters + begin * self.depth * self.conv.k * item, self.conv.k * item, (end - begin) * self.depth,
                              nr * item, wide * item, <char *>part)
            for tile in tiles[:count]:
                first, last = max(begin, tile.first), min(end, tile.last)
                if first >= last:
                    continue
                # The first pass of a tile brings the bias, the last one the activation.
                epilogue = call.epilogue[0] if last == tile.last else plain
                if first > tile.first:
                    epilogue.bias = NULL
                elif epilogue.bias != NULL:
                    epilogue.bias = <const char *>epilogue.bias + channel * item
                self.kernels.igemm(tile.mr, nr, last - first, self.depth, tile.table + first * tile.mr,
                                   part + (first - begin) * self.depth * ldb * item, ldb,
                                   call.out + (tile.pixel * self.conv.k + channel) * item, self.conv.k, first > tile.first, &epilogue)
            begin = end

    cdef int pixel_parts(self, int threads) noexcept nogil:
        """Threads form a grid, pixel tiles x filter columns: its rows that make the largest share, then the traffic, smallest."""
        cdef ptrdiff_t pixels = self.conv.n * self.conv.oh * self.conv.ow
        cdef ptrdiff_t tiles = (pixels + self.mr - 1) // self.mr, columns = self.conv.groups * self.panels
        cdef double filter_bytes = <double>self.packed_size()
        cdef double input_bytes = <double>(self.conv.n * self.conv.h * self.conv.w * self.conv.c * self.conv.itemsize)
        cdef double share, traffic, best_share = -1, best_traffic = 0
        cdef int p, q, best = 1
        for p in range(1, threads + 1):
            q = threads // p
            share = <double>((tiles + p - 1) // p) * <double>((columns + q - 1) // q)
            traffic = p * filter_bytes + q * input_bytes
            if best_share < 0 or share < 0.97 * best_share or (share < 1.03 * best_share and traffic < best_traffic):
                best_share, best_traffic = share, traffic
                best = p
        return best

    cdef void fill_table(self, const char *x, Position *position, Tile *tile) noexcept nogil:
        """Row pointers of a tile: table[tap * mr + i], and which taps matter; x points at the group's first channel.

        Moves the position on.
        """
        cdef ptrdiff_t ox = position.ox, oy = position.oy, n = position.n, row_taps = self.conv.s * self.fold, y, r
        cdef ptrdiff_t top = self.conv.r, bottom = 0
        cdef int first = 0, last
        while first < tile.mr:
            # Pixels first to last lie in one output row.
            last = <int>min(<ptrdiff_t>tile.mr, first + self.conv.ow - ox)
            for r in range(self.conv.r):
                y = oy * self.conv.stride_h - self.conv.pad_top + r * self.conv.dilation_h
                if 0 <= y < self.conv.h:
                    top, bottom = min(top, r), max(bottom, r + 1)
                    self.fill_row(x + (n * self.conv.h + y) * self.conv.w * self.conv.c * self.conv.itemsize,
                                  ox * self.conv.stride_w - self.conv.pad_left, first, last, tile.mr, tile.table + r * row_taps * tile.mr)
                else:
                    self.fill_zeros(row_taps, first, last, tile.mr, tile.table + r * row_taps * tile.mr)
            ox += last - first
            first = last
            if ox == self.conv.ow:
                ox = 0
                oy += 1
                if oy == self.conv.oh:
                    oy = 0
                    n += 1
        position.n, position.oy, position.ox = n, oy, ox
        # A tile that lies wholly in the padding still has to write its zeros: it keeps one row of taps.
        tile.first = top * row_taps if top < bottom else 0
        tile.last = bottom * row_taps if top < bottom else row_taps

    cdef void fill_zeros(self, ptrdiff_t taps, int first, int last, int mr, const void **table) noexcept nogil:
        cdef ptrdiff_t tap
        cdef int i
        for tap in range(taps):
            for i in range(first, last):
                table[tap * mr + i] = self.zeros.data

    cdef void fill_row(self, const char *line, ptrdiff_t x0, int first, int last, int mr, const void **table) noexcept nogil:
        """A row of taps: pixels first to last read from input row `line`, its column x0 on."""
        cdef ptrdiff_t stride = self.conv.stride_w, pixel_bytes = self.conv.c * self.conv.itemsize, column, run, s
        cdef int begin, end, i
        cdef const char *source
        for s in range(self.conv.s):
            column = x0 + s * self.conv.dilation_w
            begin, end = first, last
            while begin < last and column + (begin - first) * stride < 0:
                begin += 1
            while end > begin and column + (end - 1 - first) * stride >= self.conv.w:
                end -= 1
            for run in range(self.fold):
                source = line + (column + (begin - first) * stride) * pixel_bytes + run * self.depth * self.conv.itemsize
                for i in range(first, begin):
                    table[i] = self.zeros.data
                for i in range(begin, end):
                    table[i] = source
                    source += stride * pixel_bytes
                for i in range(end, last):
                    table[i] = self.zeros.data
                table += mr
