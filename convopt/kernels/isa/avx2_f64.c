#define REAL double
#define REAL_BYTES 8
#define KERNELS convopt_avx2_f64
#include "../simd/avx2.h"

#include "../kernels-inl.h"
