/* Depthwise convolution of planes, and copies of their rows; the contract is in kernels.h.
 *
 * Lanes are pixels of an output row. A body computes PLANE_ROWS output rows (or 1) of one or two vectors, all sums in
 * registers: it walks over the input rows under them, and each input vector loaded feeds every row that it reaches,
 * multiplied by a broadcast weight. */

enum { PLANE_ROWS = 4, PLANE_VECTORS = 2 };
/* Copies run ahead of what follows them: input so far behind is asked for meanwhile. */
enum { PAD_AHEAD = 4096 };

/* VL pixels, `stride` apart. */
static ALWAYS_INLINE vec plane_load(ptrdiff_t stride, const REAL *from) {
    if (stride == 1) return load(from);
    if (stride == 2) {
        lanes even;
        UNROLL for (int l = 0; l < VL; l++) even[l] = 2 * l;
        return permute_two(load(from), load(from + VL), even);
    }
    vec v;
    UNROLL for (int l = 0; l < VL; l++) v[l] = from[l * stride];
    return v;
}

/* All the rows; the last of the vectors has `last` pixels. */
static ALWAYS_INLINE void plane_store(const int rows, const int vectors, const convopt_plane *plane, REAL *out,
                                      vec (*sum)[PLANE_VECTORS], int last) {
    const vec lo = broadcast((REAL)plane->epilogue->lo), hi = broadcast((REAL)plane->epilogue->hi);
    const ptrdiff_t out_row = plane->out_row;
    UNROLL for (int r = 0; r < rows; r++, out += out_row) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const vec y = clamp(sum[r][v], lo, hi);
            if (v < vectors - 1 || last == VL)
                store(out + v * VL, y);
            else
                store_first(out + v * VL, y, last);
        }
    }
}

/* Taps and stride known, the latter the same both ways. */
static ALWAYS_INLINE void plane_body(const int taps, const int stride, const int rows, const int vectors,
                                     const convopt_plane *plane, const REAL *in, REAL *out, int last) {
    const REAL *weights = plane->weights;
    vec sum[PLANE_ROWS][PLANE_VECTORS];
    const vec start = broadcast(plane->bias ? *(const REAL *)plane->bias : 0);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = start;
    UNROLL for (int i = 0; i < (rows - 1) * stride + taps; i++, in += plane->pitch) {
        UNROLL for (int s = 0; s < taps; s++) {
            vec x[PLANE_VECTORS];
            UNROLL for (int v = 0; v < vectors; v++) {
                x[v] = plane_load(stride, in + v * VL * stride + s);
                HOLD(x[v]); /* loaded once for all rows */
            }
            UNROLL for (int r = 0; r < rows; r++) {
                const int tap = i - r * stride;
                if (tap < 0 || tap >= taps) continue;
                const vec weight = broadcast(weights[tap * taps + s]);
                UNROLL for (int v = 0; v < vectors; v++) sum[r][v] += x[v] * weight;
            }
            if (taps > 3) RELOAD(weights); /* more weights than registers: kept there they would push out the sums */
        }
    }
    plane_store(rows, vectors, plane, out, sum, last);
}

/* Any number of taps, any stride and dilation; one row. */
static ALWAYS_INLINE void plane_any(const int stride, const int vectors, const convopt_plane *plane, const REAL *in,
                                    REAL *out, int last) {
    const REAL *weight = plane->weights;
    const ptrdiff_t step = stride ? stride : plane->stride_w;
    vec sum[1][PLANE_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) sum[0][v] = broadcast(plane->bias ? *(const REAL *)plane->bias : 0);
    for (ptrdiff_t r = 0; r < plane->taps_h; r++, in += plane->dilation_h * plane->pitch)
        for (ptrdiff_t s = 0; s < plane->taps_w; s++, weight++) {
            const vec w = broadcast(*weight);
            UNROLL for (int v = 0; v < vectors; v++) sum[0][v] +=
                plane_load(step, in + v * VL * step + s * plane->dilation_w) * w;
        }
    plane_store(1, vectors, plane, out, sum, last);
}

/* A body of so many vectors, of HIGH rows or of one. */
#define PLANE_FORM(NAME, VECTORS, HIGH, BODY)                                                                   \
    static __attribute__((noinline)) void NAME(int high, const convopt_plane *plane, const REAL *in, REAL *out, \
                                               int last) {                                                      \
        enum { vectors = VECTORS };                                                                             \
        if (high > 1) {                                                                                         \
            enum { rows = HIGH };                                                                               \
            BODY;                                                                                               \
        } else {                                                                                                \
            enum { rows = 1 };                                                                                  \
            BODY;                                                                                               \
        }                                                                                                       \
    }

