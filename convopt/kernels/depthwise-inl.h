/* Depthwise convolution; the contract is in kernels.h.
 *
 * A body computes ROWS x COLUMNS output pixels of one vector of channels, all in registers. It walks over the input
 * rows under them: the row's vectors are loaded once, and each weight loaded feeds COLUMNS multiply-adds. `careful`
 * bodies, for the borders and for the last channels, read nothing outside the image and write nothing beyond count
 * lanes or beyond the rows and columns asked for. */

static ALWAYS_INLINE vec depthwise_load(const int careful, const REAL *from, int count) {
    return careful && count < VL ? load_first(from, count) : load(from);
}

/* clamp(sum, lo, hi) of one pixel. */
static ALWAYS_INLINE void depthwise_store(const int careful, REAL *to, vec sum, int count,
                                          const convopt_epilogue *epilogue) {
    sum = clamp(sum, broadcast((REAL)epilogue->lo), broadcast((REAL)epilogue->hi));
    if (careful && count < VL)
        store_first(to, sum, count);
    else
        store(to, sum);
}

/* The input vector of column `column` (+ `ahead`) of a row, zero outside the image. */
static ALWAYS_INLINE vec depthwise_input(const int careful, const convopt_strip *strip, int row, ptrdiff_t column,
                                         ptrdiff_t ahead) {
    const REAL *base = strip->inputs[row], *zeros = strip->zeros;
    if (careful) {
        const int inside = base != zeros && column + ahead >= 0 && column + ahead < strip->columns;
        return depthwise_load(1, inside ? base + (column + ahead) * strip->pitch : zeros, strip->count);
    }
    return load(base + (base == zeros ? 0 : column) * strip->pitch + ahead * strip->pitch);
}

static ALWAYS_INLINE void depthwise_body(const int careful, const int taps_h, const int taps_w, const int stride,
                                         const int rows, const int columns, const convopt_strip *strip, ptrdiff_t x,
                                         ptrdiff_t wanted) {
    const REAL *weights = strip->weights, *bias = strip->bias;
    const ptrdiff_t column = strip->column + x * stride;
    vec sum[CONVOPT_STRIP_ROWS][CONVOPT_STRIP_COLUMNS];
    const vec start = bias ? load(bias) : broadcast(0);
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++) sum[r][c] = start;
    UNROLL for (int i = 0; i < (rows - 1) * stride + taps_h; i++) {
        vec in[(CONVOPT_STRIP_COLUMNS - 1) * 2 + 7];
        UNROLL for (int j = 0; j < (columns - 1) * stride + taps_w; j++)
            in[j] = depthwise_input(careful, strip, i, column, j);
        UNROLL for (int r = 0; r < rows; r++) {
            const int tap = i - r * stride;
            if (tap < 0 || tap >= taps_h) continue;
            UNROLL for (int s = 0; s < taps_w; s++) {
                const vec weight = load(weights + (tap * taps_w + s) * VL);
                UNROLL for (int c = 0; c < columns; c++) sum[r][c] += in[c * stride + s] * weight;
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        if (careful && r >= strip->rows) break;
        REAL *out = (REAL *)strip->out + r * strip->out_row + x * strip->out_pixel;
        UNROLL for (int c = 0; c < columns; c++)
            if (!careful || c < wanted)
                depthwise_store(careful, out + c * strip->out_pixel, sum[r][c], strip->count, strip->epilogue);
    }
}

/* Any number of taps, any stride and dilation: one output row, every input vector loaded for every tap. */
static ALWAYS_INLINE void depthwise_any(const int careful, const int columns, const convopt_strip *strip, ptrdiff_t x,
                                        ptrdiff_t wanted) {
    const REAL *weight = strip->weights, *bias = strip->bias;
    const ptrdiff_t step = strip->stride_w, column = strip->column + x * step;
    vec sum[CONVOPT_STRIP_COLUMNS];
    const vec start = bias ? load(bias) : broadcast(0);
    UNROLL for (int c = 0; c < columns; c++) sum[c] = start;
    for (int i = 0; i < strip->taps_h; i++) {
        if (strip->inputs[i] == strip->zeros) {
            weight += strip->taps_w * VL;
            continue;
        }
        for (int s = 0; s < strip->taps_w; s++, weight += VL) {
            const vec w = load(weight);
            const ptrdiff_t first = column + s * strip->dilation_w;
            UNROLL for (int c = 0; c < columns; c++)
                sum[c] += depthwise_input(careful, strip, i, first, c * step) * w;
        }
    }
    REAL *out = (REAL *)strip->out + x * strip->out_pixel;
    UNROLL for (int c = 0; c < columns; c++)
        if (!careful || c < wanted)
            depthwise_store(careful, out + c * strip->out_pixel, sum[c], strip->count, strip->epilogue);
}

/* Cover the strip with bodies of `columns` pixels; the last one is moved back rather than cut where there is room. */
#define COVER(NAME, BODY, ROWS, COLUMNS, REACH)                                                                       \
    static __attribute__((noinline)) void NAME##_careful(const convopt_strip *strip, ptrdiff_t x, ptrdiff_t wanted) { \
        BODY(1, COLUMNS, strip, x, wanted);                                                                           \
    }                                                                                                                 \
    static void NAME(const convopt_strip *strip) {                                                                    \
        const int whole = strip->count == VL && strip->rows == (ROWS);                                                \
        const ptrdiff_t reach = (REACH);                                                                              \
        for (ptrdiff_t x = 0; x < strip->width; x += (COLUMNS)) {                                                     \
            if (x + (COLUMNS) > strip->width && strip->width > (COLUMNS)) x = strip->width - (COLUMNS);               \
            const ptrdiff_t left = strip->width - x, column = strip->column + x * strip->stride_w;                    \
            if (whole && left >= (COLUMNS) && column >= 0 && column + reach <= strip->columns)                        \
                BODY(0, COLUMNS, strip, x, COLUMNS);                                                                  \
            else                                                                                                      \
                NAME##_careful(strip, x, left);                                                                       \
        }                                                                                                             \
    }

