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

/* The kernels of tiled FFT convolution (fft-inl.h). They work on POINTS: vl real parts followed by vl imaginary parts,
 * so vl complex numbers in lanes, which undergo the same transform. Steps between points are in elements.
 *
 * A transform length n1*n2 with its twiddle factors, pairs (cos, sin) of 2 pi b k1 / (n1 n2): `forward` for
 * 0 < b < n2 (rows) and 0 < k1 < n1, `inverse` the same with rows and columns exchanged; unused where n2 is 1. */
typedef struct {
    int n1, n2;
    const void *forward, *inverse;
} convopt_fft_length;

/* The transform of the complex signal whose real parts are the vectors at re, re + step, ... and imaginary parts at
 * im, im + step, ..., to points to_step apart. Position n2*k1 + k2 gets frequency k1 + n1*k2. In place is allowed. */
typedef void convopt_fft_forward(const convopt_fft_length *length, const void *re, const void *im, ptrdiff_t step,
                                 void *to, ptrdiff_t to_step);

/* The unscaled inverse: n1*n2 points in that order, which are destroyed, to points in natural order. */
typedef void convopt_fft_inverse(const convopt_fft_length *length, void *line, ptrdiff_t step, void *to,
                                 ptrdiff_t to_step);

/* Part of an image row as a tile sees it: its points first <= j < last are the pixels from `pixels` on, others are 0.
 */
typedef struct {
    const void *pixels;
    ptrdiff_t first, last;
} convopt_fft_window;

/* One half (real or imaginary) of `points` consecutive points <- `channels` <= vl values of each pixel, ldx apart. */
typedef void convopt_fft_load(const convopt_fft_window *window, ptrdiff_t points, ptrdiff_t ldx, int channels,
                              void *to);

/* out[j*ldo + l*lane] = epilogue(l-th lane of one half of point j) for l < channels; bias[l*lane] belongs to lane l. */
typedef void convopt_fft_store(ptrdiff_t points, const void *from, int channels, void *out, ptrdiff_t ldo,
                               ptrdiff_t lane, const convopt_epilogue *epilogue);

/* The complex product of one frequency, out[p][k] = sum_{c < depth} z[p][c] * h[c][k], or with conj(h):
 * z has `pairs` rows ldz apart of ceil(depth/vl) points, lanes being c; out `pairs` rows ldo apart of `columns` points,
 * lanes being k; h is [columns][depth] points. scratch holds pairs * ceil(depth/vl) * vl elements. */
typedef void convopt_fft_product(ptrdiff_t pairs, ptrdiff_t depth, ptrdiff_t columns, const void *z, ptrdiff_t ldz,
                                 const void *h, void *out, ptrdiff_t ldo, int conjugate, void *scratch);

/* line[i] *= h[i] and partner[mirror[i]] *= conj(h[i]), lane by lane, for 0 <= i < points: a spectrum times that of a
 * real filter, of which half is kept. Where partner is line itself each point is multiplied once. h is `points` points.
 */
typedef void convopt_fft_multiply(ptrdiff_t points, void *line, void *partner, ptrdiff_t step, const ptrdiff_t *mirror,
                                  const void *h);

/* As that, where real and imaginary parts are two signals with a filter each: h has two points per i, both of them
 * spectra of real filters divided by 2. */
typedef convopt_fft_multiply convopt_fft_multiply_two;

/* All kernels of one ISA for one element type, and the constants drivers block by. */
typedef struct {
    const char *isa;
    int itemsize;               /* bytes of an element: 4 or 8 */
    int vl;                     /* elements of a vector */
    int nv_max;                 /* widest register tile, in vectors */
    int mr[CONVOPT_MAX_NV + 1]; /* mr[nv]: tallest register tile that is nv vectors wide */
    convopt_igemm *igemm;
    convopt_transpose *transpose;
    convopt_fft_forward *fft_forward;
    convopt_fft_inverse *fft_inverse;
    convopt_fft_load *fft_load;
    convopt_fft_store *fft_store;
    convopt_fft_product *fft_product;
    convopt_fft_multiply *fft_multiply;
    convopt_fft_multiply_two *fft_multiply_two;
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
