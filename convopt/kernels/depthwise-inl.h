/* Depthwise convolution; the contract is in kernels.h.
 *
 * A body computes ROWS x COLUMNS output pixels of one vector of channels, all in registers. It walks over the input
 * rows under them: a row's vectors are loaded once, and each weight loaded feeds COLUMNS multiply-adds. At the borders
 * and for the last channels the input is first copied to a small patch with zeros around it. A body that has more rows
 * or columns than are left computes them all, and writes the surplus ones where the last wanted one goes afterwards. */

/* Most input rows and columns under one body. */
enum { PATCH_ROWS = 10, PATCH_COLUMNS = CONVOPT_STRIP_REACH };

/* clamp(sum, lo, hi) of one pixel; of its first `count` channels only, if `partial`. */
static ALWAYS_INLINE void depthwise_store(const int partial, REAL *to, vec sum, int count,
                                          const convopt_epilogue *epilogue) {
    sum = clamp(sum, broadcast((REAL)epilogue->lo), broadcast((REAL)epilogue->hi));
    if (partial)
        store_first(to, sum, count);
    else
        store(to, sum);
}

/* `inputs` as in convopt_strip, but at the first window's first column: `pitch` from a column to the next. */
static ALWAYS_INLINE void depthwise_body(const int partial, const int taps_h, const int taps_w, const int stride,
                                         const int rows, const int columns, const convopt_strip *strip, ptrdiff_t x,
                                         const REAL *const *inputs, ptrdiff_t pitch) {
    const REAL *weights = strip->weights, *bias = strip->bias;
    vec sum[CONVOPT_STRIP_ROWS][CONVOPT_STRIP_COLUMNS];
    const vec start = bias ? load(bias) : broadcast(0);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < columns; c++) sum[r][c] = start;
    UNROLL for (int i = 0; i < (rows - 1) * stride + taps_h; i++) {
        vec in[PATCH_COLUMNS];
        const REAL *at = inputs[i];
        UNROLL for (int j = 0; j < (columns - 1) * stride + taps_w; j++) {
            in[j] = load(at);
            at += pitch;
            __asm__("" : "+r"(at)); /* one pointer that moves, not one for each column */
        }
        UNROLL for (int s = 0; s < taps_w; s++) {
            UNROLL for (int r = 0; r < rows; r++) {
                const int tap = i - r * stride;
                if (tap < 0 || tap >= taps_h) continue;
                const vec weight = load(weights + (tap * taps_w + s) * VL);
                UNROLL for (int c = 0; c < columns; c++) sum[r][c] += in[c * stride + s] * weight;
            }
            __asm__ volatile("" ::: "memory"); /* weights loaded earlier would push sums out of the registers */
        }
    }
    const ptrdiff_t last_row = strip->rows - 1, last_column = strip->width - x - 1;
    UNROLL for (int r = rows - 1; r >= 0; r--) {
        REAL *out = (REAL *)strip->out + (r < last_row ? r : last_row) * strip->out_row + x * strip->out_pixel;
        UNROLL for (int c = columns - 1; c >= 0; c--)
            depthwise_store(partial, out + (c < last_column ? c : last_column) * strip->out_pixel, sum[r][c],
                            strip->count, strip->epilogue);
    }
}

/* Where the rows of a body begin whose windows lie inside the image. */
static ALWAYS_INLINE void depthwise_rows(const int rows, const convopt_strip *strip, ptrdiff_t column,
                                         const REAL **inputs) {
    UNROLL for (int i = 0; i < rows; i++) {
        const REAL *row = strip->inputs[i];
        inputs[i] = row == strip->zeros ? row : row + column * strip->pitch;
    }
}

