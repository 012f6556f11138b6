/* Winograd transforms; the contracts are in kernels.h, the 1-D transforms in generated/winograd-transforms.h.
 *
 * Lanes are channels. A PASS applies one 1-D transform to many lines: those of a tile in one dimension, through a small
 * array in the first-level cache to a pass in the other dimension; or, where the other dimension has one tap, those of
 * all channel vectors of a tile. So any two axes combine, and bodies are compiled per axis, not per pair. Tiles at a
 * border, and channels that do not fill a vector, go through arrays that hold zeros for what does not exist. */
#include "generated/winograd-transforms.h"

/* p, of origin unknown to gcc: it would otherwise keep a pointer per element of a line, more than there are registers,
 * instead of one that moves. */
static ALWAYS_INLINE REAL *moved(const REAL *p) {
    __asm__("" : "+r"(p));
    return (REAL *)p;
}

/* Stride 2 has a second phase, the `odd` pixels; where its filter is a single tap they are frequencies as they are.
 *
 * A pass that reads pixels, and one that writes them, fetches those of the next tile, which lies `stride * m` steps on
 * except at the end of a row of tiles; the pass that writes V fetches what the next vector's will write, which lies
 * behind. */
static ALWAYS_INLINE void winograd_input_pass(const int stride, const int m, const int t, const int odd,
                                              const int pixels, ptrdiff_t lines, const REAL *from, ptrdiff_t from_line,
                                              ptrdiff_t from_step, REAL *to, ptrdiff_t to_line, ptrdiff_t to_step) {
    for (; lines > 0; lines--, from += from_line, to += to_line) {
        vec d[WINOGRAD_MAX_LINE + 1], v[WINOGRAD_MAX_LINE];
        const REAL *element = from;
        UNROLL for (int i = 0; i < t + odd; i++, element = moved(element + from_step)) {
            d[i] = load(element);
            if (pixels) __builtin_prefetch(element + stride * m * from_step);
        }
        winograd_input_1d(t, d, stride, v, 1);
        if (odd == m)
            UNROLL for (int i = 0; i < odd; i++) v[t + i] = d[2 * i + 1];
        else
            winograd_input_1d(odd, d + 1, stride, v + t, 1);
        REAL *frequency = to;
        UNROLL for (int i = 0; i < t + odd; i++, frequency = moved(frequency + to_step)) {
            store(frequency, v[i]);
            if (!pixels) __builtin_prefetch(frequency + VL, 1);
        }
    }
}

static ALWAYS_INLINE void winograd_output_pass(const int m, const int t, const int odd, const int last, ptrdiff_t lines,
                                               const REAL *from, ptrdiff_t from_line, ptrdiff_t from_step, REAL *to,
                                               ptrdiff_t to_line, ptrdiff_t to_step, const REAL *bias,
                                               ptrdiff_t bias_line, vec lo, vec hi) {
    for (; lines > 0; lines--, from += from_line, to += to_line) {
        vec q[WINOGRAD_MAX_LINE], y[WINOGRAD_MAX_LINE], more[WINOGRAD_MAX_LINE];
        const REAL *frequency = from;
        UNROLL for (int i = 0; i < t + odd; i++, frequency = moved(frequency + from_step)) q[i] = load(frequency);
        winograd_output_1d(t, m, q, 1, y, 1);
        if (odd > m) winograd_output_1d(odd, m, q + t, 1, more, 1);
        if (odd) UNROLL for (int i = 0; i < m; i++) y[i] += odd > m ? more[i] : q[t + i];
        if (last) {
            const vec b = load(bias);
            UNROLL for (int i = 0; i < m; i++) y[i] = clamp(y[i] + b, lo, hi);
            bias += bias_line;
        }
        REAL *pixel = to;
        UNROLL for (int i = 0; i < m; i++, pixel = moved(pixel + to_step)) {
            store(pixel, y[i]);
            if (last) __builtin_prefetch(pixel + m * to_step, 1);
        }
    }
}

