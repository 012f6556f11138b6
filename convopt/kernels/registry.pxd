cdef extern from "kernels.h":
    enum: CONVOPT_MAX_NV, CONVOPT_MAX_MR, CONVOPT_ISAS

    ctypedef struct Epilogue "convopt_epilogue":
        const void *bias
        const void *row_bias
        double lo
        double hi

    ctypedef void Igemm "convopt_igemm"(
        int mr, int nr, ptrdiff_t taps, ptrdiff_t depth, const void *const *rows, const void *b, ptrdiff_t ldb,
        void *out, ptrdiff_t ldo, int accumulate, const Epilogue *epilogue) noexcept nogil

    ctypedef void Transpose "convopt_transpose"(
        ptrdiff_t rows, ptrdiff_t columns, const void *source, ptrdiff_t ldf, void *to, ptrdiff_t ldt) noexcept nogil

    ctypedef struct FftLength "convopt_fft_length":
        int n1
        int n2
        const void *forward
        const void *inverse

    ctypedef struct FftWindow "convopt_fft_window":
        const void *pixels
        ptrdiff_t first
        ptrdiff_t last

    ctypedef void FftForward "convopt_fft_forward"(
        const FftLength *length, const void *re, const void *im, ptrdiff_t step, void *to, ptrdiff_t to_step) noexcept nogil

    ctypedef void FftInverse "convopt_fft_inverse"(
        const FftLength *length, void *line, ptrdiff_t step, void *to, ptrdiff_t to_step) noexcept nogil

    ctypedef void FftLoad "convopt_fft_load"(
        const FftWindow *window, ptrdiff_t points, ptrdiff_t ldx, int channels, void *to) noexcept nogil

    ctypedef void FftStore "convopt_fft_store"(
        ptrdiff_t points, const void *source, int channels, void *out, ptrdiff_t ldo, ptrdiff_t lane,
        const Epilogue *epilogue) noexcept nogil

    ctypedef void FftProduct "convopt_fft_product"(
        ptrdiff_t pairs, ptrdiff_t depth, ptrdiff_t columns, const void *z, ptrdiff_t ldz, const void *h, void *out,
        ptrdiff_t ldo, int conjugate, void *scratch) noexcept nogil

    ctypedef void FftMultiply "convopt_fft_multiply"(
        ptrdiff_t points, void *line, void *partner, ptrdiff_t step, const ptrdiff_t *mirror, const void *h) noexcept nogil

    ctypedef struct Kernels "convopt_kernels":
        const char *isa
        int itemsize
        int vl
        int nv_max
        int mr[5]
        Igemm *igemm
        Transpose *transpose
        FftForward *fft_forward
        FftInverse *fft_inverse
        FftLoad *fft_load
        FftStore *fft_store
        FftProduct *fft_product
        FftMultiply *fft_multiply
        FftMultiply *fft_multiply_two

    const char *convopt_isa_name(int isa) noexcept nogil
    int convopt_isa_detect() noexcept nogil
    const Kernels *convopt_kernels_for(int isa, int itemsize) noexcept nogil


# The kernels in use for elements of 4 or 8 bytes; a Convolver keeps the pointer it was made with.
cdef const Kernels *kernels(int itemsize) noexcept nogil
