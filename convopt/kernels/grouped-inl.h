/* Grouped convolution with several groups in one vector of output channels; contract and diagram are in kernels.h.
 *
 * The strip body walks along ROWS output rows, one input column after the other. A column's pixels are permuted once
 * per step and feed every tap that reads them: TAPS/STRIDE output columns are under way at a time, their sums in
 * registers; each column finishes one of them. The loop over steps must not be unrolled: the sums alone nearly fill the
 * registers. */

/* Most output columns under way: 5 taps, stride 1. */
enum { GROUPED_LIVE = 5 };
/* Most pixels of a stride of columns: 7 rows of 3 taps, stride 2. */
enum { GROUPED_HELD = 30 };

static ALWAYS_INLINE vec grouped_input(const int sources, const REAL *pixel, const ptrdiff_t *step, lanes lane) {
    return sources == 1 ? permute(load(pixel + step[0]), lane)
                        : permute_two(load(pixel + step[0]), load(pixel + step[1]), lane);
}

/* Whether all lanes belong to one group: numbers never fall from lane to lane. No permutation then, but a broadcast. */
static ALWAYS_INLINE int grouped_alike(const convopt_grouped_tile *tile) {
    const lanes numbers = load_lanes(tile->panel);
    return numbers[0] == numbers[VL - 1];
}

/* The same from a held vector. */
static ALWAYS_INLINE vec grouped_held(const int alike, const REAL *held, lanes lane) {
    return alike ? broadcast(held[lane[0]]) : permute(load(held), lane);
}

/* What store may alias: kept in registers for the whole tile. */
typedef struct {
    vec start, lo, hi;
    int count;
} grouped_epilogue;

static ALWAYS_INLINE grouped_epilogue grouped_begin(const convopt_grouped_tile *tile) {
    const vec start = tile->bias ? load(tile->bias) : broadcast(0);
    const convopt_epilogue *epilogue = tile->epilogue;
    return (grouped_epilogue){start, broadcast((REAL)epilogue->lo), broadcast((REAL)epilogue->hi), tile->count};
}

static ALWAYS_INLINE void grouped_store(const grouped_epilogue *epilogue, REAL *out, vec sum) {
    sum = clamp(sum, epilogue->lo, epilogue->hi);
    if (epilogue->count == VL)
        store(out, sum);
    else
        store_first(out, sum, epilogue->count);
}

static ALWAYS_INLINE void grouped_strip(const int alike, const int sources, const int taps, const int stride,
                                        const int rows, const convopt_grouped_tile *tile) {
    const int live = (taps + stride - 1) / stride, high = (rows - 1) * stride + taps;
    /* Whether registers hold the weights of a column of taps that read the same input column, beside the sums. */
    const int holding = live * rows + live * taps + 2 <= REGISTERS;
    const REAL *const *inputs = (const REAL *const *)tile->inputs;
    REAL *out = tile->out;
    REAL held[GROUPED_HELD * VL] __attribute__((aligned(VECTOR_BYTES)));
    vec sum[GROUPED_LIVE][CONVOPT_GROUPED_ROWS]; /* of output column `column` - k, row r */
    const grouped_epilogue epilogue = grouped_begin(tile);
    UNROLL for (int k = 0; k < live; k++) UNROLL for (int r = 0; r < rows; r++) sum[k][r] = epilogue.start;
    for (ptrdiff_t column = 0; column < tile->columns + live - 1; column++, inputs += stride * high) {
        const REAL *weights = tile->panel;
        UNROLL for (int i = 0; i < stride * high; i++)
            __builtin_prefetch(inputs[CONVOPT_GROUPED_AHEAD * stride * high + i] + tile->steps[0]);
        const ptrdiff_t *step = tile->steps, *end = step + (*inputs ? 2 * tile->depth : 0);
        for (ptrdiff_t at = -1; step < end; step += 2) {
            const lanes lane = load_lanes(weights);
            const REAL *pixel = held;
            weights += VL;
            RELOAD(inputs);
            /* Pixels a multiple of 4 KB apart share a set of L1, too few for the rows: copied once, they stay. */
            if (sources == 1 && *step != at) {
                at = *step;
                UNROLL for (int i = 0; i < stride * high; i++) store(held + i * VL, load(inputs[i] + at));
            }
            RELOAD(pixel);
            UNROLL for (int e = 0; e < stride; e++) UNROLL for (int i = 0; i < high; i++) {
                if (i ? !holding : stride > 1) RELOAD(weights);
                const vec in = sources == 1 ? grouped_held(alike, pixel + (e * high + i) * VL, lane)
                                            : grouped_input(sources, inputs[e * high + i], step, lane);
                UNROLL for (int k = 0; k < live; k++) UNROLL for (int r = 0; r < rows; r++) {
                    const int tap = i - r * stride, s = e + k * stride;
                    if (tap >= 0 && tap < taps && s < taps) sum[k][r] += in * load(weights + (tap * taps + s) * VL);
                }
            }
            weights += taps * taps * VL;
        }
        if (column >= live - 1) {
            UNROLL for (int r = 0; r < rows; r++) {
                if (r >= tile->rows) break;
                grouped_store(&epilogue, out + r * tile->out_row, sum[live - 1][r]);
            }
            out += tile->out_column;
        }
        UNROLL for (int k = live - 1; k >= 0; k--) UNROLL for (int r = 0; r < rows; r++) sum[k][r] =
            k ? sum[k - 1][r] : epilogue.start;
    }
}

