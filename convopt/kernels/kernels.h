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

#define CONVOPT_LINE_BYTES 64 /* of a cache line, on every CPU that has one of the ISAs */

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

/* The same product for many rows that lie at equal distances, as the windows of some output rows do: for 0 <= y < rows,
 * 0 <= i < count, 0 <= j < columns
 *
 *   out[(y*count + i)*ldo + j] = epilogue( sum_{t < runs} sum_{c < length}
 *                                          lines[t][y*step + i*pitch + c] * b(t*length + c, j) )
 *
 * in register tiles `nv` vectors wide. b is panels of nv*vl columns, one after the other, each of runs*length rows laid
 * end to end; the last panel is as many whole vectors wide as its columns need. All counts >= 1, 1 <= nv <= nv_max;
 * `bias` is readable to whole vectors, row_bias has rows*count values. */
typedef void convopt_windows(int nv, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t count, ptrdiff_t columns, ptrdiff_t runs,
                             ptrdiff_t length, const void *const *lines, ptrdiff_t pitch, const void *b, void *out,
                             ptrdiff_t ldo, const convopt_epilogue *epilogue);

/* Filters times windows of NCHW that are read where they lie. Lanes are neighbours in an output row, as many of them as
 * a spot says: for 0 <= k < filters and each spot, 0 <= l < count <= vl
 *
 *   out[spot.out + k*ldo + l] = epilogue( sum_{q < depth} weights[k*pitch + q] * band[spot.in + offsets[q] + l] )
 *
 * in register tiles of `nv` spots, 1 <= nv <= nv_max. A whole vector is read at each of these, whatever its lanes from
 * `count` on hold. Spots may share outputs, which are written once more then. epilogue->bias is NULL, row_bias NULL or
 * a value for each filter. All counts >= 1. */
typedef struct {
    ptrdiff_t in, out;
    int count;
} convopt_spot;
typedef void convopt_lines(int nv, ptrdiff_t filters, ptrdiff_t spots, const convopt_spot *spot, ptrdiff_t depth,
                           const ptrdiff_t *offsets, const void *weights, ptrdiff_t pitch, const void *band, void *out,
                           ptrdiff_t ldo, const convopt_epilogue *epilogue);

/* to[j*ldt + i] = from[i*ldf + j] for 0 <= i < rows, 0 <= j < columns. */
typedef void convopt_transpose(ptrdiff_t rows, ptrdiff_t columns, const void *from, ptrdiff_t ldf, void *to,
                               ptrdiff_t ldt);

/* Row i of `to` is runs from `from` laid end to end: from[row[i] + run[j] + e], 0 <= e < length[j], j = 0 .. runs-1.
 * Runs are copied in chunks: up to CONVOPT_GATHER_SLACK bytes past the longest run's end at each from + row[i] + run[j]
 * are read, and as many past the end of a row of `to` are written. Rows are written in order, so that a later row
 * (or run) may begin where an earlier one ends. The total of length[] is at most ldt. What drivers keep behind their
 * bands for this also serves `pad` and the whole vectors of `lines`. */
#define CONVOPT_GATHER_SLACK 192
typedef void convopt_gather(ptrdiff_t rows, const ptrdiff_t *row, ptrdiff_t runs, const ptrdiff_t *run,
                            const ptrdiff_t *length, const void *from, void *to, ptrdiff_t ldt);
/* Winograd: an axis of the image is cut into tiles of `outputs` pixels of output, which `inputs` pixels of input reach;
 * those are transformed into `frequencies`, each a product of its own. Any axis for the height combines with any for
 * the width: frequency f = i*frequencies_w + j is one element of the tile transformed in both. The taps of a filter
 * become `filters` values, which is fewer than frequencies where several of these share one (stride 2 and 3 taps):
 * frequency i has value min(i, filters - 1). Pixels of a tile lie row_stride and column_stride apart, which dilation
 * makes larger.
 *
 *   x --input--> V[f][tile][channel] --igemm with U[f][channel][k]--> Q[f][tile][k] --output--> out */

/* One transform of `lines` lines of vectors: vector i of line l is at from[l*from_line + i*from_step], and likewise in
 * `to`. The last one before the output adds a vector at bias[l*bias_line] and clamps. */
typedef void convopt_winograd_pass(ptrdiff_t lines, const void *from, ptrdiff_t from_line, ptrdiff_t from_step,
                                   void *to, ptrdiff_t to_line, ptrdiff_t to_step);
