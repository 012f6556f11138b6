/* The product of windows, or of filters, that lie at equal distances; the contract is in kernels.h.
 *
 * The same register tiles as igemm's, but a tile needs no table of rows: a few base pointers and the distance give all
 * of them, so that a loop over tiles is all there is between two sums. Few steps make a sum here, and what surrounds
 * them counts. Asked for at the start of its own sum, as igemm does, the output comes too late; what OUTPUT_AHEAD says
 * of an ISA was measured (1 to 64 channels, 3x3: 44 GFLOP/s without, 68 with 2 tiles on Zen 3's AVX2; on Emerald
 * Rapids' AVX-512 up to 15 % were lost where the sums are 27 steps long, there with the tile's own output). */

enum { BASE_ROWS = 5 }; /* windows at x + {0, 1, 2, 3, 4} * pitch need two registers beside x, with x86's scales */

static ALWAYS_INLINE void windows_tile(const int mr, const int nv, int last, ptrdiff_t runs, ptrdiff_t length,
                                       const REAL *const *lines, ptrdiff_t first, ptrdiff_t pitch, const REAL *b,
                                       REAL *out, ptrdiff_t ldo, const REAL *bias, const REAL *row_bias,
                                       const convopt_epilogue *epilogue) {
    vec sum[CONVOPT_MAX_MR][CONVOPT_MAX_NV];
    const int bases = (mr + BASE_ROWS - 1) / BASE_ROWS;
    const ptrdiff_t three = 3 * pitch;
    tile_start(mr, nv, sum, bias, row_bias);
    if (OUTPUT_AHEAD) fetch_output(mr, nv, out + OUTPUT_AHEAD * mr * ldo, ldo);
    for (ptrdiff_t run = 0; run < runs; run++) {
        const REAL *x[(CONVOPT_MAX_MR + BASE_ROWS - 1) / BASE_ROWS];
        UNROLL for (int i = 0; i < bases; i++) x[i] = lines[run] + first + i * BASE_ROWS * pitch;
        const REAL *const end = x[0] + length;
        do {
            vec column[CONVOPT_MAX_NV];
            UNROLL for (int v = 0; v < nv; v++) column[v] = load(b + v * VL);
            UNROLL for (int i = 0; i < mr; i++) {
                const int row = i % BASE_ROWS;
                const vec element = broadcast(x[i / BASE_ROWS][row == 3 ? three : row * pitch]);
                UNROLL for (int v = 0; v < nv; v++) sum[i][v] += element * column[v];
            }
            b += nv * VL;
            UNROLL for (int i = 0; i < bases; i++) {
                x[i]++;
                RELOAD(x[i]); /* else each row gets a pointer of its own, more than there are registers */
            }
        } while (x[0] != end);
    }
    tile_finish(mr, nv, sum, last, out, ldo, epilogue);
}

/* All panels of a tile before the next tile: its results are neighbours, and are written in one go. */
static ALWAYS_INLINE void windows_tiles(const int mr, const int nv, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t tiles,
                                        ptrdiff_t columns, ptrdiff_t runs, ptrdiff_t length, const REAL *const *lines,
                                        ptrdiff_t first, ptrdiff_t pitch, const REAL *b, REAL *out, ptrdiff_t ldo,
                                        const convopt_epilogue *epilogue) {
    const REAL *bias = epilogue->bias, *row_bias = epilogue->row_bias;
    for (ptrdiff_t row = 0; row < rows; row++, first += step) {
        ptrdiff_t x = first;
        for (ptrdiff_t t = 0; t < tiles; t++, x += mr * pitch, out += mr * ldo) {
            for (ptrdiff_t j = 0; j < columns; j += nv * VL) {
                const ptrdiff_t left = columns - j - (nv - 1) * VL;
                windows_tile(mr, nv, left < VL ? (int)left : VL, runs, length, lines, x, pitch, b + j * runs * length,
                             out + j, ldo, bias ? bias + j : NULL, row_bias, epilogue);
            }
            if (row_bias) row_bias += mr;
        }
    }
}

