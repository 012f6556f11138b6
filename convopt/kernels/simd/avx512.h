/* AVX-512 F, BW, DQ, VL: 64-byte vectors, 32 registers, masked stores. */
#define ISA avx512
#define VECTOR_BYTES 64
/* 24 to 28 accumulators, up to 4 vectors of b; the broadcasts are memory operands of the multiply-adds. */
#define NV_MAX 4
#define TILE_MR {0, 14, 14, 9, 6}
/* Vector registers. */
#define REGISTERS 32

#include "vector.h"

#include <immintrin.h>

static ALWAYS_INLINE void store_first(REAL *to, vec v, int count) {
#if REAL_BYTES == 4
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), v);
#else
    _mm512_mask_storeu_pd(to, (__mmask8)((1u << count) - 1), v);
#endif
}

static ALWAYS_INLINE vec load_first(const REAL *from, int count) {
#if REAL_BYTES == 4
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#else
    return _mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), from);
#endif
}
