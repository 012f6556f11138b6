/* Depthwise convolution of planes, and copies of their rows; the contract is in kernels.h.
 *
 * Lanes are values of an output line that follow each other. A body computes PLANE_ROWS output rows (or 1) of one or
 * two vectors, all sums in registers: it walks over the input rows under them, and each input vector loaded feeds every
 * row that it reaches, multiplied by a broadcast weight, or by the vector of weights that its lanes' channels have. */

enum { PLANE_ROWS = 4, PLANE_VECTORS = 2, PLANE_TAPS = 7 };
/* Copies run ahead of what follows them: input so far behind is asked for meanwhile. */
enum { PAD_AHEAD = 4096 };

/* Lanes of one weight each, or all of the same one. */
static ALWAYS_INLINE vec plane_weight(const int lanes, const REAL *weights, ptrdiff_t tap) {
    return lanes ? load(weights + tap * VL) : broadcast(weights[tap]);
}

static ALWAYS_INLINE const REAL *plane_weights(const int lanes, const convopt_plane *plane, ptrdiff_t phase) {
    return (const REAL *)plane->weights + (lanes ? phase * plane->taps_h * plane->taps_w * VL : 0);
}

static ALWAYS_INLINE void plane_begin(const int lanes, const int rows, const int vectors, const convopt_plane *plane,
                                      ptrdiff_t phase, vec (*sum)[PLANE_VECTORS]) {
    const REAL *bias = plane->bias;
    const vec start = !bias ? broadcast(0) : lanes ? load(bias + phase * VL) : broadcast(*bias);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = start;
}

/* All the rows; the vectors lie `step` apart, the last of them has `last` lanes. */
static ALWAYS_INLINE void plane_store(const int rows, const int vectors, const convopt_plane *plane, ptrdiff_t step,
                                      REAL *out, vec (*sum)[PLANE_VECTORS], int last) {
    const vec lo = broadcast((REAL)plane->epilogue->lo), hi = broadcast((REAL)plane->epilogue->hi);
    const ptrdiff_t out_row = plane->out_row;
    UNROLL for (int r = 0; r < rows; r++, out += out_row) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const vec y = clamp(sum[r][v], lo, hi);
            if (v < vectors - 1 || last == VL)
                store(out + v * step, y);
            else
                store_first(out + v * step, y, last);
        }
    }
}

/* As many taps both ways and the stride along the height known. */
static ALWAYS_INLINE void plane_body(const int lanes, const int taps, const int stride, const int rows,
                                     const int vectors, const convopt_plane *plane, ptrdiff_t phase, const REAL *in,
                                     REAL *out, int last) {
    const ptrdiff_t step = lanes ? plane->period * VL : VL, *const columns = plane->columns;
    const ptrdiff_t tap_row = plane->tap_row;
    const REAL *weights = plane_weights(lanes, plane, phase);
    vec sum[PLANE_ROWS][PLANE_VECTORS];
    plane_begin(lanes, rows, vectors, plane, phase, sum);
    UNROLL for (int s = 0; s < taps; s++) {
        const REAL *from = in + columns[s];
        vec weight[PLANE_TAPS];
        UNROLL for (int tap = 0; tap < taps; tap++) {
            weight[tap] = plane_weight(lanes, weights, tap * taps + s);
            HOLD(weight[tap]);
        }
        UNROLL for (int i = 0; i < (rows - 1) * stride + taps; i++, from += tap_row) {
            UNROLL for (int v = 0; v < vectors; v++) {
                vec x = load(from + v * step);
                HOLD(x);
                UNROLL for (int r = 0; r < rows; r++) {
                    const int tap = i - r * stride;
                    if (tap >= 0 && tap < taps) sum[r][v] += x * weight[tap];
                }
            }
        }
    }
    plane_store(rows, vectors, plane, step, out, sum, last);
}

