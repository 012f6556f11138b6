/* The kernels of tiled FFT convolution; their contracts are in kernels.h.
 *
 * A POINT is a vector of real parts followed by a vector of imaginary parts: VL complex numbers, one per lane, that
 * undergo the same transform. A transform of length n1*n2 is two passes of codelets:
 *
 *   forward (decimation in frequency)                       inverse (decimation in time)
 *   input n2*a + b --dft over a, twiddled--> n2*k1 + b      position n2*k1 + k2 --dft over k2, twiddled--> n2*k1 + b
 *   n2*k1 + b --dft over b--> position n2*k1 + k2           n2*k1 + b --dft over k1--> output n2*a + b
 *
 * Position n2*k1 + k2 holds frequency k1 + n1*k2: neither pass moves anything, and products do not care for the order.
 * The inverse is the forward with real and imaginary parts exchanged, unscaled: whoever packs the filters divides. */

/* A codelet makes `count` transforms; the j-th reads re, im + j*next with its inputs `step` apart and writes to_re,
 * to_im + j*to_next with its outputs to_step apart. All inputs are read before the first output is written.
 * A twiddled codelet multiplies output k > 0 by c - i s, the next pair (c, s) of its table. */
#define CODELET_ARGUMENTS                                                                                      \
    ptrdiff_t count, const REAL *re, const REAL *im, ptrdiff_t step, ptrdiff_t next, REAL *to_re, REAL *to_im, \
        ptrdiff_t to_step, ptrdiff_t to_next, const REAL *twiddle
typedef void codelet(CODELET_ARGUMENTS);

#include "generated/fft-codelets.h"

enum { POINT = 2 * VL };

static void fft_forward(const convopt_fft_length *length, const void *re_, const void *im_, ptrdiff_t step, void *to_,
                        ptrdiff_t to_step) {
    const REAL *re = re_, *im = im_;
    REAL *to = to_;
    const ptrdiff_t n1 = length->n1, n2 = length->n2;
    codelets[n1](1, re, im, n2 * step, step, to, to + VL, n2 * to_step, to_step, NULL);
    if (n2 == 1) return;
    codelets_twiddled[n1](n2 - 1, re + step, im + step, n2 * step, step, to + to_step, to + to_step + VL, n2 * to_step,
                          to_step, length->forward);
    codelets[n2](n1, to, to + VL, to_step, n2 * to_step, to, to + VL, to_step, n2 * to_step, NULL);
}

static void fft_inverse(const convopt_fft_length *length, void *line_, ptrdiff_t step, void *to_, ptrdiff_t to_step) {
    REAL *re = line_, *im = re + VL, *to_re = to_, *to_im = to_re + VL;
    const ptrdiff_t n1 = length->n1, n2 = length->n2;
    if (n2 > 1) {
        codelets[n2](1, im, re, step, 0, im, re, step, 0, NULL);
        codelets_twiddled[n2](n1 - 1, im + n2 * step, re + n2 * step, step, n2 * step, im + n2 * step, re + n2 * step,
                              step, n2 * step, length->inverse);
    }
    codelets[n1](n2, im, re, n2 * step, step, to_im, to_re, n2 * to_step, to_step, NULL);
}

static void fft_load(const convopt_fft_window *window, ptrdiff_t points, ptrdiff_t ldx, int channels, void *to_) {
    REAL *to = to_;
    const REAL *x = window->pixels;
    for (ptrdiff_t j = 0; j < points; j++, to += POINT) {
        vec v = {0};
        if (window->first <= j && j < window->last) {
            if (channels == VL)
                v = load(x);
            else
                memcpy(&v, x, sizeof(REAL) * channels);
            x += ldx;
        }
        store(to, v);
    }
}

static void fft_store(ptrdiff_t points, const void *from_, int channels, void *out_, ptrdiff_t ldo, ptrdiff_t lane,
                      const convopt_epilogue *epilogue) {
    const REAL *from = from_, *bias = epilogue->bias;
    REAL *out = out_;
    vec start = {0};
    const vec lo = broadcast((REAL)epilogue->lo), hi = broadcast((REAL)epilogue->hi);
    if (bias) {
        if (lane == 1)
            start = load(bias);
        else
            for (int l = 0; l < channels; l++) start[l] = bias[l * lane];
    }
    for (ptrdiff_t j = 0; j < points; j++, from += POINT, out += ldo) {
        const vec y = clamp(load(from) + start, lo, hi);
        if (lane != 1)
            for (int l = 0; l < channels; l++) out[l * lane] = y[l];
        else if (channels == VL)
            store(out, y);
        else
            store_first(out, y, channels);
    }
}

static ptrdiff_t clipped(ptrdiff_t value, ptrdiff_t low, ptrdiff_t high) {
    return value < low ? low : value > high ? high : value;
}