typedef void convopt_winograd_last(ptrdiff_t lines, const void *from, ptrdiff_t from_line, ptrdiff_t from_step,
                                   void *to, ptrdiff_t to_line, ptrdiff_t to_step, const void *bias,
                                   ptrdiff_t bias_line, double lo, double hi);

/* t is the size of the Cook-Toom transform in it; 1 is an axis of one tap, of any stride, which has no passes. */
typedef struct {
    int t, taps, stride;
    int inputs, outputs, frequencies, filters;
    convopt_winograd_pass *first, *input, *output;
    convopt_winograd_last *last;
} convopt_winograd_axis;

/* Where one tile lies, and which of its pixels exist. */
typedef struct {
    ptrdiff_t input;                                  /* from x to input pixel (0, 0), which itself may not exist */
    ptrdiff_t output;                                 /* from out to output pixel (0, 0) */
    int row_first, row_end, column_first, column_end; /* input pixels that exist; the others are padding, zero */
    int rows, columns;                                /* output pixels that exist: 1 .. outputs of each axis */
} convopt_winograd_tile;

/* v[f*ldf + i*ldv + c] for each tile i < count; c runs to whole vectors, those past `channels` come out as zero. */
typedef void convopt_winograd_input(const convopt_winograd_axis *h, const convopt_winograd_axis *w, ptrdiff_t count,
                                    const convopt_winograd_tile *tiles, ptrdiff_t channels, const void *x,
                                    ptrdiff_t row_stride, ptrdiff_t column_stride, void *v, ptrdiff_t ldf,
                                    ptrdiff_t ldv);

/* q[f*ldqf + i*ldq + k] = sum_{c < channels} v[f*ldf + i*ldv + c] * u[(f'*channels + c)*nr + k] for i < count, k < nr,
 * where f' is the value of the filter for frequency f; nr is whole vectors, at most nv_max of them. The sum is made of
 * `runs` sums of as many channels each, more or less. */
typedef void convopt_winograd_product(const convopt_winograd_axis *h, const convopt_winograd_axis *w, ptrdiff_t count,
                                      ptrdiff_t channels, ptrdiff_t runs, const void *u, int nr, const void *v,
                                      ptrdiff_t ldf, ptrdiff_t ldv, void *q, ptrdiff_t ldqf, ptrdiff_t ldq);

/* The output pixels of each tile i < count from q[f*ldf + i*ldq + k], k < channels; q and `bias` are readable to whole
 * vectors of k, row_bias is NULL. Nothing but the existing pixels' channels is written. */
typedef void convopt_winograd_output(const convopt_winograd_axis *h, const convopt_winograd_axis *w, ptrdiff_t count,
                                     const convopt_winograd_tile *tiles, ptrdiff_t channels, const void *q,
                                     ptrdiff_t ldf, ptrdiff_t ldq, void *out, ptrdiff_t row_stride,
                                     ptrdiff_t column_stride, const convopt_epilogue *epilogue);

/* u[(f*channels + c)*ldu + k] = (G_h w_c G_w^T)[f] for k < outputs, in double and rounded once; zero from there to ldu,
 * which is `outputs` rounded up to whole vectors; f = i*filters_w + j. Filter element (r, s, c, k) is
 * filters[r*ldr + s*lds + c*ldc + k]; g_h is filters_h x taps_h, g_w likewise. */
typedef void convopt_winograd_filter(const convopt_winograd_axis *h, const convopt_winograd_axis *w, const double *g_h,
                                     const double *g_w, ptrdiff_t channels, ptrdiff_t outputs, const void *filters,
                                     ptrdiff_t ldc, ptrdiff_t lds, ptrdiff_t ldr, void *u, ptrdiff_t ldu);

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

/* Loading where lanes are tiles: lane l of point j is pixel j of windows[l], of which there are vl. */
typedef void convopt_fft_load_tiles(const convopt_fft_window *windows, ptrdiff_t points, ptrdiff_t ldx, void *to);

/* Loading and storing where lanes are columns: pixel j is lane j % vl of point j / vl. Loading fills the last point
 * with zeros, bias is one value. */
typedef void convopt_fft_load_columns(const convopt_fft_window *window, ptrdiff_t points, ptrdiff_t ldx, void *to);
typedef void convopt_fft_store_columns(ptrdiff_t points, const void *from, void *out, ptrdiff_t ldo,
                                       const convopt_epilogue *epilogue);

/* Lanes become points and points lanes: lane l of the m-th point of square i, from + i*next_from + m*ldf, is lane m of
 * its l-th, to + i*next_to + l*ldt. A square has vl points. */