#define PASSES(STRIDE, TAPS, M, T, ODD, FILTERS)                                                                     \
    static void winograd_input_##STRIDE##_##TAPS##_##M(ptrdiff_t lines, const void *from, ptrdiff_t from_line,       \
                                                       ptrdiff_t from_step, void *to, ptrdiff_t to_line,             \
                                                       ptrdiff_t to_step) {                                          \
        winograd_input_pass(STRIDE, M, T, ODD, 0, lines, from, from_line, from_step, to, to_line, to_step);          \
    }                                                                                                                \
    static void winograd_first_##STRIDE##_##TAPS##_##M(ptrdiff_t lines, const void *from, ptrdiff_t from_line,       \
                                                       ptrdiff_t from_step, void *to, ptrdiff_t to_line,             \
                                                       ptrdiff_t to_step) {                                          \
        winograd_input_pass(STRIDE, M, T, ODD, 1, lines, from, from_line, from_step, to, to_line, to_step);          \
    }                                                                                                                \
    static void winograd_output_##STRIDE##_##TAPS##_##M(ptrdiff_t lines, const void *from, ptrdiff_t from_line,      \
                                                        ptrdiff_t from_step, void *to, ptrdiff_t to_line,            \
                                                        ptrdiff_t to_step) {                                         \
        const vec none = {0};                                                                                        \
        winograd_output_pass(M, T, ODD, 0, lines, from, from_line, from_step, to, to_line, to_step, NULL, 0, none,   \
                             none);                                                                                  \
    }                                                                                                                \
    static void winograd_last_##STRIDE##_##TAPS##_##M(                                                               \
        ptrdiff_t lines, const void *from, ptrdiff_t from_line, ptrdiff_t from_step, void *to, ptrdiff_t to_line,    \
        ptrdiff_t to_step, const void *bias, ptrdiff_t bias_line, double lo, double hi) {                            \
        winograd_output_pass(M, T, ODD, 1, lines, from, from_line, from_step, to, to_line, to_step, bias, bias_line, \
                             broadcast((REAL)lo), broadcast((REAL)hi));                                              \
    }
WINOGRAD_AXES(PASSES)
#undef PASSES