/* Any number of taps, any stride and dilation. */
static ALWAYS_INLINE void plane_any(const int lanes, const int rows, const int vectors, const convopt_plane *plane,
                                    ptrdiff_t phase, const REAL *in, REAL *out, int last) {
    const ptrdiff_t step = lanes ? plane->period * VL : VL, row = plane->row;
    const REAL *weights = plane_weights(lanes, plane, phase);
    vec sum[PLANE_ROWS][PLANE_VECTORS];
    plane_begin(lanes, rows, vectors, plane, phase, sum);
    for (ptrdiff_t tap_h = 0; tap_h < plane->taps_h; tap_h++, in += plane->tap_row)
        for (ptrdiff_t tap_w = 0; tap_w < plane->taps_w; tap_w++, weights += lanes ? VL : 1) {
            const REAL *from = in + plane->columns[tap_w];
            const vec weight = plane_weight(lanes, weights, 0);
            UNROLL for (int r = 0; r < rows; r++, from += row) UNROLL for (int v = 0; v < vectors; v++) sum[r][v] +=
                load(from + v * step) * weight;
        }
    plane_store(rows, vectors, plane, step, out, sum, last);
}

/* The vectors of an input row, into output rows first .. end-1: row r multiplies by the weight r * pitch before. */
static ALWAYS_INLINE void plane_input(const int lanes, const int first, const int end, const int vectors,
                                      const REAL *from, ptrdiff_t step, const REAL *weight, ptrdiff_t pitch,
                                      vec (*sum)[PLANE_VECTORS]) {
    vec x[PLANE_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) {
        x[v] = load(from + v * step);
        HOLD(x[v]);
    }
    UNROLL for (int r = first; r < end; r++) {
        const vec w = plane_weight(lanes, weight - r * pitch, 0);
        UNROLL for (int v = 0; v < vectors; v++) sum[r][v] += x[v] * w;
    }
}

/* Any number of taps, not fewer than rows of a body; output rows as far apart as rows of taps. Column by column of
 * taps: input row i reaches output row r by tap i - r, so the first and the last rows - 1 of them reach some output
 * rows only. */
static ALWAYS_INLINE void plane_many(const int lanes, const int rows, const int vectors, const convopt_plane *plane,
                                     ptrdiff_t phase, const REAL *in, REAL *out, int last) {
    const ptrdiff_t step = lanes ? plane->period * VL : VL, tap_row = plane->tap_row, taps = plane->taps_h;
    const ptrdiff_t lane = lanes ? VL : 1, pitch = plane->taps_w * lane;
    const REAL *column = plane_weights(lanes, plane, phase);
    vec sum[PLANE_ROWS][PLANE_VECTORS];
    plane_begin(lanes, rows, vectors, plane, phase, sum);
    for (ptrdiff_t tap_w = 0; tap_w < plane->taps_w; tap_w++, column += lane) {
        const REAL *from = in + plane->columns[tap_w], *weight = column;
        UNROLL for (int i = 0; i < rows - 1; i++, from += tap_row, weight += pitch)
            plane_input(lanes, 0, i + 1, vectors, from, step, weight, pitch, sum);
        for (ptrdiff_t i = rows - 1; i < taps; i++, from += tap_row, weight += pitch)
            plane_input(lanes, 0, rows, vectors, from, step, weight, pitch, sum);
        UNROLL for (int r = 1; r < rows; r++, from += tap_row, weight += pitch)
            plane_input(lanes, r, rows, vectors, from, step, weight, pitch, sum);
    }
    plane_store(rows, vectors, plane, step, out, sum, last);
}

/* A body of so many vectors, of PLANE_ROWS rows or of one. */
#define PLANE_FORM(NAME, VECTORS, BODY)                                                                               \
    static __attribute__((noinline)) void NAME(int high, const convopt_plane *plane, ptrdiff_t phase, const REAL *in, \
                                               REAL *out, int last) {                                                 \
        enum { vectors = VECTORS };                                                                                   \
        if (high > 1) {                                                                                               \
            enum { rows = PLANE_ROWS };                                                                               \
            BODY;                                                                                                     \
        } else {                                                                                                      \
            enum { rows = 1 };                                                                                        \
            BODY;                                                                                                     \
        }                                                                                                             \
    }

