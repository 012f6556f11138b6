#define REAL double
#define REAL_BYTES 8
#define KERNELS convopt_avx512_f64
#include "../simd/avx512.h"

#include "../kernels-inl.h"