/* Any taps and strides: one output row, every pixel permuted for every tap. */
enum { GROUPED_ANY = 8 };

static ALWAYS_INLINE void grouped_any(const int sources, const convopt_grouped_tile *tile) {
    const ptrdiff_t ahead = tile->stride_w * tile->taps_h;
    const REAL *weights = tile->panel;
    const ptrdiff_t *step = tile->steps;
    vec sum[GROUPED_ANY];
    const grouped_epilogue epilogue = grouped_begin(tile);
    UNROLL for (int c = 0; c < GROUPED_ANY; c++) sum[c] = epilogue.start;
    for (ptrdiff_t d = 0; d < tile->depth; d++, step += 2) {
        const lanes lane = load_lanes(weights);
        weights += VL;
        for (ptrdiff_t r = 0; r < tile->taps_h; r++)
            for (ptrdiff_t s = 0; s < tile->taps_w; s++, weights += VL) {
                const REAL *const *inputs = (const REAL *const *)tile->inputs + s * tile->taps_h + r;
                const vec weight = load(weights);
                UNROLL for (int c = 0; c < GROUPED_ANY; c++) sum[c] +=
                    grouped_input(sources, inputs[c * ahead], step, lane) * weight;
            }
    }
    REAL *out = tile->out;
    UNROLL for (int c = 0; c < GROUPED_ANY; c++) {
        if (c >= tile->columns) break;
        grouped_store(&epilogue, out + c * tile->out_column, sum[c]);
    }
}

#define FORM(TAPS, STRIDE, ROWS)                                                             \
    static void grouped_##TAPS##_##STRIDE##_##ROWS##_one(const convopt_grouped_tile *tile) { \
        if (grouped_alike(tile))                                                             \
            grouped_strip(1, 1, TAPS, STRIDE, ROWS, tile);                                   \
        else                                                                                 \
            grouped_strip(0, 1, TAPS, STRIDE, ROWS, tile);                                   \
    }                                                                                        \
    static void grouped_##TAPS##_##STRIDE##_##ROWS##_two(const convopt_grouped_tile *tile) { \
        grouped_strip(0, 2, TAPS, STRIDE, ROWS, tile);                                       \
    }
#define ENTRY(TAPS, STRIDE, ROWS) \
    {TAPS, STRIDE, ROWS, 0, grouped_##TAPS##_##STRIDE##_##ROWS##_one, grouped_##TAPS##_##STRIDE##_##ROWS##_two},

/* TAPS/STRIDE*ROWS sums, a column's pixel, the lane numbers, and weights as far as there is room. */
#if REGISTERS == 32
#define FORMS(X) X(3, 1, 4) X(3, 1, 5) X(3, 1, 6) X(3, 1, 7) X(3, 2, 4) X(3, 2, 7) X(5, 1, 4)
#else
#define FORMS(X) X(3, 1, 3) X(3, 1, 4) X(3, 2, 4) X(5, 1, 2)
#endif
FORMS(FORM)

static void grouped_any_one(const convopt_grouped_tile *tile) { grouped_any(1, tile); }
static void grouped_any_two(const convopt_grouped_tile *tile) { grouped_any(2, tile); }

static const convopt_grouped_form grouped_forms[] = {
    FORMS(ENTRY){0, 0, 1, GROUPED_ANY, grouped_any_one, grouped_any_two},
    {0, 0, 0, 0, NULL, NULL},
};
