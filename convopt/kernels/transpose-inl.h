/* Blocked transpose; the contract is in kernels.h. A block's rows and columns both stay within L1. */

enum { TRANSPOSE_BLOCK = 16 };

static void transpose(ptrdiff_t rows, ptrdiff_t columns, const void *from_, ptrdiff_t ldf, void *to_, ptrdiff_t ldt) {
    const REAL *from = from_;
    REAL *to = to_;
    for (ptrdiff_t i0 = 0; i0 < rows; i0 += TRANSPOSE_BLOCK)
        for (ptrdiff_t j0 = 0; j0 < columns; j0 += TRANSPOSE_BLOCK) {
            const ptrdiff_t i1 = rows - i0 < TRANSPOSE_BLOCK ? rows : i0 + TRANSPOSE_BLOCK;
            const ptrdiff_t j1 = columns - j0 < TRANSPOSE_BLOCK ? columns : j0 + TRANSPOSE_BLOCK;
            for (ptrdiff_t j = j0; j < j1; j++)
                for (ptrdiff_t i = i0; i < i1; i++) to[j * ldt + i] = from[i * ldf + j];
        }
}
