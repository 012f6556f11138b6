#include "kernels.h"

static const struct {
    const char *name;
    const convopt_kernels *f32, *f64;
} isas[CONVOPT_ISAS] = {
    {"generic", &convopt_generic_f32, &convopt_generic_f64},
#if defined(__x86_64__)
    {"avx2", &convopt_avx2_f32, &convopt_avx2_f64},
    {"avx512", &convopt_avx512_f32, &convopt_avx512_f64},
#endif
};

const char *convopt_isa_name(int isa) { return isa < 0 || isa >= CONVOPT_ISAS ? NULL : isas[isa].name; }

const convopt_kernels *convopt_kernels_for(int isa, int itemsize) {
    return itemsize == 4 ? isas[isa].f32 : isas[isa].f64;
}

#if defined(__x86_64__)
#include <cpuid.h>

/* CPUID tells what the CPU can do, XCR0 which registers the operating system saves on a context switch:
 * using a register it does not save ends in SIGILL. */
static unsigned long long xcr0(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((unsigned long long)high << 32) | low;
}

int convopt_isa_detect(void) {
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28;                        /* leaf 1, ECX */
    const unsigned avx2 = 1u << 5, f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31; /* leaf 7, EBX */
    const unsigned long long ymm = 0x6, zmm = 0xe6; /* XCR0: SSE+AVX state; with opmask and both ZMM halves */
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (fma | osxsave | avx)) != (fma | osxsave | avx)) return 0;
    unsigned long long saved = xcr0();
    if ((saved & ymm) != ymm || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2)) return 0;
#ifdef EMULATE_AVX512
    return 2;
#endif
    if ((saved & zmm) != zmm || (b & (f | dq | bw | vl)) != (f | dq | bw | vl)) return 1;
    return 2;
}
#else
int convopt_isa_detect(void) { return 0; }
#endif
