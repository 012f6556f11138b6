/* The vector type of the ISA being built, on gcc's vector extensions: + - * and ?: work lane by lane, a scalar
 * operand is broadcast, and a*b + c contracts to a fused multiply-add where the ISA has one. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))
/* Before a loop with constant bounds over registers: gcc must unroll it whole. */
#define UNROLL _Pragma("GCC unroll 64")
#define VL ((int)(VECTOR_BYTES / sizeof(REAL)))

typedef REAL vec __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL vec_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

static ALWAYS_INLINE vec load(const REAL *from) { return *(const vec_unaligned *)from; }
static ALWAYS_INLINE void store(REAL *to, vec v) { *(vec_unaligned *)to = v; }
static ALWAYS_INLINE vec broadcast(REAL x) { return x - (vec){0}; }
