#define REAL float
#define REAL_BYTES 4
#define KERNELS convopt_avx512_f32
#include "../simd/avx512.h"

#include "../kernels-inl.h"