typedef void convopt_fft_turn(ptrdiff_t squares, const void *from, ptrdiff_t ldf, ptrdiff_t next_from, void *to,
                              ptrdiff_t ldt, ptrdiff_t next_to);

/* The complex product of one frequency, out[p][k] = sum_{c < depth} z[p][c] * h[c][k], or with conj(h):
 * z has `pairs` rows ldz apart of ceil(depth/vl) points, lanes being c; out `pairs` rows ldo apart of `columns` points,
 * lanes being k; h is [columns][depth] points. scratch holds pairs * ceil(depth/vl) * vl elements. */
typedef void convopt_fft_product(ptrdiff_t pairs, ptrdiff_t depth, ptrdiff_t columns, const void *z, ptrdiff_t ldz,
                                 const void *h, void *out, ptrdiff_t ldo, int conjugate, void *scratch);

/* One column and its mirror image of many outputs of few channels: with z[c] = line + c*channel,
 * to[i] = sum_{c < depth} z[c][i] * h[i][c] and to_partner[mirror[i]] = sum_c partner[c][mirror[i]] * conj(h[i][c]).
 * Of the points of line and partner, `step` apart, one lane is used: the pointers are to its real parts. h has `depth`
 * points per i, ldh elements apart. Where partner is line itself each point is computed once. */
typedef void convopt_fft_fan(ptrdiff_t points, ptrdiff_t depth, const void *line, const void *partner, ptrdiff_t step,
                             ptrdiff_t channel, const ptrdiff_t *mirror, const void *h, ptrdiff_t ldh, void *to,
                             void *to_partner, ptrdiff_t to_step);

/* As fft_store, past the caches, for results too large to be found there later: the same half of the points of as many
 * vectors of channels, `next` apart, as make a cache line, which `out` and ldo are whole lines of. A thread that did so
 * calls stream_end before others may look at them. */
typedef void convopt_fft_stream(ptrdiff_t points, const void *from, ptrdiff_t next, void *out, ptrdiff_t ldo,
                                const convopt_epilogue *epilogue);
typedef void convopt_stream_end(void);

/* With z[p] = line + p*plane, line[i] = sum_{p < depth} z[p][i] * h[i][p] and, from the columns beside partner in the
 * same way, partner[mirror[i]] with conj(h[i][p]), lane by lane, for 0 <= i < points: spectra times those of real
 * filters, of which half is kept. Where partner is line itself each point is computed once. h has `depth` points per i.
 */
typedef void convopt_fft_multiply(ptrdiff_t points, ptrdiff_t depth, void *line, void *partner, ptrdiff_t step,
                                  ptrdiff_t plane, const ptrdiff_t *mirror, const void *h);

/* As that, where real and imaginary parts are two signals with a filter each: h has two points instead of one, both of
 * them spectra of real filters divided by 2. */
typedef convopt_fft_multiply convopt_fft_multiply_two;

/* A strip of a depthwise convolution: as many output rows as the form has, `width` pixels of each, of `count` <= vl
 * channels. Dilation is gone: columns are counted in steps of it, from the first one that the first window reads.
 *
 * Tap (t, s) of output pixel (r, x) reads from start + (x*stride_w + s)*pitch on in inputs[r*stride_h + t], which is
 * NULL for a row of padding. Columns outside left .. right-1 are padding and are not read; tap rows outside
 * first_tap .. last_tap-1 read nothing but padding and are left out.
 * A whole vector is read from every pixel. weights[t][s] has vl elements; `bias`, NULL or the first channel's, as well.
 */
#define CONVOPT_STRIP_ROWS 4 /* most output rows of a form, on any ISA */
typedef struct {
    ptrdiff_t taps_w, stride_h, stride_w, first_tap, last_tap;
    const void *const *inputs;
    const void *weights, *bias;
    ptrdiff_t vectors; /* of channels, each with weights of its own, one after the other; a walk does one */
    ptrdiff_t start, pitch, left, right;
    void *out;
    ptrdiff_t out_row, out_pixel; /* elements from an output row, and pixel, to the next */
    ptrdiff_t width;
    int count;
    const convopt_epilogue *epilogue; /* lo and hi alone */
} convopt_strip;

typedef void convopt_depthwise_body(const convopt_strip *strip);

/* What a body computes at a time; those of `depthwise_tile_forms` want square filters and strides, whole vectors, no
 * NULL row and no tap row left out. In the table of walks, the form for any taps and stride, of one row and without
 * NULL rows, has taps = 0; of each other one, and of tiles of as many columns, there is one for each number of rows up
 * to a most. */
