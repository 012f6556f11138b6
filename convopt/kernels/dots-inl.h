/* Convolution for few output channels; the contract is in kernels.h.
 *
 * Lanes go along the input, so that none is idle however few outputs there are: each sum of a register tile, pixels x
 * outputs, has a vector of its own, which is folded into one number at the end. */

/* Pixels of a tile, by its outputs: sums and what a step loads fill the registers. At least 8 sums keep two
 * multiply-adds of four cycles under way; more than 8 pixels need more pointers than there are registers. */
#if REGISTERS == 32
#define DOTS_PIXELS {0, 8, 8, 8, 6}
#else
#define DOTS_PIXELS {0, 8, 6, 4, 3}
#endif
enum {
    DOTS_TALLEST = 8,
    DOTS_SUMS = 24,
    DOTS_BLOCK = 24, /* pixels that stay in L1 from panel to panel: a multiple of all tiles */
    DOTS_AHEAD = 2,  /* tiles */
};
static const int dots_pixels[CONVOPT_DOTS_OUTPUTS + 1] = DOTS_PIXELS;

/* A vector of each pixel's run times those of each filter; which there are fewer of is held in registers. */
static ALWAYS_INLINE void dots_step(const int pixels, const int outputs, const REAL *const *x,
                                    const REAL *const *filters, ptrdiff_t at, vec *sum) {
    vec held[CONVOPT_DOTS_OUTPUTS];
    if (outputs <= pixels) {
        UNROLL for (int k = 0; k < outputs; k++) held[k] = load(filters[k] + at);
        UNROLL for (int i = 0; i < pixels; i++) {
            vec in = load(x[i] + at);
            if (outputs > 1) HOLD(in); /* else gcc loads it for each output */
            UNROLL for (int k = 0; k < outputs; k++) sum[i * outputs + k] += in * held[k];
        }
    } else {
        UNROLL for (int i = 0; i < pixels; i++) held[i] = load(x[i] + at);
        UNROLL for (int k = 0; k < outputs; k++) {
            vec weight = load(filters[k] + at);
            HOLD(weight);
            UNROLL for (int i = 0; i < pixels; i++) sum[i * outputs + k] += held[i] * weight;
        }
    }
}

/* The same for less than a vector. The weights that follow are another row's: one that is infinite must not meet the
 * zeros that stand for what is not read. That they are read again for each pixel leaves a register for the mask. */
static ALWAYS_INLINE void dots_rest(const int pixels, const int outputs, int count, const REAL *const *x,
                                    const REAL *const *filters, ptrdiff_t at, vec *sum) {
    UNROLL for (int i = 0; i < pixels; i++) {
        const vec in = load_first(x[i] + at, count);
        UNROLL for (int k = 0; k < outputs; k++) {
            const REAL *weights = filters[k] + at;
            RELOAD(weights);
            sum[i * outputs + k] += in * load_first(weights, count);
        }
    }
}

/* Lane l < count of the result is the sum of the lanes of v[l]. Two vectors are added half by half, their sums being
 * the halves of one vector; then these quarter by quarter, and so on. */
static ALWAYS_INLINE vec dots_fold(vec *v, const int count) {
    UNROLL for (int half = VL / 2; half; half /= 2) {
        lanes low = {0}, high = {0};
        UNROLL for (int l = 0; l < VL; l++) {
            low[l] = l & half ? VL + l - half : l;
            high[l] = l & half ? VL + l : l + half;
        }
        UNROLL for (int i = 0; i < half && i < count; i++) {
            const vec a = v[i], b = i + half < count ? v[i + half] : a;
            v[i] = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
        }
    }
    return v[0];
}

/* What a call computes, of which a panel takes the filters from `filter` on. */
typedef struct {
    ptrdiff_t taps, length, pitch, ldf, ldo;
    const convopt_run *runs;
    vec lo, hi;
} dots_call;

/* Where a run begins for each pixel, and for each filter. */
static ALWAYS_INLINE void dots_run(const int pixels, const int outputs, const dots_call *call, ptrdiff_t t,
                                   const ptrdiff_t *at, ptrdiff_t filter, const REAL **x, const REAL **filters) {
    UNROLL for (int i = 0; i < pixels; i++) x[i] = (const REAL *)call->runs[t].x + at[i];
    UNROLL for (int k = 0; k < outputs; k++) filters[k] = (const REAL *)call->runs[t].filters + filter + k * call->ldf;
}

/* The tile of pixels that begin at[i] elements into the runs; its results lie pixel by pixel. What is less than a
 * vector comes after all runs: between them gcc would not keep the sums in registers.
 *
 * A single run is read once and comes from beyond L2, faster than the hardware foresees: as much as a step reads is
 * asked for (1x1 on 256x256 pixels, Zen 3: 64 to 1 channels 0.57 ms without, 0.39 with; to 2 0.82 and 0.58). Several
 * runs read most of their input again, and so do later panels. */