/* Copy the input under a body, from column `column` on, with zeros for what lies outside the image. */
static ALWAYS_INLINE void depthwise_patch(const int rows, const int columns, const convopt_strip *strip,
                                          ptrdiff_t column, REAL (*patch)[PATCH_COLUMNS * VL], const REAL **inputs) {
    const REAL *from[PATCH_ROWS];
    depthwise_rows(rows, strip, column, from);
    for (int j = 0; j < columns; j++) {
        const int inside = column + j >= 0 && column + j < strip->columns;
        if (!inside) {
            UNROLL for (int i = 0; i < rows; i++) store(patch[i] + j * VL, broadcast(0));
        } else if (strip->count == VL) {
            UNROLL for (int i = 0; i < rows; i++) store(patch[i] + j * VL, load(from[i] + j * strip->pitch));
        } else {
            UNROLL for (int i = 0; i < rows; i++)
                store(patch[i] + j * VL, load_first(from[i] + j * strip->pitch, strip->count));
        }
    }
    UNROLL for (int i = 0; i < rows; i++) inputs[i] = patch[i];
}

/* Cover the strip with bodies; the last one is moved back where there is room. */
#define SPECIAL(NAME, TAPS, STRIDE, ROWS, COLUMNS)                                                                  \
    static __attribute__((noinline)) void NAME##_partial(const convopt_strip *strip, ptrdiff_t x,                   \
                                                         const REAL *const *inputs) {                               \
        depthwise_body(1, TAPS, TAPS, STRIDE, ROWS, COLUMNS, strip, x, inputs, VL);                                 \
    }                                                                                                               \
    static void NAME(const convopt_strip *strip) {                                                                  \
        enum { HIGH = ((ROWS) - 1) * STRIDE + TAPS, WIDE = ((COLUMNS) - 1) * STRIDE + TAPS };                       \
        REAL patch[PATCH_ROWS][PATCH_COLUMNS * VL] __attribute__((aligned(VECTOR_BYTES)));                          \
        const REAL *inputs[PATCH_ROWS];                                                                             \
        for (ptrdiff_t x = 0; x < strip->width; x += (COLUMNS)) {                                                   \
            if (x + (COLUMNS) > strip->width && strip->width > (COLUMNS)) x = strip->width - (COLUMNS);             \
            const ptrdiff_t column = strip->column + x * STRIDE;                                                    \
            const int inside = strip->count == VL && column >= 0 && column + WIDE <= strip->columns;                \
            if (inside)                                                                                             \
                depthwise_rows(HIGH, strip, column, inputs);                                                        \
            else                                                                                                    \
                depthwise_patch(HIGH, WIDE, strip, column, patch, inputs);                                          \
            if (strip->count < VL)                                                                                  \
                NAME##_partial(strip, x, inputs);                                                                   \
            else                                                                                                    \
                depthwise_body(0, TAPS, TAPS, STRIDE, ROWS, COLUMNS, strip, x, inputs, inside ? strip->pitch : VL); \
        }                                                                                                           \
    }

/* Register tiles: ROWS*COLUMNS sums, the vectors of one input row, and a weight. */
#if REGISTERS == 32
enum { ROWS_3 = 4, COLUMNS_3 = 5, ROWS_3_2 = 4, COLUMNS_3_2 = 4 };
enum { ROWS_5 = 3, COLUMNS_5 = 6, ROWS_5_2 = 3, COLUMNS_5_2 = 4, ROWS_7 = 4, COLUMNS_7 = 4 };
#else
enum { ROWS_3 = 2, COLUMNS_3 = 4, ROWS_3_2 = 2, COLUMNS_3_2 = 3 };
enum { ROWS_5 = 2, COLUMNS_5 = 3, ROWS_5_2 = 2, COLUMNS_5_2 = 3, ROWS_7 = 2, COLUMNS_7 = 3 };
#endif
enum { COLUMNS_ANY = 8 };
SPECIAL(depthwise_3, 3, 1, ROWS_3, COLUMNS_3)
SPECIAL(depthwise_3_2, 3, 2, ROWS_3_2, COLUMNS_3_2)
SPECIAL(depthwise_5, 5, 1, ROWS_5, COLUMNS_5)
SPECIAL(depthwise_5_2, 5, 2, ROWS_5_2, COLUMNS_5_2)
SPECIAL(depthwise_7, 7, 1, ROWS_7, COLUMNS_7)

