/* The contracts of the micro-kernels: written once (the *-inl.h files), built once per ISA and element type
 * (isa/ *.c), chosen once at import (dispatch.c).
 *
 * A kernel knows no OpenMP, no allocation and no environment. Pointers are untyped here because a driver is written
 * once for both element types; every stride and count is in ELEMENTS of that type. No pointer need be aligned
 * beyond its element unless a contract says so.
 */
#ifndef CONVOPT_KERNELS_H
#define CONVOPT_KERNELS_H

#include <stddef.h>

#define CONVOPT_MAX_NV 4  /* widest register tile, in vectors, of any ISA */
#define CONVOPT_MAX_MR 16 /* tallest register tile, in rows, of any ISA */

/* What happens to a sum on its way to memory: clamp(sum + bias, lo, hi). NaN passes through.
 * `bias` has one value per column, `row_bias` one per row; either may be NULL, not both may be given.
 * No activation is lo = -inf, hi = +inf; relu is (0, inf); relu6 is (0, 6). */
typedef struct {
    const void *bias;
    const void *row_bias;
    double lo, hi;
} convopt_epilogue;

/* Indirect GEMM, the product under direct, im2col and Winograd: for 0 <= i < mr, 0 <= j < nr
 *
 *   out[i*ldo + j] = epilogue( start + sum_{t < taps} sum_{c < depth} rows[t*mr + i][c] * b[(t*depth + c)*ldb + j] )
 *
 * where start is out[i*ldo + j] if `accumulate`, else 0.
 *
 *            j: nr columns ->
 *   rows[0] ----c---->   b: one row of at least ceil(nr/vl)*vl readable elements per (t, c), ldb apart
 *   rows[1] ----c---->
 *   ...                  out: mr rows, ldo apart; columns nr and beyond are not touched
 *
 * 1 <= mr <= mr[nv] and nv = ceil(nr/vl) <= nv_max of the kernel set; taps, depth >= 1.
 * A padded pixel's row points at a row of zeros. `bias` also needs ceil(nr/vl)*vl readable elements. */
typedef void convopt_igemm(int mr, int nr, ptrdiff_t taps, ptrdiff_t depth, const void *const *rows, const void *b,
                           ptrdiff_t ldb, void *out, ptrdiff_t ldo, int accumulate, const convopt_epilogue *epilogue);

/* to[j*ldt + i] = from[i*ldf + j] for 0 <= i < rows, 0 <= j < columns. */
typedef void convopt_transpose(ptrdiff_t rows, ptrdiff_t columns, const void *from, ptrdiff_t ldf, void *to,
                               ptrdiff_t ldt);

/* Row i of `to` is runs from `from` laid end to end: from[row[i] + run[j] + e], 0 <= e < length[j], j = 0 .. runs-1.
 * Runs are copied in chunks: up to CONVOPT_GATHER_SLACK bytes past the longest run's end at each from + row[i] + run[j]
 * are read, and as many past the end of a row of `to` are written. Rows are written in order, so that a later row
 * (or run) may begin where an earlier one ends. The total of length[] is at most ldt. */
#define CONVOPT_GATHER_SLACK 192
typedef void convopt_gather(ptrdiff_t rows, const ptrdiff_t *row, ptrdiff_t runs, const ptrdiff_t *run,
                            const ptrdiff_t *length, const void *from, void *to, ptrdiff_t ldt);

/* A strip of a depthwise convolution: `rows` output rows of `width` pixels, of `count` <= vl channels.
 *
 * Row i of the input under the strip begins (at column 0, at the strip's first channel) at inputs[i]; tap `t` of output
 * row `r` reads row r*stride + t. A row of padding is `zeros`: min(columns, (CONVOPT_STRIP_COLUMNS - 1)*stride_w +
 * (taps_w - 1)*dilation_w + 1) * pitch + vl elements of zero. The first window begins at input column `column`, which
 * may be negative; columns outside 0 .. columns-1 count as zero and are not read.
 * weights[tap][vl] has zeros beyond count; `bias`, NULL or the first channel's, has vl readable elements. */
#define CONVOPT_STRIP_ROWS 4    /* most output rows of a strip, on any ISA */
#define CONVOPT_STRIP_COLUMNS 8 /* most pixels computed together, on any ISA */
typedef struct {
    ptrdiff_t taps_h, taps_w, stride_w, dilation_w;
    const void *const *inputs;
    const void *zeros, *weights, *bias;
    ptrdiff_t pitch, column, columns; /* input: elements from a column to the next, see above */
    void *out;
    ptrdiff_t out_row, out_pixel; /* elements from an output row, and pixel, to the next */
    ptrdiff_t width;
    int rows, count;
    const convopt_epilogue *epilogue; /* lo and hi alone */
} convopt_strip;

typedef void convopt_depthwise(const convopt_strip *strip);

/* The kernel for a problem, and the number of output rows that it computes together (fewer are allowed); `dilated` is
 * whether either dilation is more than 1. */
typedef convopt_depthwise *convopt_depthwise_for(ptrdiff_t taps_h, ptrdiff_t taps_w, ptrdiff_t stride_h,
                                                 ptrdiff_t stride_w, int dilated, int *rows);

/* All kernels of one ISA for one element type, and the constants drivers block by. */
typedef struct {
    const char *isa;
    int itemsize;                /* bytes of an element: 4 or 8 */
    int vl;                      /* elements of a vector */
    int nv_max;                  /* widest register tile, in vectors */
    int mr[CONVOPT_MAX_NV + 1];  /* mr[nv]: tallest register tile that is nv vectors wide */
    convopt_igemm *igemm;
    convopt_transpose *transpose;
    convopt_gather *gather;
    convopt_depthwise_for *depthwise;
} convopt_kernels;

extern const convopt_kernels convopt_generic_f32, convopt_generic_f64;
extern const convopt_kernels convopt_avx2_f32, convopt_avx2_f64;
extern const convopt_kernels convopt_avx512_f32, convopt_avx512_f64;

#define CONVOPT_ISAS 3 /* in rising order: generic, avx2, avx512 */

/* The name of the isa-th ISA, or NULL past the last. */
const char *convopt_isa_name(int isa);

/* The largest ISA that this CPU *and* its operating system support (CPUID and XCR0). */
int convopt_isa_detect(void);

/* The kernels of an ISA for elements of 4 or 8 bytes. */
const convopt_kernels *convopt_kernels_for(int isa, int itemsize);

#endif