#define SPECIAL(NAME, TAPS, STRIDE, ROWS, COLUMNS)                                                               \
    static ALWAYS_INLINE void NAME##_body(const int careful, const int columns, const convopt_strip *strip,      \
                                          ptrdiff_t x, ptrdiff_t wanted) {                                       \
        depthwise_body(careful, TAPS, TAPS, STRIDE, ROWS, columns, strip, x, wanted);                            \
    }                                                                                                            \
    COVER(NAME, NAME##_body, ROWS, COLUMNS, ((COLUMNS)-1) * (STRIDE) + (TAPS))

/* Register tiles: ROWS*COLUMNS sums, the vectors of one input row, and a weight. */
#if REGISTERS == 32
enum { ROWS_3 = 4, ROWS_3_2 = 4, ROWS_5 = 3, ROWS_5_2 = 3, ROWS_7 = 2, COLUMNS_ANY = 8 };
SPECIAL(depthwise_3, 3, 1, ROWS_3, 5)
SPECIAL(depthwise_3_2, 3, 2, ROWS_3_2, 4)
SPECIAL(depthwise_5, 5, 1, ROWS_5, 6)
SPECIAL(depthwise_5_2, 5, 2, ROWS_5_2, 4)
SPECIAL(depthwise_7, 7, 1, ROWS_7, 8)
#else
enum { ROWS_3 = 2, ROWS_3_2 = 2, ROWS_5 = 2, ROWS_5_2 = 2, ROWS_7 = 2, COLUMNS_ANY = 8 };
SPECIAL(depthwise_3, 3, 1, ROWS_3, 4)
SPECIAL(depthwise_3_2, 3, 2, ROWS_3_2, 3)
SPECIAL(depthwise_5, 5, 1, ROWS_5, 3)
SPECIAL(depthwise_5_2, 5, 2, ROWS_5_2, 3)
SPECIAL(depthwise_7, 7, 1, ROWS_7, 3)
#endif
COVER(depthwise_general, depthwise_any, 1, COLUMNS_ANY,
      ((COLUMNS_ANY)-1) * strip->stride_w + (strip->taps_w - 1) * strip->dilation_w + 1)

static const struct {
    int taps, stride, rows;
    convopt_depthwise *body;
} depthwise_bodies[] = {
    {3, 1, ROWS_3, depthwise_3},     {3, 2, ROWS_3_2, depthwise_3_2}, {5, 1, ROWS_5, depthwise_5},
    {5, 2, ROWS_5_2, depthwise_5_2}, {7, 1, ROWS_7, depthwise_7},
};

static convopt_depthwise *depthwise(ptrdiff_t taps_h, ptrdiff_t taps_w, ptrdiff_t stride_h, ptrdiff_t stride_w,
                                    int dilated, int *rows) {
    const int count = sizeof depthwise_bodies / sizeof *depthwise_bodies;
    for (int i = 0; i < count && !dilated && taps_h == taps_w && stride_h == stride_w; i++)
        if (taps_h == depthwise_bodies[i].taps && stride_h == depthwise_bodies[i].stride) {
            *rows = depthwise_bodies[i].rows;
            return depthwise_bodies[i].body;
        }
    *rows = 1;
    return depthwise_general;
}
