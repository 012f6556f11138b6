/* AVX-512 F, BW, DQ, VL: 64-byte vectors, 32 registers, masked stores. */
#define ISA avx512
#define VECTOR_BYTES 64
#define REGISTERS 32
/* 24 to 28 accumulators, up to 4 vectors of b; the broadcasts are memory operands of the multiply-adds. */
#define NV_MAX 4
#define TILE_MR {0, 14, 14, 9, 6}
/* Register tiles of `windows` ahead of which their output is asked for. */
#define OUTPUT_AHEAD 0

#include "vector.h"

#ifndef __AVX512F__
/* Emulated (setup.py): the same kernels, their vectors in halves, for tests on a CPU that lacks this ISA. */
#include "portable.h"
#else
#include <immintrin.h>

/* The vector stays in a register from here on: it is no memory operand of what follows. */
#define HOLD(v) __asm__("" : "+v"(v))

static ALWAYS_INLINE vec load_first(const REAL *from, int count) {
#if REAL_BYTES == 4
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#else
    return _mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), from);
#endif
}

static ALWAYS_INLINE void store_first(REAL *to, vec v, int count) {
#if REAL_BYTES == 4
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), v);
#else
    _mm512_mask_storeu_pd(to, (__mmask8)((1u << count) - 1), v);
#endif
}

/* A store past the caches to a multiple of VECTOR_BYTES; `streamed` orders them before the stores that follow. */
static ALWAYS_INLINE void stream(REAL *to, vec v) {
#if REAL_BYTES == 4
    _mm512_stream_ps(to, v);
#else
    _mm512_stream_pd(to, v);
#endif
}
static ALWAYS_INLINE void streamed(void) { _mm_sfence(); }

/* Minimum and maximum return their second operand where either is NaN: NaN passes through. */
static ALWAYS_INLINE vec clamp(vec v, vec lo, vec hi) {
#if REAL_BYTES == 4
    return _mm512_min_ps(hi, _mm512_max_ps(lo, v));
#else
    return _mm512_min_pd(hi, _mm512_max_pd(lo, v));
#endif
}

/* v[i] lane by lane. */
static ALWAYS_INLINE vec permute(vec v, lanes i) {
#if REAL_BYTES == 4
    return _mm512_permutexvar_ps((__m512i)i, v);
#else
    return _mm512_permutexvar_pd((__m512i)i, v);
#endif
}

/* The same from two vectors: numbers from VL on are b's lanes. */
static ALWAYS_INLINE vec permute_two(vec a, vec b, lanes i) {
#if REAL_BYTES == 4
    return _mm512_permutex2var_ps(a, (__m512i)i, b);
#else
    return _mm512_permutex2var_pd(a, (__m512i)i, b);
#endif
}
#endif