/* VL pixels, ldx apart. */
static __attribute__((noinline)) vec load_strided(const REAL *x, ptrdiff_t ldx) {
    vec row;
    UNROLL for (int l = 0; l < VL; l++) row[l] = x[l * ldx];
    return row;
}

/* Pixels j to j + VL of a window that does not hold them all, or not side by side. */
static __attribute__((noinline)) vec load_some(const convopt_fft_window *window, ptrdiff_t j, ptrdiff_t ldx) {
    const REAL *x = window->pixels;
    vec row = {0};
    const ptrdiff_t end = clipped(window->last, j, j + VL);
    for (ptrdiff_t k = clipped(window->first, j, end); k < end; k++) row[k - j] = x[(k - window->first) * ldx];
    return row;
}

static __attribute__((noinline)) void store_some(REAL *out, vec row, int count, ptrdiff_t ldo) {
    for (int k = 0; k < count; k++) out[k * ldo] = row[k];
}

static void fft_load_tiles(const convopt_fft_window *windows, ptrdiff_t points, ptrdiff_t ldx, void *to_) {
    REAL *to = to_;
    for (ptrdiff_t j = 0; j < points; j += VL) {
        vec rows[VL];
        UNROLL for (int l = 0; l < VL; l++) {
            const ptrdiff_t first = windows[l].first;
            const REAL *x = (const REAL *)windows[l].pixels + (j - first) * ldx;
            if (first <= j && j + VL <= windows[l].last)
                rows[l] = ldx == 1 ? load(x) : load_strided(x, ldx);
            else if (ldx == 1 && first <= j)
                rows[l] = load_first(x, (int)clipped(windows[l].last - j, 0, VL));
            else
                rows[l] = load_some(windows + l, j, ldx);
        }
        transpose_square(rows);
        const ptrdiff_t count = clipped(points - j, 0, VL);
        for (ptrdiff_t k = 0; k < count; k++) store(to + (j + k) * POINT, rows[k]);
    }
}

static void fft_load_columns(const convopt_fft_window *window, ptrdiff_t points, ptrdiff_t ldx, void *to_) {
    REAL *to = to_;
    for (ptrdiff_t j = 0; j < points; j += VL, to += POINT) {
        const REAL *x = (const REAL *)window->pixels + (j - window->first) * ldx;
        if (window->first <= j && j + VL <= window->last)
            store(to, ldx == 1 ? load(x) : load_strided(x, ldx));
        else if (j + VL <= window->first || j >= window->last)
            store(to, (vec){0});
        else if (ldx == 1 && window->first <= j)
            store(to, load_first(x, (int)(window->last - j)));
        else
            store(to, load_some(window, j, ldx));
    }
}

static void fft_store_columns(ptrdiff_t points, const void *from_, void *out_, ptrdiff_t ldo,
                              const convopt_epilogue *epilogue) {
    const REAL *from = from_, *bias = epilogue->bias;
    REAL *out = out_;
    const vec start = broadcast(bias ? *bias : 0);
    const vec lo = broadcast((REAL)epilogue->lo), hi = broadcast((REAL)epilogue->hi);
    for (ptrdiff_t j = 0; j < points; j += VL, from += POINT) {
        const vec y = clamp(load(from) + start, lo, hi);
        const int count = (int)clipped(points - j, 0, VL);
        if (ldo != 1)
            store_some(out + j * ldo, y, count, ldo);
        else if (count == VL)
            store(out + j, y);
        else
            store_first(out + j, y, count);
    }
}

static void fft_turn(ptrdiff_t squares, const void *from_, ptrdiff_t ldf, ptrdiff_t next_from, void *to_, ptrdiff_t ldt,
                     ptrdiff_t next_to) {
    const REAL *from = from_;
    REAL *to = to_;
    for (ptrdiff_t i = 0; i < squares; i++, from += next_from, to += next_to) {
        transpose_whole(from, ldf, to, ldt);
        transpose_whole(from + VL, ldf, to + VL, ldt);
    }
}

/* Pairs of tiles per register tile: three accumulators each, three vectors of the filter and a broadcast. */
enum { PAIRS_MAX = NV_MAX == 4 ? 8 : NV_MAX == 3 ? 4 : 3 };

/* Channels summed in one go, a multiple of VL. All-positive data gather in frequency 0, and its error, the largest of
 * all, reaches every output of the tile: sums of partial sums keep it from growing with the number of channels. */
enum { PARTIAL_SUM = 64 };

/* A complex product in three real ones: with s = zr + zi, (zr + i zi)(wr + i wi) = (s wr - zi (wr + wi)) + i (s wr + zr
 * (wi - wr)). The conjugate filter serves the mirrored frequency: z conj(w) = conj(conj(z) w), which only changes
 * signs. */
