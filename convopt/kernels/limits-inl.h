/* What this core can do at most, for the roofline of the benchmarks; the contracts are in kernels.h. */

/* Independent sums, enough to hide the latency of a multiply-add on two ports, in registers. */
enum { LIMIT_SUMS = REGISTERS == 32 ? 24 : 12 };

static double limit_multiply_add(ptrdiff_t rounds, void *result_) {
    REAL *result = result_;
    vec sums[LIMIT_SUMS];
    /* Read from memory, or gcc would compute with constants. */
    const vec factor = broadcast(result[0]), addend = broadcast(result[1]);
    UNROLL for (int i = 0; i < LIMIT_SUMS; i++) sums[i] = addend * (REAL)i;
    for (ptrdiff_t round = 0; round < rounds; round++) {
        UNROLL for (int i = 0; i < LIMIT_SUMS; i++) sums[i] = sums[i] * factor + addend;
    }
    UNROLL for (int i = 1; i < LIMIT_SUMS; i++) sums[0] += sums[i];
    store(result, sums[0]);
    return 2.0 * VL * LIMIT_SUMS * (double)rounds;
}

static void limit_read(ptrdiff_t count, const void *from_, void *result) {
    const REAL *from = from_;
    vec sums[8] = {0};
    for (ptrdiff_t i = 0; i + 8 * VL <= count; i += 8 * VL) {
        UNROLL for (int j = 0; j < 8; j++) sums[j] += load(from + i + j * VL);
    }
    UNROLL for (int j = 1; j < 8; j++) sums[0] += sums[j];
    store((REAL *)result, sums[0]);
}