static const convopt_winograd_axis winograd_axes[] = {
    {.t = 1, .taps = 1, .stride = 1, .inputs = 1, .outputs = 1, .frequencies = 1, .filters = 1},
#define AXIS(STRIDE, TAPS, M, T, ODD, FILTERS)          \
    {.t = T,                                            \
     .taps = TAPS,                                      \
     .stride = STRIDE,                                  \
     .inputs = T + ODD,                                 \
     .outputs = M,                                      \
     .frequencies = T + ODD,                            \
     .filters = FILTERS,                                \
     .first = winograd_first_##STRIDE##_##TAPS##_##M,   \
     .input = winograd_input_##STRIDE##_##TAPS##_##M,   \
     .output = winograd_output_##STRIDE##_##TAPS##_##M, \
     .last = winograd_last_##STRIDE##_##TAPS##_##M},
    WINOGRAD_AXES(AXIS)
#undef AXIS
        {0},
};

/* The pixels of a tile that exist, as vectors side by side; zero for the others. */
static void winograd_stage(const convopt_winograd_tile *tile, int inputs_h, int inputs_w, const REAL *x,
                           ptrdiff_t row_stride, ptrdiff_t column_stride, int lanes, vec *to) {
    for (int i = 0; i < inputs_h; i++, x += row_stride)
        for (int j = 0; j < inputs_w; j++, to++) {
            const REAL *pixel = x + j * column_stride;
            if (i < tile->row_first || i >= tile->row_end || j < tile->column_first || j >= tile->column_end)
                *to = (vec){0};
            else
                *to = lanes == VL ? load(pixel) : load_first(pixel, lanes);
        }
}

static void winograd_input(const convopt_winograd_axis *h, const convopt_winograd_axis *w, ptrdiff_t count,
                           const convopt_winograd_tile *tile, ptrdiff_t channels, const void *x, ptrdiff_t row_stride,
                           ptrdiff_t column_stride, void *v, ptrdiff_t ldf, ptrdiff_t ldv) {
    vec staged[WINOGRAD_MAX_TILE], half[WINOGRAD_MAX_TILE]; /* half: inputs_h x frequencies_w */
    const ptrdiff_t half_line = w->frequencies * VL;
    for (REAL *tile_v = v; count > 0; count--, tile++, tile_v += ldv) {
        const REAL *from = (const REAL *)x + tile->input;
        REAL *to = tile_v;
        const int exists = tile->row_first == 0 && tile->row_end == h->inputs && tile->column_first == 0 &&
                           tile->column_end == w->inputs;
        ptrdiff_t left = channels;
        while (left > 0) {
            const REAL *pixels = from;
            ptrdiff_t row = row_stride, column = column_stride, vectors = 1;
            if (!exists || left < VL) {
                winograd_stage(tile, h->inputs, w->inputs, from, row_stride, column_stride, left < VL ? (int)left : VL,
                               staged);
                pixels = (const REAL *)staged;
                row = w->inputs * VL;
                column = VL;
            } else if (!h->input || !w->input)
                vectors = left / VL;
            if (!h->input)
                w->input(vectors, pixels, VL, column, to, VL, ldf);
            else if (!w->input)
                h->input(vectors, pixels, VL, row, to, VL, ldf);
            else {
                w->first(h->inputs, pixels, row, column, half, half_line, VL);
                h->input(w->frequencies, half, VL, half_line, to, ldf, w->frequencies * ldf);
            }
            left -= vectors * VL;
            from += vectors * VL;
            to += vectors * VL;
        }
    }
}

/* The filters that frequency f is multiplied by. */
static ALWAYS_INLINE const REAL *winograd_panel(const convopt_winograd_axis *h, const convopt_winograd_axis *w, int f,
                                                const void *u, ptrdiff_t panel) {
    const int i = f / w->frequencies, j = f % w->frequencies;
    const int row = i < h->filters ? i : h->filters - 1, column = j < w->filters ? j : w->filters - 1;
    return (const REAL *)u + (row * w->filters + column) * panel;
}

/* Twice so many bytes of filters stay in the smallest first-level cache, beside the other operands of a product. */
enum { PRODUCT_FILTER_BYTES = 1 << 14 };

/* Sums of up to so many channels are made by the kernel of windows, tiles of transformed input lying at equal
 * distances: what surrounds them counts (9 % at 12 channels, 3 % at 64), and their filters are few enough to arrive
 * unasked. */
enum { SHORT_SUM = 64 };

/* Each register tile fetches a part of the filters of the next sum. Where these would displace its own, the first,
 * which finds those no nearer than in the second-level cache, fetches them a few rows on, and the others do its part.
 */
static void winograd_product(const convopt_winograd_axis *h, const convopt_winograd_axis *w, ptrdiff_t count,
                             ptrdiff_t channels, ptrdiff_t runs, const void *u, int nr, const void *v, ptrdiff_t ldf,
                             ptrdiff_t ldv, void *q, ptrdiff_t ldqf, ptrdiff_t ldq) {
    static const convopt_epilogue none = {NULL, NULL, -INFINITY, INFINITY};
    const int mr = tile_mr[nr / VL], frequencies = h->frequencies * w->frequencies;
    const ptrdiff_t tiles = (count + mr - 1) / mr, panel = channels * nr;
    const ptrdiff_t lower = count / tiles, higher = count % tiles; /* so many register tiles have one row more */
    const REAL *end = (const REAL *)u + h->filters * w->filters * panel;
    for (int f = 0; f < frequencies; f++) {
        const REAL *b = winograd_panel(h, w, f, u, panel);
        if (runs == 1 && channels <= SHORT_SUM) {
            const void *line = (const REAL *)v + f * ldf;
            windows_columns(nr / VL, 1, 0, count, nr, 1, channels, &line, ldv, b, (REAL *)q + f * ldqf, ldq, &none);
            continue;
        }
        const REAL *next = f + 1 < frequencies ? winograd_panel(h, w, f + 1, u, panel) : end;
        for (ptrdiff_t run = 0; run < runs; run++) {
            const ptrdiff_t first = run * channels / runs, depth = (run + 1) * channels / runs - first;
            const ptrdiff_t alone = depth * nr * REAL_BYTES > PRODUCT_FILTER_BYTES,
                            parts = tiles > alone ? tiles - alone : 1;
            const ptrdiff_t columns = (nr + parts - 1) / parts;
            const REAL *after = run + 1 < runs ? b + (first + depth) * nr : next;
            const REAL *row = (const REAL *)v + f * ldf + first;
            REAL *sums = (REAL *)q + f * ldqf;
            for (ptrdiff_t i = 0; i < tiles; i++) {
                const REAL *rows[CONVOPT_MAX_MR];
                const ptrdiff_t high = lower + (i < higher);
                for (int j = 0; j < high; j++, row += ldv) rows[j] = row;
                const ptrdiff_t ahead_step = i < alone ? nr : columns;
                const REAL *ahead =
                    i < alone ? b + (first + PREFETCH_ROWS) * nr : after + (i - alone) * depth * columns;
                igemm_by_width[nr / VL - 1]((int)high, nr, 1, depth, rows, b + first * nr, nr, sums, ldq, run > 0,
                                            &none, ahead, ahead_step);
                sums += high * ldq;
            }
        }
    }
}

static void winograd_output(const convopt_winograd_axis *h, const convopt_winograd_axis *w, ptrdiff_t count,
                            const convopt_winograd_tile *tile, ptrdiff_t channels, const void *q, ptrdiff_t ldf,
                            ptrdiff_t ldq, void *out, ptrdiff_t row_stride, ptrdiff_t column_stride,
                            const convopt_epilogue *epilogue) {
    vec staged[WINOGRAD_MAX_TILE], half[WINOGRAD_MAX_TILE]; /* half: outputs_h x frequencies_w */
    const vec no_bias = {0};
    const ptrdiff_t half_line = w->frequencies * VL, bias_line = epilogue->bias ? VL : 0;
    for (const REAL *tile_q = q; count > 0; count--, tile++, tile_q += ldq) {
        const REAL *from = tile_q, *bias = epilogue->bias ? epilogue->bias : (const REAL *)&no_bias;
        REAL *to = (REAL *)out + tile->output;
        const int exists = tile->rows == h->outputs && tile->columns == w->outputs;
        ptrdiff_t left = channels;
        while (left > 0) {
            const int whole = exists && left >= VL;
            REAL *pixels = whole ? to : (REAL *)staged;
            const ptrdiff_t row = whole ? row_stride : w->outputs * VL, column = whole ? column_stride : VL;
            const ptrdiff_t vectors = whole && (!h->output || !w->output) ? left / VL : 1;
            if (!h->output)
                w->last(vectors, from, VL, ldf, pixels, VL, column, bias, bias_line, epilogue->lo, epilogue->hi);
            else if (!w->output)
                h->last(vectors, from, VL, ldf, pixels, VL, row, bias, bias_line, epilogue->lo, epilogue->hi);
            else {
                h->output(w->frequencies, from, ldf, w->frequencies * ldf, half, VL, half_line);
                w->last(h->outputs, half, half_line, VL, pixels, row, column, bias, 0, epilogue->lo, epilogue->hi);
            }
            if (!whole)
                for (int i = 0; i < tile->rows; i++)
                    for (int j = 0; j < tile->columns; j++)
                        store_first(to + i * row_stride + j * column_stride, staged[i * w->outputs + j],
                                    left < VL ? (int)left : VL);
            left -= vectors * VL;
            from += vectors * VL;
            to += vectors * VL;
            bias += vectors * bias_line;
        }
    }
}

/* VL output channels in double, and one of the registers that make them up. */
typedef double vec_double __attribute__((vector_size(8 * VECTOR_BYTES / REAL_BYTES)));
typedef double vec_part __attribute__((vector_size(VECTOR_BYTES)));
#define PARTS ((int)(sizeof(vec_double) / sizeof(vec_part)))

/* Lines of `taps` elements into lines of `values`, all vec_doubles: element i of line l is at [l*line + i*step]. */
static ALWAYS_INLINE void winograd_filter_lines(const int taps, int values, const double *g, int lines,
                                                const vec_double *from, int from_line, int from_step, vec_double *to,
                                                int to_line, int to_step) {
    for (int l = 0; l < lines * PARTS; l++) {
        const vec_part *source = (const vec_part *)(from + l / PARTS * from_line) + l % PARTS;
        vec_part *target = (vec_part *)(to + l / PARTS * to_line) + l % PARTS;
        vec_part tap[WINOGRAD_MAX_TAPS];
        UNROLL for (int i = 0; i < taps; i++) tap[i] = source[i * from_step * PARTS];
        for (int v = 0; v < values; v++, target += to_step * PARTS) {
            vec_part sum = g[v * taps] * tap[0];
            UNROLL for (int i = 1; i < taps; i++) sum += g[v * taps + i] * tap[i];
            *target = sum;
        }
    }
}

static void winograd_filter_pass(int taps, int values, const double *g, int lines, const vec_double *from,
                                 int from_line, int from_step, vec_double *to, int to_line, int to_step) {
    switch (taps) {
#define TAPS(N)                                                                                       \
    case N:                                                                                           \
        winograd_filter_lines(N, values, g, lines, from, from_line, from_step, to, to_line, to_step); \
        break;
        WINOGRAD_TAPS(TAPS)
#undef TAPS
    }
}

/* One input channel and one vector of output channels at a time: along the vertical taps, then along the others. */
static void winograd_filter(const convopt_winograd_axis *h, const convopt_winograd_axis *w, const double *g_h,
                            const double *g_w, ptrdiff_t channels, ptrdiff_t outputs, const void *filters,
                            ptrdiff_t ldc, ptrdiff_t lds, ptrdiff_t ldr, void *u, ptrdiff_t ldu) {
    const int rows = h->filters, columns = w->filters, r = h->taps, s = w->taps;
    vec_double taps[WINOGRAD_MAX_TAPS * WINOGRAD_MAX_TAPS];     /* r x s */
    vec_double half[WINOGRAD_MAX_TILE], all[WINOGRAD_MAX_TILE]; /* rows x s, rows x columns */
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t k = 0; k < outputs; k += VL) {
            const REAL *from = (const REAL *)filters + c * ldc + k;
            REAL *to = (REAL *)u + c * ldu + k;
            const int lanes = outputs - k < VL ? (int)(outputs - k) : VL;
            for (int a = 0; a < r; a++)
                for (int b = 0; b < s; b++) {
                    const REAL *tap = from + a * ldr + b * lds;
                    taps[a * s + b] =
                        __builtin_convertvector(lanes == VL ? load(tap) : load_first(tap, lanes), vec_double);
                }
            winograd_filter_pass(r, rows, g_h, s, taps, 1, s, half, 1, s);
            winograd_filter_pass(s, columns, g_w, rows, half, s, 1, all, columns, 1);
            for (int f = 0; f < rows * columns; f++, to += channels * ldu)
                store(to, __builtin_convertvector(all[f], vec));
        }
}
#undef PARTS