typedef struct {
    int taps, stride, rows; /* along the width; rows = 0 ends the table */
    int columns;            /* of a tile; 0 of a walk */
    convopt_depthwise_body *body;
} convopt_depthwise_form;

/* to[j*vl + l] = from[j*pitch + numbers[l]] for j < columns, l < vl: a row of pixels, of which `count` <= vl channels
 * are read, with channels repeated. numbers are integers as long as an element, below vl. */
typedef void convopt_depthwise_spread(ptrdiff_t columns, const void *from, ptrdiff_t pitch, int count,
                                      const void *numbers, void *to);

/* Part of a depthwise convolution whose lanes are neighbours in a line: `rows` output lines of `width` values, which
 * are the pixels of one channel (NCHW) or all values of a row of pixels, their channels interleaved (NHWC).
 *
 * Tap (r, s) of value x of output line y reads band[y*row + r*tap_row + columns[s] + x]; so many columns of the padded
 * input, dilated and of any stride, as the driver sorted them into the band. As many as CONVOPT_PLANE_OVER vectors past
 * its end must be readable. Interleaved channels return to the same lanes after `period` vectors.
 * lanes = 0: weights[r*taps_w + s], bias NULL or one value, and period is 1;
 * lanes = 1: weights[phase][r*taps_w + s][lane] and bias[phase][lane], or NULL, phase < period. */
#define CONVOPT_PLANE_OVER 2
typedef struct {
    ptrdiff_t taps_h, taps_w, row, tap_row, period;
    const ptrdiff_t *columns;
    const void *band, *weights, *bias;
    void *out;
    ptrdiff_t out_row; /* elements from an output line to the next */
    ptrdiff_t rows, width;
    const convopt_epilogue *epilogue; /* lo and hi alone */
    int lanes;
} convopt_plane;

typedef void convopt_depthwise_plane(const convopt_plane *plane);

/* Rows of a band: rows[0] of zeros, rows[1] of input, to[i*pitch + left + j] = from[i*ldf + j*stride] for j < columns
 * with zeros around, and rows[2] of zeros again. Up to two vectors past the end are written. left + columns <= pitch.
 */
typedef void convopt_pad(const ptrdiff_t *rows, ptrdiff_t columns, const void *from, ptrdiff_t ldf, ptrdiff_t stride,
                         ptrdiff_t left, void *to, ptrdiff_t pitch);

/* to[i*ldt + j] = from[i*ldf + j*stride] for 0 <= i < rows, 0 <= j < columns; nothing else is read or written. */
typedef void convopt_sample(ptrdiff_t rows, ptrdiff_t columns, const void *from, ptrdiff_t ldf, ptrdiff_t stride,
                            void *to, ptrdiff_t ldt);

/* rounds x LIMIT_SUMS independent multiply-adds of vectors in registers; result[0] is the factor, result[1] the addend,
 * at most 1, and vl elements are written there so that nothing is optimised away. Returns the operations done. */
typedef double convopt_limit_multiply_add(ptrdiff_t rounds, void *result);

/* Reads `count` elements (whole multiples of 8*vl), as fast as they come; vl elements are written to `result`. */
typedef void convopt_limit_read(ptrdiff_t count, const void *from, void *result);

/* A tile of a grouped convolution: rows x columns output pixels of `count` <= vl consecutive output channels, the
 * lanes, which belong to several groups. Lane l needs, at step d, the d-th input channel of its own group: one
 * permutation of a vector of the pixel's channels (or of two vectors) fetches that for all lanes, and feeds every tap
 * at that pixel.
 *
 *   step d:  x[pixel][at[d] ...]      | a0 a1 a2 a3 | b0 b1 b2 b3 | c0 ...     (4 channels per group, d = 1)
 *            permuted by lane numbers | a1 a1 a1 a1 | b1 b1 b1 b1 | c1 ...  times a vector of weights per tap
 *
 * inputs[j*high + i] is the input pixel (its channel 0) that tap (r, s) of output pixel (y, x) reads where
 * i = y*stride_h + r, j = x*stride_w + s; high = (rows - 1)*stride_h + taps_h of the *form's* rows. A row of zeros
 * serves for padding. A form of any number of columns reads whole strides of columns, columns + ceil(taps_w/stride_w) -
 * 1 of them, and takes one that begins with NULL to be all padding; another form reads what its own columns need. All
 * of these entries must be there, also those for surplus outputs. Dilation is the table's affair.
 *
 * `steps` has two offsets per step, the channels from which the two vectors are read; a form's one-source body reads
 * only the first. panel[step] is vl lane numbers, integers as long as an element, never falling, those from vl on
 * meaning the second vector; then a vector of weights per tap. `bias`, NULL or the first lane's, has vl readable
 * elements. */
