/* Depthwise convolution; the contract is in kernels.h.
 *
 * A walk goes along ROWS output rows, one input column after the other. A column's vectors are loaded once and feed
 * every tap that reads them: ceil(TAPS/STRIDE) output columns are under way at a time, their sums in registers; each
 * column finishes one of them. Columns of padding are skipped, so that borders cost nothing. A tap's weights are loaded
 * once per column and serve all rows: held in a register, for as memory operands they would take a load per product.
 *
 * A tile is a few output pixels, of all vectors of channels in turn. A row of taps is held in registers while the input
 * columns under it pass, each loaded once: of 7 taps that is (7 + 2*10)/56 loads per product, where a walk, whose sums
 * leave no registers for weights, has 16/14 and can have 1. A tile reads memory in order, where a walk of vectors
 * shorter than a cache line reads every line several times from a farther cache; and its sums do not wait for those of
 * the column before. */

/* Most output columns under way. */
enum { DEPTHWISE_LIVE = 13 };

/* Most output pixels of a tile, and most taps of a row of it. */
enum { DEPTHWISE_TILE_ROWS = 2, DEPTHWISE_TILE_COLUMNS = 7, DEPTHWISE_TILE_TAPS = 7 };

/* What store may alias: kept in registers for the whole strip. */
typedef struct {
    vec start, lo, hi;
    int count, clamped;
} depthwise_epilogue;

static ALWAYS_INLINE depthwise_epilogue depthwise_begin(const convopt_strip *strip) {
    const REAL lo = strip->epilogue->lo, hi = strip->epilogue->hi;
    return (depthwise_epilogue){strip->bias ? load(strip->bias) : broadcast(0), broadcast(lo), broadcast(hi),
                                strip->count, lo > -INFINITY || hi < INFINITY};
}

static ALWAYS_INLINE void depthwise_store(const depthwise_epilogue *epilogue, REAL *to, vec sum) {
    if (epilogue->clamped) sum = clamp(sum, epilogue->lo, epilogue->hi);
    if (epilogue->count == VL)
        store(to, sum);
    else
        store_first(to, sum, epilogue->count);
}

/* square: as many taps and the same stride along the height, and none of them left out: loops of constant length. */
static ALWAYS_INLINE void depthwise_walk(const int square, const int taps, const int stride, const int rows,
                                         const convopt_strip *strip) {
    const int live = (taps + stride - 1) / stride, in_registers = live * rows + rows < REGISTERS;
    const ptrdiff_t left = strip->left, right = strip->right, row_step = square ? stride : strip->stride_h;
    const ptrdiff_t first = square ? 0 : strip->first_tap, high = square ? taps : strip->last_tap - first;
    const REAL *const *const inputs = (const REAL *const *)strip->inputs + first;
    const REAL *const panel = (const REAL *)strip->weights + first * taps * VL;
    const depthwise_epilogue epilogue = depthwise_begin(strip);
    REAL *out = strip->out;
    vec sum[DEPTHWISE_LIVE][CONVOPT_STRIP_ROWS]; /* of output column `column` - k, row r */
    UNROLL for (int k = 0; k < live; k++) UNROLL for (int r = 0; r < rows; r++) sum[k][r] = epilogue.start;
    for (ptrdiff_t column = 0; column < strip->width + live - 1; column++) {
        UNROLL for (int e = 0; e < stride; e++) {
            const ptrdiff_t at = column * stride + e;
            if (at < left || at >= right) continue;
            const ptrdiff_t offset = strip->start + at * strip->pitch;
            const REAL *const *row = inputs;
            const REAL *weights = panel;
            for (ptrdiff_t t = 0; t < high; t++, row++, weights += taps * VL) {
                vec in[CONVOPT_STRIP_ROWS];
                UNROLL for (int r = 0; r < rows; r++) {
                    const REAL *from = row[r * row_step];
                    in[r] = broadcast(0);
                    if (from) in[r] = load(from + offset);
                }
                UNROLL for (int k = 0; k < live; k++) {
                    if (e + k * stride >= taps) continue;
                    vec weight = load(weights + (e + k * stride) * VL);
                    if (in_registers) HOLD(weight);
                    UNROLL for (int r = 0; r < rows; r++) sum[k][r] += in[r] * weight;
                }
            }
        }
        if (column >= live - 1) {
            UNROLL for (int r = 0; r < rows; r++)
                depthwise_store(&epilogue, out + r * strip->out_row, sum[live - 1][r]);
            out += strip->out_pixel;
        }
        UNROLL for (int k = live - 1; k >= 0; k--) UNROLL for (int r = 0; r < rows; r++) sum[k][r] =
            k ? sum[k - 1][r] : epilogue.start;
    }
}