typedef void plane_form(int high, const convopt_plane *plane, ptrdiff_t phase, const REAL *in, REAL *out, int last);

/* The vectors of a body have the same weights: they lie a period apart. The last body of a phase is one vector if that
 * will do; the last rows are moved up where there is room. */
static ALWAYS_INLINE void plane_forms(plane_form *wide, plane_form *narrow, const convopt_plane *plane) {
    const int high = plane->rows >= PLANE_ROWS ? PLANE_ROWS : 1;
    const ptrdiff_t step = plane->period * VL;
    for (ptrdiff_t y = 0; y < plane->rows; y += high) {
        if (y + high > plane->rows) y = plane->rows - high;
        const REAL *in = (const REAL *)plane->band + y * plane->row;
        REAL *out = (REAL *)plane->out + y * plane->out_row;
        for (ptrdiff_t x = 0; x < plane->width; x += PLANE_VECTORS * step)
            for (ptrdiff_t phase = 0; phase < plane->period; phase++) {
                const ptrdiff_t at = x + phase * VL, left = plane->width - at;
                if (left <= 0) break;
                if (left > step)
                    wide(high, plane, phase, in + at, out + at, left < step + VL ? (int)(left - step) : VL);
                else
                    narrow(high, plane, phase, in + at, out + at, left < VL ? (int)left : VL);
            }
    }
}

