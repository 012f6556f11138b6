#define REAL float
#define REAL_BYTES 4
#define KERNELS convopt_generic_f32
#include "../simd/generic.h"

#include "../kernels-inl.h"