/* One row of taps. inside: all columns that the tile reads are there. */
static ALWAYS_INLINE void depthwise_tile_taps(const int inside, const int taps, const int stride, const int rows,
                                              const int columns, const REAL *const *row, ptrdiff_t row_step,
                                              ptrdiff_t offset, ptrdiff_t pitch, ptrdiff_t left, ptrdiff_t right,
                                              const REAL *weights, vec (*sum)[DEPTHWISE_TILE_COLUMNS]) {
    vec weight[DEPTHWISE_TILE_TAPS];
    UNROLL for (int s = 0; s < taps; s++) {
        weight[s] = load(weights + s * VL);
        HOLD(weight[s]);
    }
    const REAL *from[DEPTHWISE_TILE_ROWS];
    UNROLL for (int r = 0; r < rows; r++) from[r] = row[r * row_step] + offset;
    UNROLL for (int at = 0; at < (columns - 1) * stride + taps; at++) {
        if (!inside && (at < left || at >= right)) continue;
        UNROLL for (int r = 0; r < rows; r++) {
            vec in = load(from[r] + at * pitch);
            HOLD(in);
            UNROLL for (int s = 0; s < taps; s++) {
                const int column = (at - s) / stride;
                if (at >= s && column * stride == at - s && column < columns) sum[r][column] += in * weight[s];
            }
        }
    }
}

/* The tile at output column x. Straight-line code where it is inside and small: three times round a loop is as slow as
 * four. */
static ALWAYS_INLINE void depthwise_tile(const int inside, const int taps, const int stride, const int rows,
                                         const int columns, const convopt_strip *strip, ptrdiff_t x) {
    const REAL lo = strip->epilogue->lo, hi = strip->epilogue->hi;
    const int clamped = lo > -INFINITY || hi < INFINITY;
    const ptrdiff_t pitch = strip->pitch, left = strip->left - x * stride, right = strip->right - x * stride;
    const ptrdiff_t out_row = strip->out_row, out_pixel = strip->out_pixel, count = strip->width - x;
    const REAL *const *const inputs = (const REAL *const *)strip->inputs;
    const REAL *weights = strip->weights, *bias = strip->bias;
    REAL *out = (REAL *)strip->out + x * out_pixel;
    ptrdiff_t offset = strip->start + x * stride * pitch;
    for (ptrdiff_t v = 0; v < strip->vectors; v++, offset += VL, weights += taps * taps * VL, out += VL) {
        vec sum[DEPTHWISE_TILE_ROWS][DEPTHWISE_TILE_COLUMNS];
        const vec start = bias ? load(bias + v * VL) : broadcast(0);
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < columns; c++) sum[r][c] = start;
        if (inside && taps == 3) {
            UNROLL for (int t = 0; t < taps; t++)
                depthwise_tile_taps(1, taps, stride, rows, columns, inputs + t, stride, offset, pitch, left, right,
                                    weights + t * taps * VL, sum);
        } else {
            for (int t = 0; t < taps; t++)
                depthwise_tile_taps(inside, taps, stride, rows, columns, inputs + t, stride, offset, pitch, left, right,
                                    weights + t * taps * VL, sum);
        }
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < columns; c++) {
            if (clamped) sum[r][c] = clamp(sum[r][c], broadcast(lo), broadcast(hi));
            if (inside || c < count) store(out + r * out_row + c * out_pixel, sum[r][c]);
        }
    }
}

