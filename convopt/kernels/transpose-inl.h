/* Transposing; the contract is in kernels.h.
 *
 * A square of vl x vl elements is transposed in registers, stage by stage: blocks off the diagonal change places.
 * Squares at the right and lower edge are loaded and stored in part. */

/* v[i][j] <-> v[j][i] */
static ALWAYS_INLINE void transpose_square(vec *v) {
    UNROLL for (int half = VL / 2; half; half /= 2) {
        lanes low = {0}, high = {0};
        UNROLL for (int l = 0; l < VL; l++) {
            low[l] = l & half ? VL + l - half : l;
            high[l] = l & half ? VL + l : l + half;
        }
        UNROLL for (int i = 0; i < VL; i++) {
            if (i & half) continue;
            const vec a = v[i], b = v[i + half];
            v[i] = __builtin_shuffle(a, b, low);
            v[i + half] = __builtin_shuffle(a, b, high);
        }
    }
}

static ALWAYS_INLINE void transpose_whole(const REAL *from, ptrdiff_t ldf, REAL *to, ptrdiff_t ldt) {
    vec v[VL];
    UNROLL for (int i = 0; i < VL; i++) v[i] = load(from + i * ldf);
    transpose_square(v);
    UNROLL for (int j = 0; j < VL; j++) store(to + j * ldt, v[j]);
}

static __attribute__((noinline)) void transpose_part(int rows, int columns, const REAL *from, ptrdiff_t ldf, REAL *to,
                                                     ptrdiff_t ldt) {
    vec v[VL];
    UNROLL for (int i = 0; i < VL; i++) v[i] = i < rows ? load_first(from + i * ldf, columns) : broadcast(0);
    transpose_square(v);
    UNROLL for (int j = 0; j < VL; j++) {
        if (j < columns) store_first(to + j * ldt, v[j], rows);
    }
}

/* Fewer rows than lanes, which follow each other in `to`: what a whole vector writes past a column's rows the next
 * column overwrites. The last columns, behind which there may be nothing, are for transpose_part. */
static void transpose_few(int rows, ptrdiff_t columns, const REAL *from, ptrdiff_t ldf, REAL *to) {
    ptrdiff_t j = 0;
    for (; j + VL < columns && (columns - j - VL) * rows >= VL; j += VL) {
        vec v[VL];
        UNROLL for (int i = 0; i < VL; i++) v[i] = i < rows ? load(from + i * ldf + j) : broadcast(0);
        transpose_square(v);
        UNROLL for (int l = 0; l < VL; l++) store(to + (j + l) * rows, v[l]);
    }
    for (; j < columns; j += VL)
        transpose_part(rows, columns - j < VL ? (int)(columns - j) : VL, from + j, ldf, to + j * rows, rows);
}

/* Squares at the edges are transposed in part. */
static void transpose_edge(ptrdiff_t rows, ptrdiff_t columns, const REAL *from, ptrdiff_t ldf, REAL *to,
                           ptrdiff_t ldt) {
    for (ptrdiff_t i = 0; i < rows; i += VL)
        for (ptrdiff_t j = 0; j < columns; j += VL) {
            const int high = rows - i < VL ? (int)(rows - i) : VL, wide = columns - j < VL ? (int)(columns - j) : VL;
            if (high == VL && wide == VL)
                transpose_whole(from + i * ldf + j, ldf, to + j * ldt + i, ldt);
            else
                transpose_part(high, wide, from + i * ldf + j, ldf, to + j * ldt + i, ldt);
        }
}

enum { LINE = CONVOPT_LINE_BYTES / REAL_BYTES > VL ? CONVOPT_LINE_BYTES / REAL_BYTES : VL, LINES_AHEAD = 4 };

/* LINE x LINE elements: whole cache lines on both sides. Those that lie further apart, rows of `from` or of `to`, may
 * all fall into one set of the cache, so as many of them as a vector has lanes are finished before the next; and they
 * begin too many streams for the hardware to foresee. */
static ALWAYS_INLINE void transpose_lines(const REAL *from, ptrdiff_t ldf, REAL *to, ptrdiff_t ldt) {
    if (ldf > ldt)
        for (int i = 0; i < LINE; i += VL) {
            for (int j = 0; j < LINE; j += VL) transpose_whole(from + i * ldf + j, ldf, to + j * ldt + i, ldt);
            UNROLL for (int l = 0; l < VL; l++) __builtin_prefetch(from + (i + l) * ldf + LINES_AHEAD * LINE);
        }
    else
        for (int j = 0; j < LINE; j += VL) {
            for (int i = 0; i < LINE; i += VL) transpose_whole(from + i * ldf + j, ldf, to + j * ldt + i, ldt);
            UNROLL for (int l = 0; l < VL; l++) __builtin_prefetch(to + (j + l) * ldt + LINE, 1);
        }
}

static void transpose(ptrdiff_t rows, ptrdiff_t columns, const void *from_, ptrdiff_t ldf, void *to_, ptrdiff_t ldt) {
    const REAL *from = from_;
    REAL *to = to_;
    if (rows < VL && ldt == rows) {
        transpose_few((int)rows, columns, from, ldf, to);
        return;
    }
    for (ptrdiff_t i = 0; i < rows; i += LINE)
        for (ptrdiff_t j = 0; j < columns; j += LINE) {
            const ptrdiff_t high = rows - i < LINE ? rows - i : LINE, wide = columns - j < LINE ? columns - j : LINE;
            if (high == LINE && wide == LINE)
                transpose_lines(from + i * ldf + j, ldf, to + j * ldt + i, ldt);
            else
                transpose_edge(high, wide, from + i * ldf + j, ldf, to + j * ldt + i, ldt);
        }
}
