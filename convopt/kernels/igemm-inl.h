/* Indirect GEMM; the contract and diagram are in kernels.h.
 *
 * One fully unrolled body per register tile (mr rows x nv vectors): the accumulators live in registers for the whole
 * sum, each step loads nv vectors of b and multiplies them by mr broadcast elements. */

/* Filter panels outgrow L1 and stream from L2: fetched this many rows ahead they arrive in time (6 % on 7x7x512). A
 * prefetch beyond the end of b faults nothing.
 *
 * What a body fetches is up to its caller: nv vectors a step at `ahead`, which moves by ahead_step. */
enum { PREFETCH_ROWS = 6 };

/* Asks for the lines that a register tile will be written to. */
static ALWAYS_INLINE void fetch_output(const int mr, const int nv, const REAL *out, ptrdiff_t ldo) {
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v += LINE_VECTORS)
        __builtin_prefetch(out + i * ldo + v * VL, 1);
}

/* How the sums of a register tile begin: with the bias, if any. */
static ALWAYS_INLINE void tile_start(const int mr, const int nv, vec (*sum)[CONVOPT_MAX_NV], const REAL *bias,
                                     const REAL *row_bias) {
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) sum[i][v] =
        bias ? load(bias + v * VL) : broadcast(row_bias ? row_bias[i] : 0);
}

/* How they end: clamped and stored, `last` elements of the last vector. */
static ALWAYS_INLINE void tile_finish(const int mr, const int nv, vec (*sum)[CONVOPT_MAX_NV], int last, REAL *out,
                                      ptrdiff_t ldo, const convopt_epilogue *epilogue) {
    /* A product of few steps feels the clamping. */
    if (epilogue->lo > -INFINITY || epilogue->hi < INFINITY) {
        const vec lo = broadcast((REAL)epilogue->lo), hi = broadcast((REAL)epilogue->hi);
        UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < nv; v++) sum[i][v] = clamp(sum[i][v], lo, hi);
    }
    UNROLL for (int i = 0; i < mr; i++, out += ldo) {
        UNROLL for (int v = 0; v < nv - 1; v++) store(out + v * VL, sum[i][v]);
        if (last == VL)
            store(out + (nv - 1) * VL, sum[i][nv - 1]);
        else
            store_first(out + (nv - 1) * VL, sum[i][nv - 1], last);
    }
}

/* sum += out, whose last vector has `last` elements. */
static ALWAYS_INLINE void igemm_add(const int mr, const int nv, vec (*sum)[CONVOPT_MAX_NV], const REAL *out,
                                    ptrdiff_t ldo, int last) {
    UNROLL for (int i = 0; i < mr; i++, out += ldo) {
        UNROLL for (int v = 0; v < nv - 1; v++) sum[i][v] += load(out + v * VL);
        sum[i][nv - 1] += last == VL ? load(out + (nv - 1) * VL) : load_first(out + (nv - 1) * VL, last);
    }
}

static ALWAYS_INLINE void igemm_tile(const int mr, const int nv, int nr, ptrdiff_t taps, ptrdiff_t depth,
                                     const REAL *const *rows, const REAL *b, ptrdiff_t ldb, REAL *out, ptrdiff_t ldo,
                                     int accumulate, const convopt_epilogue *epilogue, const REAL *ahead,
                                     ptrdiff_t ahead_step) {
    vec sum[CONVOPT_MAX_MR][CONVOPT_MAX_NV];
    const int last = nr - (nv - 1) * VL; /* columns of the last vector */
    tile_start(mr, nv, sum, epilogue->bias, epilogue->row_bias);
    /* Where the result goes is seldom in a cache; asked for now, it is there when the sums are done. */
    fetch_output(mr, nv, out, ldo);
    for (ptrdiff_t t = 0; t < taps; t++, rows += mr) {
        const REAL *row[CONVOPT_MAX_MR];
        UNROLL for (int i = 0; i < mr; i++) row[i] = rows[i];
        for (ptrdiff_t c = 0; c < depth; c++, b += ldb, ahead += ahead_step) {
            vec column[CONVOPT_MAX_NV];
            UNROLL for (int v = 0; v < nv; v++) column[v] = load(b + v * VL);
            UNROLL for (int v = 0; v < nv; v += LINE_VECTORS) __builtin_prefetch(ahead + v * VL);
            UNROLL for (int i = 0; i < mr; i++) {
                const vec x = broadcast(row[i][c]);
                UNROLL for (int v = 0; v < nv; v++) sum[i][v] += x * column[v];
            }
        }
    }
    if (accumulate) igemm_add(mr, nv, sum, out, ldo, last);
    tile_finish(mr, nv, sum, last, out, ldo, epilogue);
}

static const int tile_mr[CONVOPT_MAX_NV + 1] = TILE_MR;

/* One function per width, a case per height; tiles taller than the ISA's registers hold are compiled away. */
/* clang-format off */
#define EACH_TILE                                                                                  \
    TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7) TILE(8)                                \
    TILE(9) TILE(10) TILE(11) TILE(12) TILE(13) TILE(14) TILE(15) TILE(16)
#define TILE(MR)                                                                                   \
    case MR:                                                                                       \
        if (MR <= tile_mr[NV] && NV <= NV_MAX)                                                     \
            igemm_tile(MR, NV, nr, taps, depth, rows, b, ldb, out, ldo, accumulate, epilogue,      \
                       ahead, ahead_step);                                                         \
        return;
#define TILES(NAME)                                                                                \
    static __attribute__((noinline)) void NAME(                                                    \
        int mr, int nr, ptrdiff_t taps, ptrdiff_t depth, const REAL *const *rows, const REAL *b,   \
        ptrdiff_t ldb, REAL *out, ptrdiff_t ldo, int accumulate, const convopt_epilogue *epilogue, \
        const REAL *ahead, ptrdiff_t ahead_step) {                                                 \
        switch (mr) { EACH_TILE }                                                                  \
    }
/* clang-format on */
#define NV 1
TILES(igemm_1)
#undef NV
#define NV 2
TILES(igemm_2)
#undef NV
#define NV 3
TILES(igemm_3)
#undef NV
#define NV 4
TILES(igemm_4)
#undef NV
#undef TILE

static __typeof__(&igemm_1) const igemm_by_width[CONVOPT_MAX_NV] = {igemm_1, igemm_2, igemm_3, igemm_4};

static void igemm(int mr, int nr, ptrdiff_t taps, ptrdiff_t depth, const void *const *rows, const void *b,
                  ptrdiff_t ldb, void *out, ptrdiff_t ldo, int accumulate, const convopt_epilogue *epilogue) {
    igemm_by_width[(nr - 1) / VL](mr, nr, taps, depth, (const REAL *const *)rows, b, ldb, out, ldo, accumulate,
                                  epilogue, (const REAL *)b + PREFETCH_ROWS * ldb, ldb);
}
