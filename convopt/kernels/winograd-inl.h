/* Winograd transforms; the contracts are in kernels.h, the 1-D transforms in generated/winograd-transforms.h.
 *
 * Lanes are channels. A tile's transform is straight-line code over a local array, one dimension after the other; the
 * compiler keeps most of the array in 32 registers. With 16 it could not, so there one column or row is in registers
 * at a time. Two bodies of each: one for whole vectors of tiles whose pixels all exist, one that asks for every pixel
 * and every lane. */
#include "generated/winograd-transforms.h"

#define MAX_TILE 8
#if REGISTERS >= 32
#define UNROLL_PASS UNROLL
#else
#define UNROLL_PASS _Pragma("GCC unroll 1")
#endif

/* p, of origin unknown to gcc: it would otherwise compute the addresses of all t*t pixels ahead of the loop over
 * channels and spill them, instead of a base and t - 1 offsets. */
static ALWAYS_INLINE const REAL *base(const REAL *p) {
    __asm__("" : "+r"(p));
    return p;
}

static ALWAYS_INLINE void winograd_input_tile(const int th, const int tw, const int whole,
                                              const convopt_winograd_tile *tile, const REAL *x, ptrdiff_t row_stride,
                                              ptrdiff_t column_stride, int lanes, REAL *v, ptrdiff_t ldf) {
    vec d[MAX_TILE * MAX_TILE];
    UNROLL_PASS for (int i = 0; i < th; i++) {
        const REAL *row = base(x);
        UNROLL for (int j = 0; j < tw; j++) {
            const REAL *pixel = row + j * column_stride;
            if (whole)
                d[i * tw + j] = load(pixel);
            else if (i >= tile->row_first && i < tile->row_end && j >= tile->column_first && j < tile->column_end)
                d[i * tw + j] = load_first(pixel, lanes);
            else
                d[i * tw + j] = (vec){0};
        }
        winograd_input_1d(tw, d + i * tw, 1, d + i * tw, 1);
        x += row_stride;
    }
    UNROLL_PASS for (int j = 0; j < tw; j++) {
        winograd_input_1d(th, d + j, tw, d + j, tw);
        REAL *column = (REAL *)base(v);
        UNROLL for (int i = 0; i < th; i++) store(column + i * tw * ldf, d[i * tw + j]);
        v += ldf;
    }
}

static ALWAYS_INLINE void winograd_input(const int th, const int tw, ptrdiff_t count, const convopt_winograd_tile *tile,
                                         ptrdiff_t channels, const REAL *x, ptrdiff_t row_stride,
                                         ptrdiff_t column_stride, REAL *v, ptrdiff_t ldf, ptrdiff_t ldv) {
    for (; count > 0; count--, tile++, v += ldv) {
        const REAL *from = x + tile->input;
        ptrdiff_t c = 0;
        if (tile->row_first == 0 && tile->row_end == th && tile->column_first == 0 && tile->column_end == tw)
            for (; c + VL <= channels; c += VL)
                winograd_input_tile(th, tw, 1, tile, from + c, row_stride, column_stride, VL, v + c, ldf);
        for (; c < channels; c += VL) {
            const int lanes = channels - c < VL ? (int)(channels - c) : VL;
            winograd_input_tile(th, tw, 0, tile, from + c, row_stride, column_stride, lanes, v + c, ldf);
        }
    }
}

static ALWAYS_INLINE void winograd_output_tile(const int th, const int mh, const int tw, const int mw, const int whole,
                                               const convopt_winograd_tile *tile, const REAL *q, ptrdiff_t ldf,
                                               vec bias, vec lo, vec hi, int lanes, REAL *out, ptrdiff_t row_stride,
                                               ptrdiff_t column_stride) {
    vec half[MAX_TILE * MAX_TILE]; /* mh x tw */
    UNROLL_PASS for (int j = 0; j < tw; j++) {
        const REAL *frequency = base(q);
        vec column[MAX_TILE];
        UNROLL for (int i = 0; i < th; i++) column[i] = load(frequency + i * tw * ldf);
        winograd_output_1d(th, mh, column, 1, half + j, tw);
        q += ldf;
    }
    UNROLL_PASS for (int i = 0; i < mh; i++) {
        vec y[MAX_TILE];
        winograd_output_1d(tw, mw, half + i * tw, 1, y, 1);
        REAL *row = (REAL *)base(out);
        UNROLL for (int j = 0; j < mw; j++) {
            REAL *pixel = row + j * column_stride;
            y[j] = clamp(y[j] + bias, lo, hi);
            if (whole)
                store(pixel, y[j]);
            else if (i < tile->rows && j < tile->columns)
                store_first(pixel, y[j], lanes);
        }
        out += row_stride;
    }
}

