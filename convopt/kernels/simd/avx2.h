/* AVX2 and FMA: 32-byte vectors, 16 registers. */
#define ISA avx2
#define VECTOR_BYTES 32
#define REGISTERS 16
/* 12 accumulators, up to 3 vectors of b, one broadcast. */
#define NV_MAX 3
#define TILE_MR {0, 8, 6, 4, 0}
/* Register tiles of `windows` ahead of which their output is asked for. */
#define OUTPUT_AHEAD 2

/* The vector stays in a register from here on: it is no memory operand of what follows. */
#define HOLD(v) __asm__("" : "+x"(v))

#include "vector.h"

#include <immintrin.h>

static ALWAYS_INLINE vec load_first(const REAL *from, int count) {
#if REAL_BYTES == 4
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));
#else
    __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
    return _mm256_maskload_pd(from, _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), lane));
#endif
}

/* In pieces, the halves of what is left: a masked store takes 15 ns on Zen 3, a whole one and these 1. */
static ALWAYS_INLINE void store_first(REAL *to, vec v, int count) {
    if (count == VL) {
        store(to, v);
        return;
    }
    char *piece = (char *)to;
    const int bytes = count * (int)sizeof(REAL);
    __m128 left = _mm256_castps256_ps128((__m256)v);
    if (bytes & 16) {
        _mm_storeu_ps((float *)piece, left);
        left = _mm256_extractf128_ps((__m256)v, 1);
        piece += 16;
    }
    if (bytes & 8) {
        _mm_storel_pi((__m64 *)piece, left);
        left = _mm_movehl_ps(left, left);
        piece += 8;
    }
    if (bytes & 4) _mm_store_ss((float *)piece, left);
}

/* A store past the caches to a multiple of VECTOR_BYTES; `streamed` orders them before the stores that follow. */
static ALWAYS_INLINE void stream(REAL *to, vec v) {
#if REAL_BYTES == 4
    _mm256_stream_ps(to, v);
#else
    _mm256_stream_pd(to, v);
#endif
}
static ALWAYS_INLINE void streamed(void) { _mm_sfence(); }

/* Minimum and maximum return their second operand where either is NaN: NaN passes through. */
static ALWAYS_INLINE vec clamp(vec v, vec lo, vec hi) {
#if REAL_BYTES == 4
    return _mm256_min_ps(hi, _mm256_max_ps(lo, v));
#else
    return _mm256_min_pd(hi, _mm256_max_pd(lo, v));
#endif
}

/* v[i % VL] lane by lane. */
static ALWAYS_INLINE vec permute(vec v, lanes i) {
#if REAL_BYTES == 4
    return _mm256_permutevar8x32_ps(v, (__m256i)i);
#else
    const lanes low = i << 1; /* a double is two floats */
    return (vec)_mm256_permutevar8x32_ps((__m256)v, (__m256i)(low | (low | 1) << 32));
#endif
}

/* The same from two vectors: numbers from VL on are b's lanes. */
static ALWAYS_INLINE vec permute_two(vec a, vec b, lanes i) {
#if REAL_BYTES == 4
    return _mm256_blendv_ps(permute(a, i), permute(b, i), (__m256)(i << 28));
#else
    return _mm256_blendv_pd(permute(a, i), permute(b, i), (__m256d)(i << 61));
#endif
}
