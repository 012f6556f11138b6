/* Any CPU gcc knows: 16-byte vectors (SSE2, NEON), no fused multiply-add assumed. */
#define ISA generic
#define VECTOR_BYTES 16
#define REGISTERS 16
/* Register tiles: 16 vector registers, one of them for the product. Index is the width in vectors. */
#define NV_MAX 2
#define TILE_MR {0, 8, 5, 0, 0}
/* Register tiles of `windows` ahead of which their output is asked for. */
#define OUTPUT_AHEAD 0

#include "vector.h"
#include "portable.h"