#define CONVOPT_GROUPED_ROWS 7  /* most output rows of a form, on any ISA */
#define CONVOPT_GROUPED_AHEAD 4 /* so many strides of columns beyond the last must be readable; they are prefetched */
typedef struct {
    ptrdiff_t taps_h, taps_w, stride_h, stride_w, depth;
    const void *const *inputs;
    const ptrdiff_t *steps;
    const void *panel, *bias;
    void *out;
    ptrdiff_t out_row, out_column; /* elements from an output row, and pixel, to the next */
    int rows, columns, count;
    const convopt_epilogue *epilogue; /* lo and hi alone */
} convopt_grouped_tile;

typedef void convopt_grouped_body(const convopt_grouped_tile *tile);

/* What a body computes at a time; one for any taps and strides has taps = 0 and one row. */
typedef struct {
    int taps, stride;  /* taps x taps, stride both ways */
    int rows, columns; /* columns = 0: any number of them; rows = 0 ends the table */
    convopt_grouped_body *one_source, *two_sources;
} convopt_grouped_form;

/* Convolution for few output channels, lanes being elements of the input: for 0 <= i < count, 0 <= k < outputs
 *
 *   out[i*ldo + k] = epilogue( sum_{t < taps} sum_{e < length} runs[t].x[i*pitch + e] * runs[t].filters[k*ldf + e] )
 *
 * No more is read than that; count, outputs, length >= 1; without taps a sum is 0. Outputs are divided evenly among as
 * few panels of at most CONVOPT_DOTS_OUTPUTS as will do, whose tiles have dots_pixels[outputs] pixels. */
#define CONVOPT_DOTS_OUTPUTS 4
typedef struct {
    const void *x, *filters;
} convopt_run;
typedef void convopt_dots(ptrdiff_t count, int outputs, ptrdiff_t taps, ptrdiff_t length, const convopt_run *runs,
                          ptrdiff_t pitch, ptrdiff_t ldf, void *out, ptrdiff_t ldo, const convopt_epilogue *epilogue);

/* All kernels of one ISA for one element type, and the constants drivers block by. */
typedef struct {
    const char *isa;
    int itemsize;               /* bytes of an element: 4 or 8 */
    int vl;                     /* elements of a vector */
    int nv_max;                 /* widest register tile, in vectors */
    int mr[CONVOPT_MAX_NV + 1]; /* mr[nv]: tallest register tile that is nv vectors wide */
    convopt_igemm *igemm;
    convopt_windows *windows;
    convopt_lines *lines;
    convopt_transpose *transpose;
    convopt_gather *gather;
    const convopt_winograd_axis *winograd_axes; /* ends with a row whose t is 0 */
    convopt_winograd_input *winograd_input;
    convopt_winograd_product *winograd_product;
    convopt_winograd_output *winograd_output;
    convopt_winograd_filter *winograd_filter;
    convopt_fft_forward *fft_forward;
    convopt_fft_inverse *fft_inverse;
    convopt_fft_load *fft_load;
    convopt_fft_store *fft_store;
    convopt_fft_load_tiles *fft_load_tiles;
    convopt_fft_load_columns *fft_load_columns;
    convopt_fft_store_columns *fft_store_columns;
    convopt_fft_turn *fft_turn;
    convopt_fft_product *fft_product;
    convopt_fft_fan *fft_fan;
    convopt_fft_multiply *fft_multiply;
    convopt_fft_multiply_two *fft_multiply_two;
    convopt_fft_stream *fft_stream;
    convopt_stream_end *stream_end;
    const convopt_depthwise_form *depthwise_forms;
    const convopt_depthwise_form *depthwise_tile_forms;
    convopt_depthwise_spread *depthwise_spread;
    convopt_depthwise_plane *depthwise_plane;
    convopt_pad *pad;
    convopt_limit_multiply_add *limit_multiply_add;
    convopt_limit_read *limit_read;
    const convopt_grouped_form *grouped_forms;
    convopt_sample *sample;
    convopt_dots *dots;
    int dots_pixels[CONVOPT_DOTS_OUTPUTS + 1];
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