static ALWAYS_INLINE void product_tile(const int pairs, const int conjugate, ptrdiff_t depth, const REAL *z,
                                       ptrdiff_t ldz, const REAL *sums, ptrdiff_t lds, const REAL *h, REAL *out,
                                       ptrdiff_t ldo) {
    for (ptrdiff_t start = 0; start < depth; start += PARTIAL_SUM) {
        const ptrdiff_t rest = depth - start < PARTIAL_SUM ? depth - start : PARTIAL_SUM;
        vec first[PAIRS_MAX], second[PAIRS_MAX], third[PAIRS_MAX];
        UNROLL for (int p = 0; p < pairs; p++) first[p] = second[p] = third[p] = (vec){0};
        for (ptrdiff_t block = 0; block < rest; block += VL, z += POINT, sums += VL) {
            const int channels = rest - block < VL ? (int)(rest - block) : VL;
            for (int c = 0; c < channels; c++, h += POINT) {
                const vec real = load(h), imaginary = load(h + VL);
                const vec difference = imaginary - real, sum = imaginary + real;
                UNROLL for (int p = 0; p < pairs; p++) {
                    first[p] += real * sums[p * lds + c];
                    second[p] += difference * z[p * ldz + c];
                    third[p] += sum * z[p * ldz + VL + c];
                }
            }
        }
        UNROLL for (int p = 0; p < pairs; p++) {
            REAL *to = out + p * ldo;
            vec real = conjugate ? first[p] + third[p] : first[p] - third[p];
            vec imaginary = conjugate ? -(first[p] + second[p]) : first[p] + second[p];
            if (start) {
                real += load(to);
                imaginary += load(to + VL);
            }
            store(to, real);
            store(to + VL, imaginary);
        }
    }
}

#define PRODUCT(PAIRS)                                                         \
    case PAIRS:                                                                \
        if (PAIRS <= PAIRS_MAX) {                                              \
            if (conjugate)                                                     \
                product_tile(PAIRS, 1, depth, z, ldz, sums, lds, h, out, ldo); \
            else                                                               \
                product_tile(PAIRS, 0, depth, z, ldz, sums, lds, h, out, ldo); \
        }                                                                      \
        return;

static __attribute__((noinline)) void product_pairs(int pairs, int conjugate, ptrdiff_t depth, const REAL *z,
                                                    ptrdiff_t ldz, const REAL *sums, ptrdiff_t lds, const REAL *h,
                                                    REAL *out, ptrdiff_t ldo) {
    switch (pairs) { PRODUCT(1) PRODUCT(2) PRODUCT(3) PRODUCT(4) PRODUCT(5) PRODUCT(6) PRODUCT(7) PRODUCT(8) }
}

static void fft_product(ptrdiff_t pairs, ptrdiff_t depth, ptrdiff_t columns, const void *z_, ptrdiff_t ldz,
                        const void *h_, void *out_, ptrdiff_t ldo, int conjugate, void *scratch) {
    const REAL *z = z_, *h = h_;
    REAL *out = out_, *sums = scratch;
    const ptrdiff_t vectors = (depth + VL - 1) / VL, lds = vectors * VL;
    for (ptrdiff_t p = 0; p < pairs; p++)
        for (ptrdiff_t v = 0; v < vectors; v++) {
            const vec real = load(z + p * ldz + v * POINT), imaginary = load(z + p * ldz + v * POINT + VL);
            store(sums + p * lds + v * VL, conjugate ? real - imaginary : real + imaginary);
        }
    const ptrdiff_t blocks = (pairs + PAIRS_MAX - 1) / PAIRS_MAX;
    for (ptrdiff_t column = 0; column < columns; column++, h += depth * POINT, out += POINT)
        for (ptrdiff_t block = 0; block < blocks; block++) {
            const ptrdiff_t p = block * pairs / blocks, end = (block + 1) * pairs / blocks;
            product_pairs((int)(end - p), conjugate, depth, z + p * ldz, ldz, sums + p * lds, lds, h, out + p * ldo,
                          ldo);
        }
}

/* *to = the sum over channels of z * h, or of z * conj(h); z is the same number in all lanes. */
static ALWAYS_INLINE void fan_point(const int conjugate, ptrdiff_t depth, const REAL *z, ptrdiff_t channel,
                                    const REAL *h, REAL *to) {
    vec real = {0}, imaginary = {0};
    for (ptrdiff_t c = 0; c < depth; c++, z += channel, h += POINT) {
        const vec hr = load(h), hi = conjugate ? -load(h + VL) : load(h + VL);
        real += z[0] * hr;
        imaginary += z[0] * hi;
        real -= z[VL] * hi;
        imaginary += z[VL] * hr;
    }
    store(to, real);
    store(to + VL, imaginary);
}