/* As many taps and the same stride along the height, and no NULL rows. */
static ALWAYS_INLINE void depthwise_tiles(const int taps, const int stride, const int rows, const int columns,
                                          const convopt_strip *strip) {
    for (ptrdiff_t x = 0; x < strip->width; x += columns) {
        const ptrdiff_t first = x * stride, end = first + (columns - 1) * stride + taps;
        if (first >= strip->left && end <= strip->right && x + columns <= strip->width)
            depthwise_tile(1, taps, stride, rows, columns, strip, x);
        else
            depthwise_tile(0, taps, stride, rows, columns, strip, x);
    }
}

/* Any taps and stride: one output row, several pixels of it, every input vector loaded for every tap. */
enum { DEPTHWISE_ANY = 8 };

static ALWAYS_INLINE void depthwise_any(const int inside, const convopt_strip *strip, ptrdiff_t x) {
    const REAL *const *row = (const REAL *const *)strip->inputs + strip->first_tap;
    const REAL *weights = (const REAL *)strip->weights + strip->first_tap * strip->taps_w * VL;
    const depthwise_epilogue epilogue = depthwise_begin(strip);
    vec sum[DEPTHWISE_ANY];
    UNROLL for (int c = 0; c < DEPTHWISE_ANY; c++) sum[c] = epilogue.start;
    for (ptrdiff_t t = strip->first_tap; t < strip->last_tap; t++, row++) {
        for (ptrdiff_t s = 0; s < strip->taps_w; s++, weights += VL) {
            const vec weight = load(weights);
            UNROLL for (int c = 0; c < DEPTHWISE_ANY; c++) {
                const ptrdiff_t at = (x + c) * strip->stride_w + s;
                if (inside || (at >= strip->left && at < strip->right))
                    sum[c] += load(*row + strip->start + at * strip->pitch) * weight;
            }
        }
    }
    REAL *out = (REAL *)strip->out + x * strip->out_pixel;
    UNROLL for (int c = 0; c < DEPTHWISE_ANY; c++) {
        if (x + c >= strip->width) break;
        depthwise_store(&epilogue, out + c * strip->out_pixel, sum[c]);
    }
}

static void depthwise_general(const convopt_strip *strip) {
    for (ptrdiff_t x = 0; x < strip->width; x += DEPTHWISE_ANY) {
        const ptrdiff_t first = x * strip->stride_w;
        const ptrdiff_t end = first + (DEPTHWISE_ANY - 1) * strip->stride_w + strip->taps_w;
        if (first >= strip->left && end <= strip->right)
            depthwise_any(1, strip, x);
        else
            depthwise_any(0, strip, x);
    }
}

/* LIVE*ROWS sums, a vector of input per row, and a weight. */
#define ROWS_1(X, TAPS, STRIDE) X(TAPS, STRIDE, 1)
#define ROWS_2(X, TAPS, STRIDE) ROWS_1(X, TAPS, STRIDE) X(TAPS, STRIDE, 2)
#define ROWS_3(X, TAPS, STRIDE) ROWS_2(X, TAPS, STRIDE) X(TAPS, STRIDE, 3)
#define ROWS_4(X, TAPS, STRIDE) ROWS_3(X, TAPS, STRIDE) X(TAPS, STRIDE, 4)
/* clang-format off */
#if REGISTERS == 32
#define WALKS(X) \
    ROWS_4(X, 1, 1) ROWS_4(X, 2, 1) ROWS_4(X, 3, 1) ROWS_4(X, 4, 1) ROWS_3(X, 5, 1) ROWS_3(X, 6, 1) \
    ROWS_3(X, 7, 1) ROWS_3(X, 8, 1) ROWS_3(X, 9, 1) ROWS_2(X, 11, 1) ROWS_2(X, 13, 1) \
    ROWS_4(X, 3, 2) ROWS_4(X, 5, 2) ROWS_4(X, 7, 2) ROWS_3(X, 9, 2)
