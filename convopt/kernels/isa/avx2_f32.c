#define REAL float
#define REAL_BYTES 4
#define KERNELS convopt_avx2_f32
#include "../simd/avx2.h"

#include "../kernels-inl.h"
