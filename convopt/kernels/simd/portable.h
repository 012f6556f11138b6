/* What gcc's vector types lack, in plain C: for any vector length on any CPU. */

/* The vector stays in a register from here on, where an ISA can say so: it is no memory operand of what follows. */
#define HOLD(v) ((void)0)

static ALWAYS_INLINE vec load_first(const REAL *from, int count) {
    vec v = {0};
    memcpy(&v, from, sizeof(REAL) * count);
    return v;
}

static ALWAYS_INLINE void store_first(REAL *to, vec v, int count) { memcpy(to, &v, sizeof(REAL) * count); }

/* A store past the caches to a multiple of VECTOR_BYTES, where the ISA has such stores; `streamed` orders them. */
static ALWAYS_INLINE void stream(REAL *to, vec v) { store(to, v); }
static ALWAYS_INLINE void streamed(void) {}

/* lo where v < lo, hi where v > hi, else v; both comparisons are false for NaN, so NaN passes through. */
static ALWAYS_INLINE vec clamp(vec v, vec lo, vec hi) {
    typedef __typeof__(v < lo) mask;
    mask below = v < lo;
    v = (vec)((below & (mask)lo) | (~below & (mask)v));
    mask above = v > hi;
    return (vec)((above & (mask)hi) | (~above & (mask)v));
}

/* v[i] lane by lane. */
static ALWAYS_INLINE vec permute(vec v, lanes i) { return __builtin_shuffle(v, i); }

/* The same from two vectors: numbers from VL on are b's lanes. */
static ALWAYS_INLINE vec permute_two(vec a, vec b, lanes i) { return __builtin_shuffle(a, b, i); }