/* The last body of a row is one vector if that will do; the last rows are moved up where there is room. */
#define PLANE(NAME, HIGH, BODY)                                                               \
    PLANE_FORM(NAME##_wide, PLANE_VECTORS, HIGH, BODY)                                        \
    PLANE_FORM(NAME##_narrow, 1, HIGH, BODY)                                                  \
    static void NAME(const convopt_plane *plane) {                                            \
        const int high = plane->rows >= HIGH ? HIGH : 1;                                      \
        for (ptrdiff_t y = 0; y < plane->rows; y += high) {                                   \
            if (y + high > plane->rows) y = plane->rows - high;                               \
            const REAL *in = (const REAL *)plane->band + y * plane->stride_h * plane->pitch;  \
            REAL *out = (REAL *)plane->out + y * plane->out_row;                              \
            for (ptrdiff_t x = 0; x < plane->width;) {                                        \
                const ptrdiff_t left = plane->width - x;                                      \
                if (left > VL) {                                                              \
                    const int last = left < PLANE_VECTORS * VL ? (int)left - VL : VL;         \
                    NAME##_wide(high, plane, in + x * plane->stride_w, out + x, last);        \
                    x += PLANE_VECTORS * VL;                                                  \
                } else {                                                                      \
                    NAME##_narrow(high, plane, in + x * plane->stride_w, out + x, (int)left); \
                    x += VL;                                                                  \
                }                                                                             \
            }                                                                                 \
        }                                                                                     \
    }

PLANE(plane_3, PLANE_ROWS, plane_body(3, 1, rows, vectors, plane, in, out, last))
PLANE(plane_3_2, PLANE_ROWS, plane_body(3, 2, rows, vectors, plane, in, out, last))
PLANE(plane_5, PLANE_ROWS, plane_body(5, 1, rows, vectors, plane, in, out, last))
PLANE(plane_5_2, PLANE_ROWS, plane_body(5, 2, rows, vectors, plane, in, out, last))
PLANE(plane_7, PLANE_ROWS, plane_body(7, 1, rows, vectors, plane, in, out, last))
PLANE(plane_dense, 1, (void)rows; plane_any(1, vectors, plane, in, out, last))
PLANE(plane_strided, 1, (void)rows; plane_any(0, vectors, plane, in, out, last))

static void depthwise_plane(const convopt_plane *plane) {
    static const struct {
        ptrdiff_t taps, stride;
        void (*body)(const convopt_plane *);
    } bodies[] = {{3, 1, plane_3}, {3, 2, plane_3_2}, {5, 1, plane_5}, {5, 2, plane_5_2}, {7, 1, plane_7}};
    const int plain = plane->taps_h == plane->taps_w && plane->stride_h == plane->stride_w && plane->dilation_h == 1 &&
                      plane->dilation_w == 1;
    for (size_t i = 0; plain && i < sizeof bodies / sizeof *bodies; i++)
        if (plane->taps_h == bodies[i].taps && plane->stride_h == bodies[i].stride) {
            bodies[i].body(plane);
            return;
        }
    (plane->stride_w == 1 ? plane_dense : plane_strided)(plane);
}

static void pad(const ptrdiff_t *rows, ptrdiff_t columns, const void *from_, ptrdiff_t ldf, ptrdiff_t left, void *to_,
                ptrdiff_t pitch) {
    const REAL *from = from_;
    REAL *to = to_, *first = to + rows[0] * pitch, *last = first + rows[1] * pitch;
    for (; to < first; to += VL) store(to, broadcast(0));
    for (to = first; to < last; from += ldf, to += pitch) {
        ptrdiff_t j = 0;
        for (; j < left; j += VL) store(to + j, broadcast(0));
        for (j = 0; j + VL <= columns; j += VL) {
            __builtin_prefetch((const char *)(from + j) + PAD_AHEAD);
            store(to + left + j, load(from + j));
        }
        if (j < columns) store(to + left + j, load_first(from + j, (int)(columns - j)));
        for (j = left + columns + (VL - columns % VL) % VL; j < pitch; j += VL) store(to + j, broadcast(0));
    }
    for (; to < last + rows[2] * pitch; to += VL) store(to, broadcast(0));
}

/* As plane_load, of which the first `count` exist. */
static ALWAYS_INLINE vec plane_load_first(ptrdiff_t stride, const REAL *from, int count) {
    if (stride == 1) return load_first(from, count);
    vec v = {0};
    for (int l = 0; l < count; l++) v[l] = from[l * stride];
    return v;
}

static ALWAYS_INLINE void sample_rows(ptrdiff_t stride, ptrdiff_t rows, ptrdiff_t columns, const REAL *from,
                                      ptrdiff_t ldf, REAL *to, ptrdiff_t ldt) {
    for (ptrdiff_t i = 0; i < rows; i++, from += ldf, to += ldt) {
        ptrdiff_t j = 0;
        /* Two vectors are read of every second pixel: one more than needed, which exists if another one follows. */
        for (; j + VL + (stride == 2) <= columns; j += VL) store(to + j, plane_load(stride, from + j * stride));
        for (; j < columns; j += VL) {
            const int count = columns - j < VL ? (int)(columns - j) : VL;
            store_first(to + j, plane_load_first(stride, from + j * stride, count), count);
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