static ALWAYS_INLINE void dots_tile(const int pixels, const int outputs, const dots_call *call, const ptrdiff_t *at,
                                    ptrdiff_t filter, vec *result) {
    const int count = pixels * outputs, rest = (int)(call->length % VL);
    const ptrdiff_t whole = call->length - rest;
    const REAL *x[DOTS_TALLEST], *filters[CONVOPT_DOTS_OUTPUTS];
    vec sum[DOTS_SUMS];
    UNROLL for (int i = 0; i < count; i++) sum[i] = broadcast(0);
    if (call->taps == 1 && filter == 0) {
        dots_run(pixels, outputs, call, 0, at, filter, x, filters);
        const REAL *ahead = x[0] + DOTS_AHEAD * pixels * call->pitch;
        for (ptrdiff_t e = 0; e < whole; e += VL, ahead += pixels * VL) {
            UNROLL for (int v = 0; v < pixels; v += LINE_VECTORS) __builtin_prefetch(ahead + v * VL);
            dots_step(pixels, outputs, x, filters, e, sum);
        }
    } else {
        for (ptrdiff_t t = 0; t < call->taps; t++) {
            dots_run(pixels, outputs, call, t, at, filter, x, filters);
            for (ptrdiff_t e = 0; e < whole; e += VL) dots_step(pixels, outputs, x, filters, e, sum);
        }
    }
    if (rest) {
        for (ptrdiff_t t = 0; t < call->taps; t++) {
            dots_run(pixels, outputs, call, t, at, filter, x, filters);
            dots_rest(pixels, outputs, rest, x, filters, whole, sum);
        }
    }
    UNROLL for (int i = 0; i < count; i += VL) result[i / VL] = dots_fold(sum + i, count - i < VL ? count - i : VL);
}

static ALWAYS_INLINE void dots_panel(const int pixels, const int outputs, const dots_call *call, ptrdiff_t first,
                                     ptrdiff_t count, ptrdiff_t filter, const REAL *bias, REAL *out) {
    enum { VECTORS = (DOTS_SUMS + VL - 1) / VL };
    const int size = pixels * outputs, vectors = (size + VL - 1) / VL;
    const dots_call mine = *call; /* which no store changes */
    vec start[VECTORS], result[VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) start[v] = broadcast(0);
    if (bias) {
        UNROLL for (int i = 0; i < size; i++) start[i / VL][i % VL] = bias[i % outputs];
    }
    for (ptrdiff_t end = first + count; first < end; first += pixels, out += pixels * mine.ldo) {
        const int left = end - first < pixels ? (int)(end - first) : pixels;
        ptrdiff_t at[DOTS_TALLEST];
        /* In place of missing pixels the last one is computed again. */
        UNROLL for (int i = 0; i < pixels; i++) at[i] = (first + (i < left ? i : left - 1)) * mine.pitch;
        dots_tile(pixels, outputs, &mine, at, filter, result);
        UNROLL for (int v = 0; v < vectors; v++) result[v] = clamp(result[v] + start[v], mine.lo, mine.hi);
        if (mine.ldo == outputs && left == pixels) {
            UNROLL for (int v = 0; v < vectors - 1; v++) store(out + v * VL, result[v]);
            store_first(out + (vectors - 1) * VL, result[vectors - 1], size - (vectors - 1) * VL);
        } else {
            for (int i = 0; i < left; i++)
                memcpy(out + i * mine.ldo, (const REAL *)result + i * outputs, outputs * sizeof(REAL));
        }
    }
}

#define PANEL(OUTPUTS)                                                                                            \
    static __attribute__((noinline)) void dots_panel_##OUTPUTS(                                                   \
        const dots_call *call, ptrdiff_t first, ptrdiff_t count, ptrdiff_t filter, const REAL *bias, REAL *out) { \
        dots_panel(dots_pixels[OUTPUTS], OUTPUTS, call, first, count, filter, bias, out);                         \
    }
PANEL(1)
PANEL(2)
PANEL(3)
PANEL(4)
#undef PANEL

static void dots(ptrdiff_t count, int outputs, ptrdiff_t taps, ptrdiff_t length, const convopt_run *runs,
                 ptrdiff_t pitch, ptrdiff_t ldf, void *out, ptrdiff_t ldo, const convopt_epilogue *epilogue) {
    static __typeof__(&dots_panel_1)
        const by_outputs[] = {NULL, dots_panel_1, dots_panel_2, dots_panel_3, dots_panel_4};
    const dots_call call = {
        taps, length, pitch, ldf, ldo, runs, broadcast((REAL)epilogue->lo), broadcast((REAL)epilogue->hi)};
    const int panels = (outputs + CONVOPT_DOTS_OUTPUTS - 1) / CONVOPT_DOTS_OUTPUTS;
    const ptrdiff_t block = panels > 1 && count > DOTS_BLOCK ? DOTS_BLOCK : count;
    const REAL *bias = epilogue->bias;
    for (ptrdiff_t first = 0; first < count; first += block) {
        const ptrdiff_t some = count - first < block ? count - first : block;
        for (int panel = 0, k = 0, width; panel < panels; panel++, k += width) {
            width = (outputs - k) / (panels - panel);
            by_outputs[width](&call, first, some, k * ldf, bias ? bias + k : NULL, (REAL *)out + first * ldo + k);
        }
    }
}
