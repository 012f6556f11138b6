cdef extern from "kernels.h":
    enum: CONVOPT_MAX_NV, CONVOPT_MAX_MR, CONVOPT_ISAS, CONVOPT_GATHER_SLACK, CONVOPT_STRIP_COLUMNS

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

    ctypedef void Gather "convopt_gather"(
        ptrdiff_t rows, const ptrdiff_t *row, ptrdiff_t runs, const ptrdiff_t *run, const ptrdiff_t *length,
        const void *source, void *to, ptrdiff_t ldt) noexcept nogil

    ctypedef struct Strip "convopt_strip":
        ptrdiff_t taps_h, taps_w, stride_w, dilation_w
        const void *const *inputs
        const void *zeros
        const void *weights
        const void *bias
        ptrdiff_t pitch, column, columns
        void *out
        ptrdiff_t out_row, out_pixel
        ptrdiff_t width
        int rows, count
        const Epilogue *epilogue

    ctypedef void Depthwise "convopt_depthwise"(const Strip *strip) noexcept nogil

    ctypedef Depthwise *DepthwiseFor "convopt_depthwise_for"(
        ptrdiff_t taps_h, ptrdiff_t taps_w, ptrdiff_t stride_h, ptrdiff_t stride_w, int dilated, int *rows) noexcept nogil

    ctypedef struct Kernels "convopt_kernels":
        const char *isa
        int itemsize
        int vl
        int nv_max
        int mr[5]
        Igemm *igemm
        Transpose *transpose
        Gather *gather
        DepthwiseFor *depthwise

    const char *convopt_isa_name(int isa) noexcept nogil
    int convopt_isa_detect() noexcept nogil
    const Kernels *convopt_kernels_for(int isa, int itemsize) noexcept nogil


# The kernels in use for elements of 4 or 8 bytes; a Convolver keeps the pointer it was made with.
cdef const Kernels *kernels(int itemsize) noexcept nogil
