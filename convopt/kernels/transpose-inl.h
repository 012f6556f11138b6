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

static void transpose(ptrdiff_t rows, ptrdiff_t columns, const void *from_, ptrdiff_t ldf, void *to_, ptrdiff_t ldt) {
    const REAL *from = from_;
    REAL *to = to_;
    for (ptrdiff_t i = 0; i < rows; i += VL)
        for (ptrdiff_t j = 0; j < columns; j += VL) {
            const int high = rows - i < VL ? (int)(rows - i) : VL, wide = columns - j < VL ? (int)(columns - j) : VL;
            if (high == VL && wide == VL)
                transpose_whole(from + i * ldf + j, ldf, to + j * ldt + i, ldt);
            else
                transpose_part(high, wide, from + i * ldf + j, ldf, to + j * ldt + i, ldt);
        }
}
