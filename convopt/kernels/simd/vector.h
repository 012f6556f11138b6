/* The vector type of the ISA being built, on gcc's vector extensions: + - * and ?: work lane by lane, a scalar
 * operand is broadcast, and a*b + c contracts to a fused multiply-add where the ISA has one. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "kernels.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
/* Before a loop with constant bounds over registers: gcc must unroll it whole. */
#define UNROLL _Pragma("GCC unroll 64")
/* What is read through the pointer from here on is loaded again, not kept in a register since before. */
#define RELOAD(pointer) __asm__("" : "+r"(pointer))
#define VL ((int)(VECTOR_BYTES / sizeof(REAL)))
/* Vectors of a cache line: one of them is asked for. A line that begins within a vector comes with the next row. */
enum { LINE_VECTORS = VECTOR_BYTES < CONVOPT_LINE_BYTES ? CONVOPT_LINE_BYTES / VECTOR_BYTES : 1 };

typedef REAL vec __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL vec_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

static ALWAYS_INLINE vec load(const REAL *from) { return *(const vec_unaligned *)from; }
static ALWAYS_INLINE void store(REAL *to, vec v) { *(vec_unaligned *)to = v; }
static ALWAYS_INLINE vec broadcast(REAL x) { return x - (vec){0}; }

/* Lane numbers: integers as long as an element. */
#if REAL_BYTES == 4
typedef int lanes __attribute__((vector_size(VECTOR_BYTES)));
#else
typedef long long lanes __attribute__((vector_size(VECTOR_BYTES)));
#endif
typedef lanes lanes_unaligned __attribute__((aligned(sizeof(REAL)), may_alias));

static ALWAYS_INLINE lanes load_lanes(const void *from) { return *(const lanes_unaligned *)from; }
