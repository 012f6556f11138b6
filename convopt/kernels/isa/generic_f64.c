#define REAL double
#define REAL_BYTES 8
#define KERNELS convopt_generic_f64
#include "../simd/generic.h"

#include "../kernels-inl.h"