#else
#define WALKS(X) \
    ROWS_4(X, 1, 1) ROWS_4(X, 2, 1) ROWS_3(X, 3, 1) ROWS_2(X, 4, 1) ROWS_2(X, 5, 1) ROWS_2(X, 6, 1) \
    ROWS_2(X, 7, 1) ROWS_1(X, 8, 1) ROWS_1(X, 9, 1) ROWS_1(X, 11, 1) ROWS_1(X, 13, 1) \
    ROWS_4(X, 3, 2) ROWS_3(X, 5, 2) ROWS_2(X, 7, 2) ROWS_2(X, 9, 2)
#endif
/* clang-format on */

#define WALK(TAPS, STRIDE, ROWS)                                                                    \
    static void depthwise_##TAPS##_##STRIDE##_##ROWS(const convopt_strip *strip) {                  \
        if (((TAPS) == 3 || (TAPS) == 5) && strip->stride_h == (STRIDE) && strip->first_tap == 0 && \
            strip->last_tap == (TAPS))                                                              \
            depthwise_walk(1, TAPS, STRIDE, ROWS, strip);                                           \
        else                                                                                        \
            depthwise_walk(0, TAPS, STRIDE, ROWS, strip);                                           \
    }
#define WALK_ENTRY(TAPS, STRIDE, ROWS) {TAPS, STRIDE, ROWS, 0, depthwise_##TAPS##_##STRIDE##_##ROWS},
WALKS(WALK)

static const convopt_depthwise_form depthwise_forms[] = {
    WALKS(WALK_ENTRY){0, 0, 1, 0, depthwise_general},
    {0, 0, 0, 0, NULL},
};

/* Two rows of a few columns, and one of 7, which divides the widths that images have at last. More columns than these
 * gcc finds no registers for, however few of them it would take. */
#define TILES_OF(X, TAPS, STRIDE, COLUMNS) X(TAPS, STRIDE, 1, COLUMNS) X(TAPS, STRIDE, 2, COLUMNS) X(TAPS, STRIDE, 1, 7)
#define DEPTHWISE_TILES(X) \
    TILES_OF(X, 3, 1, 3)   \
    TILES_OF(X, 3, 2, 2) TILES_OF(X, 5, 1, 4) TILES_OF(X, 5, 2, 4) TILES_OF(X, 7, 1, 4) TILES_OF(X, 7, 2, 4)
#define TILE(TAPS, STRIDE, ROWS, COLUMNS)                                                            \
    static void depthwise_tiles_##TAPS##_##STRIDE##_##ROWS##_##COLUMNS(const convopt_strip *strip) { \
        depthwise_tiles(TAPS, STRIDE, ROWS, COLUMNS, strip);                                         \
    }
#define TILE_ENTRY(TAPS, STRIDE, ROWS, COLUMNS) \
    {TAPS, STRIDE, ROWS, COLUMNS, depthwise_tiles_##TAPS##_##STRIDE##_##ROWS##_##COLUMNS},
DEPTHWISE_TILES(TILE)

static const convopt_depthwise_form depthwise_tile_forms[] = {
    DEPTHWISE_TILES(TILE_ENTRY){0, 0, 0, 0, NULL},
};
#undef TILE

/* A pixel's channels as output channels see them. */
static void depthwise_spread(ptrdiff_t columns, const void *from, ptrdiff_t pitch, int count, const void *numbers,
                             void *to) {
    const REAL *pixel = from;
    REAL *spread = to;
    const lanes lane = load_lanes(numbers);
    for (ptrdiff_t column = 0; column < columns; column++, pixel += pitch, spread += VL)
        store(spread, permute(load_first(pixel, count), lane));
}