#define PLANE(NAME, BODY)                        \
    PLANE_FORM(NAME##_wide, PLANE_VECTORS, BODY) \
    PLANE_FORM(NAME##_narrow, 1, BODY)           \
    static void NAME(const convopt_plane *plane) { plane_forms(NAME##_wide, NAME##_narrow, plane); }
/* With one weight for all lanes, and with one for each. */
#define PLANES(TAPS, STRIDE)                                                                                \
    PLANE(plane_##TAPS##_##STRIDE, plane_body(0, TAPS, STRIDE, rows, vectors, plane, phase, in, out, last)) \
    PLANE(plane_lanes_##TAPS##_##STRIDE, plane_body(1, TAPS, STRIDE, rows, vectors, plane, phase, in, out, last))
PLANES(3, 1)
PLANES(3, 2)
PLANES(5, 1)
PLANES(5, 2)
PLANES(7, 1)
PLANE(plane_of_many, plane_many(0, rows, vectors, plane, phase, in, out, last))
PLANE(plane_lanes_of_many, plane_many(1, rows, vectors, plane, phase, in, out, last))
PLANE(plane_of_any, plane_any(0, rows, vectors, plane, phase, in, out, last))
PLANE(plane_lanes_of_any, plane_any(1, rows, vectors, plane, phase, in, out, last))

#define PLANE_ENTRY(TAPS, STRIDE)                                                \
    {                                                                            \
        TAPS, STRIDE, { plane_##TAPS##_##STRIDE, plane_lanes_##TAPS##_##STRIDE } \
    }

static void depthwise_plane(const convopt_plane *plane) {
    static const struct {
        ptrdiff_t taps, stride;
        void (*body[2])(const convopt_plane *);
    } bodies[] = {PLANE_ENTRY(3, 1), PLANE_ENTRY(3, 2), PLANE_ENTRY(5, 1), PLANE_ENTRY(5, 2), PLANE_ENTRY(7, 1)};
    for (size_t i = 0; plane->taps_h == plane->taps_w && i < sizeof bodies / sizeof *bodies; i++)
        if (plane->taps_h == bodies[i].taps && plane->row == bodies[i].stride * plane->tap_row) {
            bodies[i].body[plane->lanes](plane);
            return;
        }
    if (plane->taps_h >= PLANE_ROWS && plane->row == plane->tap_row)
        (plane->lanes ? plane_lanes_of_many : plane_of_many)(plane);
    else
        (plane->lanes ? plane_lanes_of_any : plane_of_any)(plane);
}

/* Every second element of two vectors. */
static ALWAYS_INLINE vec sample_even(vec a, vec b) {
    lanes even;
    UNROLL for (int l = 0; l < VL; l++) even[l] = 2 * l;
    return __builtin_shuffle(a, b, even);
}

/* VL elements, `stride` apart. */
static ALWAYS_INLINE vec sample_load(ptrdiff_t stride, const REAL *from) {
    if (stride == 1) return load(from);
    if (stride == 2) return sample_even(load(from), load(from + VL));
    vec v;
    UNROLL for (int l = 0; l < VL; l++) v[l] = from[l * stride];
    return v;
}

/* The same, of which the first `count` exist. */
static ALWAYS_INLINE vec sample_load_first(ptrdiff_t stride, const REAL *from, int count) {
    if (stride == 1) return load_first(from, count);
    if (stride == 2) {
        const int needed = 2 * count - 1;
        return sample_even(load_first(from, needed < VL ? needed : VL),
                           load_first(from + VL, needed > VL ? needed - VL : 0));
    }
    vec v = {0};
    for (int l = 0; l < count; l++) v[l] = from[l * stride];
    return v;
}

/* Two vectors are read of every second element: one more than needed, which exists if another one follows. */
static ALWAYS_INLINE ptrdiff_t sample_needs(ptrdiff_t stride) { return VL + (stride == 2); }

static ALWAYS_INLINE void pad_rows(ptrdiff_t stride, const ptrdiff_t *rows, ptrdiff_t columns, const REAL *from,
                                   ptrdiff_t ldf, ptrdiff_t left, REAL *to, ptrdiff_t pitch) {
    REAL *first = to + rows[0] * pitch, *last = first + rows[1] * pitch;
    vec zero = broadcast(0);
    HOLD(zero); /* or gcc makes calls of memset of these loops, which are short */
    for (; to < first; to += VL) store(to, zero);
    for (to = first; to < last; from += ldf, to += pitch) {
        ptrdiff_t j = 0;
        for (; j < left; j += VL) store(to + j, zero);
        for (j = 0; j + sample_needs(stride) <= columns; j += VL) {
            __builtin_prefetch((const char *)(from + j * stride) + PAD_AHEAD);
            store(to + left + j, sample_load(stride, from + j * stride));
        }
        for (; j < columns; j += VL) {
            const int count = columns - j < VL ? (int)(columns - j) : VL;
            store(to + left + j, sample_load_first(stride, from + j * stride, count));
        }
        for (j += left; j < pitch; j += VL) store(to + j, zero);
    }
    for (; to < last + rows[2] * pitch; to += VL) store(to, zero);
}

static void pad(const ptrdiff_t *rows, ptrdiff_t columns, const void *from, ptrdiff_t ldf, ptrdiff_t stride,
                ptrdiff_t left, void *to, ptrdiff_t pitch) {
    if (stride == 1)
        pad_rows(1, rows, columns, from, ldf, left, to, pitch);
    else if (stride == 2)
        pad_rows(2, rows, columns, from, ldf, left, to, pitch);
    else
        pad_rows(stride, rows, columns, from, ldf, left, to, pitch);
}

static ALWAYS_INLINE void sample_rows(ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns, const REAL *from,
                                      ptrdiff_t ldf, REAL *to, ptrdiff_t ldt) {
    for (ptrdiff_t i = 0; i < rows; i++, from += ldf, to += ldt) {
        ptrdiff_t j = 0;
        for (; j + sample_needs(stride) <= columns; j += VL) store(to + j, sample_load(stride, from + j * stride));
        for (; j < columns; j += VL) {
            const int count = columns - j < VL ? (int)(columns - j) : VL;
            store_first(to + j, sample_load_first(stride, from + j * stride, count), count);
        }
    }
}

static void sample(ptrdiff_t rows, ptrdiff_t columns, const void *from, ptrdiff_t ldf, ptrdiff_t stride, void *to,
                   ptrdiff_t ldt) {
    if (stride == 1)
        sample_rows(1, rows, columns, from, ldf, to, ldt);
    else if (stride == 2)
        sample_rows(2, rows, columns, from, ldf, to, ldt);
    else
        sample_rows(stride, rows, columns, from, ldf, to, ldt);
}