static void fft_fan(ptrdiff_t points, ptrdiff_t depth, const void *line_, const void *partner_, ptrdiff_t step,
                    ptrdiff_t channel, const ptrdiff_t *mirror, const void *h_, ptrdiff_t ldh, void *to_,
                    void *to_partner_, ptrdiff_t to_step) {
    const REAL *line = line_, *partner = partner_, *h = h_;
    REAL *to = to_, *to_partner = to_partner_;
    for (ptrdiff_t i = 0; i < points; i++, h += ldh) {
        const ptrdiff_t j = mirror[i];
        if (line == partner && j < i) continue;
        fan_point(0, depth, line + i * step, channel, h, to + i * to_step);
        if (line != partner || j != i) fan_point(1, depth, partner + j * step, channel, h, to_partner + j * to_step);
    }
}

static void fft_stream(ptrdiff_t points, const void *from_, ptrdiff_t next, void *out_, ptrdiff_t ldo,
                       const convopt_epilogue *epilogue) {
    const REAL *from = from_, *bias = epilogue->bias;
    REAL *out = out_;
    vec start[LINE_VECTORS];
    const vec lo = broadcast((REAL)epilogue->lo), hi = broadcast((REAL)epilogue->hi);
    UNROLL for (int v = 0; v < LINE_VECTORS; v++) start[v] = bias ? load(bias + v * VL) : broadcast(0);
    for (ptrdiff_t j = 0; j < points; j++, from += POINT, out += ldo)
        UNROLL for (int v = 0; v < LINE_VECTORS; v++)
            stream(out + v * VL, clamp(load(from + v * next) + start[v], lo, hi));
}

static void stream_end(void) { streamed(); }

/* *z = the sum over planes of z * h, or of z * conj(h). */
static ALWAYS_INLINE void multiply_point(const int conjugate, ptrdiff_t depth, REAL *z, ptrdiff_t plane,
                                         const REAL *h) {
    vec real = {0}, imaginary = {0};
    for (ptrdiff_t p = 0; p < depth; p++, h += POINT) {
        const vec r = load(z + p * plane), i = load(z + p * plane + VL);
        const vec hr = load(h), hi = conjugate ? -load(h + VL) : load(h + VL);
        real += r * hr - i * hi;
        imaginary += r * hi + i * hr;
    }
    store(z, real);
    store(z + VL, imaginary);
}

static ALWAYS_INLINE void multiply_lines(ptrdiff_t points, ptrdiff_t depth, REAL *line, REAL *partner, ptrdiff_t step,
                                         ptrdiff_t plane, const ptrdiff_t *mirror, const REAL *h) {
    for (ptrdiff_t i = 0; i < points; i++, h += depth * POINT) {
        const ptrdiff_t j = mirror[i];
        if (line == partner && j < i) continue;
        multiply_point(0, depth, line + i * step, plane, h);
        if (line != partner || j != i) multiply_point(1, depth, partner + j * step, plane, h);
    }
}

static void fft_multiply(ptrdiff_t points, ptrdiff_t depth, void *line, void *partner, ptrdiff_t step, ptrdiff_t plane,
                         const ptrdiff_t *mirror, const void *h) {
    if (depth == 1)
        multiply_lines(points, 1, line, partner, step, plane, mirror, h);
    else
        multiply_lines(points, depth, line, partner, step, plane, mirror, h);
}

static void fft_multiply_two(ptrdiff_t points, ptrdiff_t depth, void *line_, void *partner_, ptrdiff_t step,
                             ptrdiff_t plane, const ptrdiff_t *mirror, const void *h_) {
    REAL *line = line_, *partner = partner_;
    const REAL *h = h_;
    for (ptrdiff_t i = 0; i < points; i++, h += depth * 2 * POINT) {
        const ptrdiff_t j = mirror[i];
        if (line == partner && j < i) continue;
        vec yar = {0}, yai = {0}, ybr = {0}, ybi = {0};
        for (ptrdiff_t p = 0; p < depth; p++) {
            const REAL *z = line + i * step + p * plane, *m = partner + j * step + p * plane, *hp = h + p * 2 * POINT;
            const vec zr = load(z), zi = load(z + VL), mr = load(m), mi = load(m + VL);
            /* Twice the spectra of the two real signals: a real signal's spectrum at the mirrored frequency is the
             * conjugate. */
            const vec ar = zr + mr, ai = zi - mi, br = zi + mi, bi = mr - zr;
            const vec har = load(hp), hai = load(hp + VL), hbr = load(hp + POINT), hbi = load(hp + POINT + VL);
            yar += ar * har - ai * hai, yai += ar * hai + ai * har;
            ybr += br * hbr - bi * hbi, ybi += br * hbi + bi * hbr;
        }
        REAL *z = line + i * step, *m = partner + j * step;
        store(z, yar - ybi);
        store(z + VL, yai + ybr);
        if (z == m) continue;
        store(m, yar + ybi);
        store(m + VL, ybr - yai);
    }
}