/* clang-format off */
#define TILE(MR)                                                                                   \
    case MR:                                                                                       \
        if (MR <= tile_mr[NV] && NV <= NV_MAX)                                                     \
            windows_tiles(MR, NV, rows, step, tiles, columns, runs, length, lines, first, pitch,   \
                          b, out, ldo, epilogue);                                                  \
        return;
#define WINDOWS(NAME)                                                                              \
    static __attribute__((noinline)) void NAME(                                                    \
        int mr, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t tiles, ptrdiff_t columns,                \
        ptrdiff_t runs, ptrdiff_t length, const REAL *const *lines, ptrdiff_t first,               \
        ptrdiff_t pitch, const REAL *b, REAL *out, ptrdiff_t ldo,                                  \
        const convopt_epilogue *epilogue) {                                                        \
        switch (mr) { EACH_TILE }                                                                  \
    }
/* clang-format on */
#define NV 1
WINDOWS(windows_1)
#undef NV
#define NV 2
WINDOWS(windows_2)
#undef NV
#define NV 3
WINDOWS(windows_3)
#undef NV
#define NV 4
WINDOWS(windows_4)
#undef NV
#undef TILE

/* The epilogue of rows from `row` on. */
static convopt_epilogue windows_from(const convopt_epilogue *epilogue, ptrdiff_t row) {
    convopt_epilogue from = *epilogue;
    if (from.row_bias) from.row_bias = (const REAL *)from.row_bias + row;
    return from;
}

/* The tiles of a row are as even as can be: of two heights, which differ by one. */
static void windows_columns(int nv, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t count, ptrdiff_t columns, ptrdiff_t runs,
                            ptrdiff_t length, const void *const *lines_, ptrdiff_t pitch, const REAL *b, REAL *out,
                            ptrdiff_t ldo, const convopt_epilogue *epilogue) {
    static __typeof__(&windows_1) const by_width[CONVOPT_MAX_NV] = {windows_1, windows_2, windows_3, windows_4};
    const REAL *const *lines = (const REAL *const *)lines_;
    const ptrdiff_t tiles = (count + tile_mr[nv] - 1) / tile_mr[nv], taller = count % tiles;
    const int mr = (int)(count / tiles);
    if (taller == 0) {
        by_width[nv - 1](mr, rows, step, tiles, columns, runs, length, lines, 0, pitch, b, out, ldo, epilogue);
        return;
    }
    const ptrdiff_t done = taller * (mr + 1);
    for (ptrdiff_t row = 0; row < rows; row++, out += count * ldo) {
        const convopt_epilogue first = windows_from(epilogue, row * count);
        const convopt_epilogue second = windows_from(epilogue, row * count + done);
        by_width[nv - 1](mr + 1, 1, 0, taller, columns, runs, length, lines, row * step, pitch, b, out, ldo, &first);
        by_width[nv - 1](mr, 1, 0, tiles - taller, columns, runs, length, lines, row * step + done * pitch, pitch, b,
                         out + done * ldo, ldo, &second);
    }
}

static void windows(int nv, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t count, ptrdiff_t columns, ptrdiff_t runs,
                    ptrdiff_t length, const void *const *lines, ptrdiff_t pitch, const void *b, void *out,
                    ptrdiff_t ldo, const convopt_epilogue *epilogue) {
    const ptrdiff_t rest = columns % (nv * VL);
    const ptrdiff_t narrow = rest <= (nv - 1) * VL ? rest : 0; /* columns of a last panel that is narrower than nv */
    const ptrdiff_t wide = columns - narrow;
    convopt_epilogue of_rest = *epilogue;
    if (wide > 0) windows_columns(nv, rows, step, count, wide, runs, length, lines, pitch, b, out, ldo, epilogue);
    if (narrow == 0) return;
    if (of_rest.bias) of_rest.bias = (const REAL *)of_rest.bias + wide;
    windows_columns((int)((narrow + VL - 1) / VL), rows, step, count, narrow, runs, length, lines, pitch,
                    (const REAL *)b + wide * runs * length, (REAL *)out + wide, ldo, &of_rest);
}
