/* The product of filters and windows whose elements are read where they lie; the contract is in kernels.h.
 *
 * A register tile is mr filters x nv spots: a step loads the vector that lies as far from each spot as the tap and
 * channel say, and multiplies it by an element of every filter. Copied to a panel first (`gather`), windows would be
 * aligned and filled to the last lane, which pays for itself only where many filters run over them.
 *
 * Lines of the band come from the second-level cache in more and shorter pieces than the hardware foresees, so what the
 * spots on the right of a tile's will read is asked for (1 to 3 filters of 16 to 32 channels: 1.2 to 1.4 times as
 * fast). */

static ALWAYS_INLINE void lines_tile(const int mr, const int nv, const convopt_spot *spot, ptrdiff_t depth,
                                     const ptrdiff_t *offset, const REAL *filter, ptrdiff_t pitch, const REAL *band,
                                     REAL *out, ptrdiff_t ldo, const REAL *row_bias, const convopt_epilogue *epilogue) {
    vec sum[CONVOPT_MAX_MR][CONVOPT_MAX_NV];
    const REAL *from[CONVOPT_MAX_NV], *x[(CONVOPT_MAX_MR + BASE_ROWS - 1) / BASE_ROWS];
    const int bases = (mr + BASE_ROWS - 1) / BASE_ROWS;
    const ptrdiff_t three = 3 * pitch;
    const ptrdiff_t *const end = offset + depth;
    tile_start(mr, nv, sum, NULL, row_bias);
    UNROLL for (int v = 0; v < nv; v++) from[v] = band + spot[v].in;
    UNROLL for (int i = 0; i < bases; i++) x[i] = filter + i * BASE_ROWS * pitch;
    do {
        vec column[CONVOPT_MAX_NV];
        UNROLL for (int v = 0; v < nv; v++) column[v] = load(from[v] + *offset);
        UNROLL for (int v = 0; v < nv; v += LINE_VECTORS) __builtin_prefetch(from[v] + *offset + nv * VL);
        UNROLL for (int i = 0; i < mr; i++) {
            const int row = i % BASE_ROWS;
            const vec element = broadcast(x[i / BASE_ROWS][row == 3 ? three : row * pitch]);
            UNROLL for (int v = 0; v < nv; v++) sum[i][v] += element * column[v];
        }
        UNROLL for (int i = 0; i < bases; i++) {
            x[i]++;
            RELOAD(x[i]); /* as in windows_tile */
        }
    } while (++offset != end);
    UNROLL for (int v = 0; v < nv; v++) {
        vec of_spot[CONVOPT_MAX_MR][CONVOPT_MAX_NV];
        UNROLL for (int i = 0; i < mr; i++) of_spot[i][0] = sum[i][v];
        tile_finish(mr, 1, of_spot, spot[v].count, out + spot[v].out, ldo, epilogue);
    }
}

static ALWAYS_INLINE void lines_tiles(const int mr, const int nv, ptrdiff_t tiles, ptrdiff_t spots,
                                      const convopt_spot *spot, ptrdiff_t depth, const ptrdiff_t *offsets,
                                      const REAL *filters, ptrdiff_t pitch, const REAL *band, REAL *out, ptrdiff_t ldo,
                                      const REAL *row_bias, const convopt_epilogue *epilogue) {
    for (ptrdiff_t t = 0; t < tiles; t++, filters += mr * pitch, out += mr * ldo) {
        for (ptrdiff_t s = 0; s < spots; s += nv)
            lines_tile(mr, nv, spot + s, depth, offsets, filters, pitch, band, out, ldo, row_bias, epilogue);
        if (row_bias) row_bias += mr;
    }
}

/* clang-format off */
#define TILE(MR)                                                                                   \
    case MR:                                                                                       \
        if (MR <= tile_mr[NV] && NV <= NV_MAX)                                                     \
            lines_tiles(MR, NV, tiles, spots, spot, depth, offsets, filters, pitch, band, out,     \
                        ldo, row_bias, epilogue);                                                  \
        return;
#define LINES(NAME)                                                                                \
    static __attribute__((noinline)) void NAME(                                                    \
        int mr, ptrdiff_t tiles, ptrdiff_t spots, const convopt_spot *spot, ptrdiff_t depth,       \
        const ptrdiff_t *offsets, const REAL *filters, ptrdiff_t pitch, const REAL *band,          \
        REAL *out, ptrdiff_t ldo, const REAL *row_bias, const convopt_epilogue *epilogue) {        \
        switch (mr) { EACH_TILE }                                                                  \
    }
/* clang-format on */
#define NV 1
LINES(lines_1)
#undef NV
#define NV 2
LINES(lines_2)
#undef NV
#define NV 3
LINES(lines_3)
#undef NV
#define NV 4
LINES(lines_4)
#undef NV
#undef TILE

/* Spots that make whole tiles, or fewer; tiles as even as can be. */
static void lines_of(int nv, ptrdiff_t filters, ptrdiff_t spots, const convopt_spot *spot, ptrdiff_t depth,
                     const ptrdiff_t *offsets, const REAL *weights, ptrdiff_t pitch, const REAL *band, REAL *out,
                     ptrdiff_t ldo, const convopt_epilogue *epilogue) {
    static __typeof__(&lines_1) const by_width[CONVOPT_MAX_NV] = {lines_1, lines_2, lines_3, lines_4};
    const REAL *row_bias = epilogue->row_bias;
    const ptrdiff_t tiles = (filters + tile_mr[nv] - 1) / tile_mr[nv], taller = filters % tiles;
    const int mr = (int)(filters / tiles);
    if (taller) {
        by_width[nv - 1](mr + 1, taller, spots, spot, depth, offsets, weights, pitch, band, out, ldo, row_bias,
                         epilogue);
        weights += taller * (mr + 1) * pitch;
        out += taller * (mr + 1) * ldo;
        if (row_bias) row_bias += taller * (mr + 1);
    }
    by_width[nv - 1](mr, tiles - taller, spots, spot, depth, offsets, weights, pitch, band, out, ldo, row_bias,
                     epilogue);
}

static void lines(int nv, ptrdiff_t filters, ptrdiff_t spots, const convopt_spot *spot, ptrdiff_t depth,
                  const ptrdiff_t *offsets, const void *weights, ptrdiff_t pitch, const void *band, void *out,
                  ptrdiff_t ldo, const convopt_epilogue *epilogue) {
    const ptrdiff_t rest = spots % nv, whole = spots - rest;
    if (whole) lines_of(nv, filters, whole, spot, depth, offsets, weights, pitch, band, out, ldo, epilogue);
    if (rest)
        lines_of((int)rest, filters, rest, spot + whole, depth, offsets, weights, pitch, band, out, ldo, epilogue);
}