/* Any number of taps, any stride and dilation: one output row, every input vector loaded for every tap. */
static ALWAYS_INLINE void depthwise_any(const int careful, const convopt_strip *strip, ptrdiff_t x) {
    const REAL *weight = strip->weights, *bias = strip->bias, *zeros = strip->zeros;
    const ptrdiff_t step = strip->stride_w, column = strip->column + x * step;
    vec sum[COLUMNS_ANY];
    const vec start = bias ? load(bias) : broadcast(0);
    UNROLL for (int c = 0; c < COLUMNS_ANY; c++) sum[c] = start;
    for (int i = 0; i < strip->taps_h; i++) {
        const REAL *row = strip->inputs[i];
        if (row == zeros) {
            weight += strip->taps_w * VL;
            continue;
        }
        for (int s = 0; s < strip->taps_w; s++, weight += VL) {
            const vec w = load(weight);
            const ptrdiff_t first = column + s * strip->dilation_w;
            UNROLL for (int c = 0; c < COLUMNS_ANY; c++) {
                const ptrdiff_t at = first + c * step;
                if (!careful)
                    sum[c] += load(row + at * strip->pitch) * w;
                else if (at >= 0 && at < strip->columns)
                    sum[c] += load_first(row + at * strip->pitch, strip->count) * w;
            }
        }
    }
    REAL *out = (REAL *)strip->out + x * strip->out_pixel;
    UNROLL for (int c = 0; c < COLUMNS_ANY; c++) if (!careful || x + c < strip->width)
        depthwise_store(careful, out + c * strip->out_pixel, sum[c], strip->count, strip->epilogue);
}

static void depthwise_general(const convopt_strip *strip) {
    const ptrdiff_t reach = (COLUMNS_ANY - 1) * strip->stride_w + (strip->taps_w - 1) * strip->dilation_w + 1;
    for (ptrdiff_t x = 0; x < strip->width; x += COLUMNS_ANY) {
        if (x + COLUMNS_ANY > strip->width && strip->width > COLUMNS_ANY) x = strip->width - COLUMNS_ANY;
        const ptrdiff_t column = strip->column + x * strip->stride_w;
        if (strip->count == VL && strip->width >= COLUMNS_ANY && column >= 0 && column + reach <= strip->columns)
            depthwise_any(0, strip, x);
        else
            depthwise_any(1, strip, x);
    }
}

static const struct {
    int taps, stride, rows, columns;
    convopt_depthwise *body;
} depthwise_bodies[] = {
    {3, 1, ROWS_3, COLUMNS_3, depthwise_3}, {3, 2, ROWS_3_2, COLUMNS_3_2, depthwise_3_2},
    {5, 1, ROWS_5, COLUMNS_5, depthwise_5}, {5, 2, ROWS_5_2, COLUMNS_5_2, depthwise_5_2},
    {7, 1, ROWS_7, COLUMNS_7, depthwise_7},
};

static convopt_depthwise *depthwise(ptrdiff_t taps_h, ptrdiff_t taps_w, ptrdiff_t stride_h, ptrdiff_t stride_w,
                                    int dilated, int *rows, int *columns) {
    const int count = sizeof depthwise_bodies / sizeof *depthwise_bodies;
    for (int i = 0; i < count && !dilated && taps_h == taps_w && stride_h == stride_w; i++)
        if (taps_h == depthwise_bodies[i].taps && stride_h == depthwise_bodies[i].stride) {
            *rows = depthwise_bodies[i].rows;
            *columns = depthwise_bodies[i].columns;
            return depthwise_bodies[i].body;
        }
    *rows = 1;
    *columns = COLUMNS_ANY;
    return depthwise_general;
}
