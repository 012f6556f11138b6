/* Grouped convolution with several groups in one vector of output channels; contract and diagram are in kernels.h.
 *
 * A body computes ROWS x COLUMNS output pixels in registers. Per step it walks over the input rows under them: each
 * pixel is permuted once and feeds all taps that read it, each weight loaded feeds COLUMNS multiply-adds. The loop over
 * steps must not be unrolled: the sums alone nearly fill the registers. */

/* Most input columns under one body. */
enum { GROUPED_WIDE = (CONVOPT_GROUPED_COLUMNS - 1) * 2 + 3 };

static ALWAYS_INLINE vec grouped_input(const int sources, const REAL *pixel, const ptrdiff_t *step, lanes lane) {
    return sources == 1 ? permute(load(pixel + step[0]), lane)
                        : permute_two(load(pixel + step[0]), load(pixel + step[1]), lane);
}

static ALWAYS_INLINE void grouped_store(const int rows, const int columns, const convopt_grouped_tile *tile,
                                        vec sum[CONVOPT_GROUPED_ROWS][CONVOPT_GROUPED_COLUMNS]) {
    const vec lo = broadcast((REAL)tile->epilogue->lo), hi = broadcast((REAL)tile->epilogue->hi);
    UNROLL for (int r = 0; r < rows; r++) {
        if (r >= tile->rows) break;
        REAL *out = (REAL *)tile->out + r * tile->out_row;
        UNROLL for (int c = 0; c < columns; c++) {
            if (c >= tile->columns) break;
            const vec y = clamp(sum[r][c], lo, hi);
            if (tile->count == VL)
                store(out, y);
            else
                store_first(out, y, tile->count);
            out += tile->out_column;
        }
    }
}

static ALWAYS_INLINE void grouped_body(const int sources, const int taps, const int stride, const int rows,
                                       const int columns, const convopt_grouped_tile *tile) {
    const int wide = (columns - 1) * stride + taps;
    const REAL *const *inputs = (const REAL *const *)tile->inputs;
    const REAL *weights = tile->panel, *bias = tile->bias;
    const ptrdiff_t *step = tile->steps;
    vec sum[CONVOPT_GROUPED_ROWS][CONVOPT_GROUPED_COLUMNS];
    const vec start = bias ? load(bias) : broadcast(0);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < columns; c++) sum[r][c] = start;
    for (ptrdiff_t d = 0; d < tile->depth; d++, step += 2) {
        const lanes lane = load_lanes(weights);
        weights += VL;
        UNROLL for (int i = 0; i < (rows - 1) * stride + taps; i++) {
            vec in[GROUPED_WIDE];
            RELOAD(weights);
            RELOAD(inputs);
            UNROLL for (int j = 0; j < wide; j++) in[j] = grouped_input(sources, inputs[i * wide + j], step, lane);
            UNROLL for (int s = 0; s < taps; s++) UNROLL for (int r = 0; r < rows; r++) {
                const int tap = i - r * stride;
                if (tap < 0 || tap >= taps) continue;
                const vec weight = load(weights + (tap * taps + s) * VL);
                UNROLL for (int c = 0; c < columns; c++) sum[r][c] += in[c * stride + s] * weight;
            }
        }
        weights += taps * taps * VL;
    }
    grouped_store(rows, columns, tile, sum);
}

/* Any taps and strides: one output row, every pixel permuted for every tap. */
enum { GROUPED_ANY = 8 };

static ALWAYS_INLINE void grouped_any(const int sources, const convopt_grouped_tile *tile) {
    const ptrdiff_t stride = tile->stride_w, wide = (GROUPED_ANY - 1) * stride + tile->taps_w;
    const REAL *weights = tile->panel, *bias = tile->bias;
    const ptrdiff_t *step = tile->steps;
    vec sum[CONVOPT_GROUPED_ROWS][CONVOPT_GROUPED_COLUMNS];
    const vec start = bias ? load(bias) : broadcast(0);
    UNROLL for (int c = 0; c < GROUPED_ANY; c++) sum[0][c] = start;
    for (ptrdiff_t d = 0; d < tile->depth; d++, step += 2) {
        const lanes lane = load_lanes(weights);
        weights += VL;
        for (ptrdiff_t r = 0; r < tile->taps_h; r++)
            for (ptrdiff_t s = 0; s < tile->taps_w; s++, weights += VL) {
                const REAL *const *inputs = (const REAL *const *)tile->inputs + r * wide + s;
                const vec weight = load(weights);
                UNROLL for (int c = 0; c < GROUPED_ANY; c++) sum[0][c] +=
                    grouped_input(sources, inputs[c * stride], step, lane) * weight;
            }
    }
    grouped_store(1, GROUPED_ANY, tile, sum);
}

#define FORM(TAPS, STRIDE, ROWS, COLUMNS)                                                                \
    static void grouped_##TAPS##_##STRIDE##_##ROWS##_##COLUMNS##_one(const convopt_grouped_tile *tile) { \
        grouped_body(1, TAPS, STRIDE, ROWS, COLUMNS, tile);                                              \
    }                                                                                                    \
    static void grouped_##TAPS##_##STRIDE##_##ROWS##_##COLUMNS##_two(const convopt_grouped_tile *tile) { \
        grouped_body(2, TAPS, STRIDE, ROWS, COLUMNS, tile);                                              \
    }
#define ENTRY(TAPS, STRIDE, ROWS, COLUMNS)                 \
    {TAPS,                                                 \
     STRIDE,                                               \
     ROWS,                                                 \
     COLUMNS,                                              \
     grouped_##TAPS##_##STRIDE##_##ROWS##_##COLUMNS##_one, \
     grouped_##TAPS##_##STRIDE##_##ROWS##_##COLUMNS##_two},

/* Register tiles: ROWS*COLUMNS sums, the vectors of one input row, a weight and the lane numbers. */
#if REGISTERS == 32
#define FORMS(X) X(3, 1, 4, 5) X(3, 1, 4, 4) X(3, 1, 3, 7) X(3, 1, 4, 7) X(3, 2, 4, 4) X(3, 2, 2, 7)
#else
#define FORMS(X) X(3, 1, 2, 4) X(3, 1, 2, 5) X(3, 2, 2, 4)
#endif
FORMS(FORM)

static void grouped_any_one(const convopt_grouped_tile *tile) { grouped_any(1, tile); }
static void grouped_any_two(const convopt_grouped_tile *tile) { grouped_any(2, tile); }

static const convopt_grouped_form grouped_forms[] = {
    FORMS(ENTRY){0, 0, 1, GROUPED_ANY, grouped_any_one, grouped_any_two},
    {0, 0, 0, 0, NULL, NULL},
};
