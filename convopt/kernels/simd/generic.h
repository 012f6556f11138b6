/* Any CPU gcc knows: 16-byte vectors (SSE2, NEON), no fused multiply-add assumed. */
#define ISA generic
#define VECTOR_BYTES 16
/* Register tiles: 16 vector registers, one of them for the product. Index is the width in vectors. */
#define NV_MAX 2
#define TILE_MR {0, 8, 5, 0, 0}
/* Vector registers. */
#define REGISTERS 16

#include "vector.h"

static ALWAYS_INLINE void store_first(REAL *to, vec v, int count) { memcpy(to, &v, sizeof(REAL) * count); }

static ALWAYS_INLINE vec load_first(const REAL *from, int count) {
    vec v = {0};
    memcpy(&v, from, sizeof(REAL) * count);
    return v;
}