static ALWAYS_INLINE void winograd_output(const int th, const int mh, const int tw, const int mw, ptrdiff_t count,
                                          const convopt_winograd_tile *tile, ptrdiff_t channels, const REAL *q,
                                          ptrdiff_t ldf, ptrdiff_t ldq, REAL *out, ptrdiff_t row_stride,
                                          ptrdiff_t column_stride, const convopt_epilogue *epilogue) {
    const REAL *bias = epilogue->bias;
    const vec lo = broadcast((REAL)epilogue->lo), hi = broadcast((REAL)epilogue->hi);
    for (; count > 0; count--, tile++, q += ldq) {
        REAL *to = out + tile->output;
        const int exists = tile->rows == mh && tile->columns == mw;
        for (ptrdiff_t k = 0; k < channels; k += VL) {
            const vec b = bias ? load(bias + k) : (vec){0};
            const int lanes = channels - k < VL ? (int)(channels - k) : VL;
            if (exists && lanes == VL)
                winograd_output_tile(th, mh, tw, mw, 1, tile, q + k, ldf, b, lo, hi, VL, to + k, row_stride,
                                     column_stride);
            else
                winograd_output_tile(th, mh, tw, mw, 0, tile, q + k, ldf, b, lo, hi, lanes, to + k, row_stride,
                                     column_stride);
        }
    }
}

#define INPUT(TH, TW)                                                                                               \
    static void winograd_input_##TH##x##TW(ptrdiff_t count, const convopt_winograd_tile *tiles, ptrdiff_t channels, \
                                           const void *x, ptrdiff_t row_stride, ptrdiff_t column_stride, void *v,   \
                                           ptrdiff_t ldf, ptrdiff_t ldv) {                                          \
        winograd_input(TH, TW, count, tiles, channels, x, row_stride, column_stride, v, ldf, ldv);                  \
    }
WINOGRAD_INPUTS(INPUT)
#undef INPUT

#define OUTPUT(TH, MH, TW, MW)                                                                                       \
    static void winograd_output_##TH##_##MH##x##TW##_##MW(                                                           \
        ptrdiff_t count, const convopt_winograd_tile *tiles, ptrdiff_t channels, const void *q, ptrdiff_t ldf,       \
        ptrdiff_t ldq, void *out, ptrdiff_t row_stride, ptrdiff_t column_stride, const convopt_epilogue *epilogue) { \
        winograd_output(TH, MH, TW, MW, count, tiles, channels, q, ldf, ldq, out, row_stride, column_stride,         \
                        epilogue);                                                                                   \
    }
WINOGRAD_FORMS(OUTPUT)
#undef OUTPUT

static const convopt_winograd winograd_forms[] = {
#define FORM(TH, MH, TW, MW) {TH, MH, TW, MW, winograd_input_##TH##x##TW, winograd_output_##TH##_##MH##x##TW##_##MW},
    WINOGRAD_FORMS(FORM)
#undef FORM
        {0, 0, 0, 0, NULL, NULL},
};

/* VL output channels in double. */
typedef double vec_double __attribute__((vector_size(8 * VECTOR_BYTES / REAL_BYTES)));

/* One input channel and one vector of output channels at a time: along the vertical taps, then along the others. */
static void winograd_filter(const convopt_winograd *form, const double *g_h, const double *g_w, ptrdiff_t channels,
                            ptrdiff_t outputs, const void *filters, ptrdiff_t ldc, ptrdiff_t lds, ptrdiff_t ldr,
                            void *u, ptrdiff_t ldu) {
    const int th = form->t_h, tw = form->t_w, r = th - form->m_h + 1, s = tw - form->m_w + 1;
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t k = 0; k < outputs; k += VL) {
            const REAL *w = (const REAL *)filters + c * ldc + k;
            REAL *to = (REAL *)u + c * ldu + k;
            const int lanes = outputs - k < VL ? (int)(outputs - k) : VL;
            vec_double half[MAX_TILE][MAX_TILE]; /* t_h x s */
            for (int b = 0; b < s; b++) {
                vec_double tap[MAX_TILE];
                for (int a = 0; a < r; a++)
                    tap[a] = __builtin_convertvector(load_first(w + a * ldr + b * lds, lanes), vec_double);
                for (int i = 0; i < th; i++) {
                    half[i][b] = g_h[i * r] * tap[0];
                    for (int a = 1; a < r; a++) half[i][b] += g_h[i * r + a] * tap[a];
                }
            }
            for (int i = 0; i < th; i++)
                for (int j = 0; j < tw; j++) {
                    vec_double sum = g_w[j * s] * half[i][0];
                    for (int b = 1; b < s; b++) sum += g_w[j * s + b] * half[i][b];
                    store(to + (i * tw + j) * channels * ldu, __builtin_convertvector(sum, vec));
                }
        }
}
