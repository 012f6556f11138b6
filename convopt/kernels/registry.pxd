cdef extern from "kernels.h":
    enum: CONVOPT_MAX_NV, CONVOPT_MAX_MR, CONVOPT_ISAS, CONVOPT_GATHER_SLACK, CONVOPT_STRIP_ROWS, CONVOPT_GROUPED_AHEAD, CONVOPT_LINE_BYTES
    enum: CONVOPT_DOTS_OUTPUTS

    ctypedef struct Epilogue "convopt_epilogue":
        const void *bias
        const void *row_bias
        double lo
        double hi

    ctypedef void Igemm "convopt_igemm"(
        int mr, int nr, ptrdiff_t taps, ptrdiff_t depth, const void *const *rows, const void *b, ptrdiff_t ldb,
        void *out, ptrdiff_t ldo, int accumulate, const Epilogue *epilogue) noexcept nogil

    ctypedef void Windows "convopt_windows"(
        int nv, ptrdiff_t rows, ptrdiff_t step, ptrdiff_t count, ptrdiff_t columns, ptrdiff_t runs, ptrdiff_t length,
        const void *const *lines, ptrdiff_t pitch, const void *b, void *out, ptrdiff_t ldo, const Epilogue *epilogue) noexcept nogil

    ctypedef struct Spot "convopt_spot":
        ptrdiff_t source "in"
        ptrdiff_t out
        int count

    ctypedef void Lines "convopt_lines"(
        int nv, ptrdiff_t filters, ptrdiff_t spots, const Spot *spot, ptrdiff_t depth, const ptrdiff_t *offsets,
        const void *weights, ptrdiff_t pitch, const void *band, void *out, ptrdiff_t ldo, const Epilogue *epilogue) noexcept nogil

    ctypedef void Transpose "convopt_transpose"(
        ptrdiff_t rows, ptrdiff_t columns, const void *source, ptrdiff_t ldf, void *to, ptrdiff_t ldt) noexcept nogil

    ctypedef void Gather "convopt_gather"(
        ptrdiff_t rows, const ptrdiff_t *row, ptrdiff_t runs, const ptrdiff_t *run, const ptrdiff_t *length,
        const void *source, void *to, ptrdiff_t ldt) noexcept nogil
    ctypedef struct WinogradTile "convopt_winograd_tile":
        ptrdiff_t input
        ptrdiff_t output
        int row_first, row_end, column_first, column_end
        int rows, columns

    ctypedef struct WinogradAxis "convopt_winograd_axis":
        int t, taps, stride
        int inputs, outputs, frequencies, filters

    ctypedef void WinogradInput "convopt_winograd_input"(
        const WinogradAxis *h, const WinogradAxis *w, ptrdiff_t count, const WinogradTile *tiles, ptrdiff_t channels,
        const void *x, ptrdiff_t row_stride, ptrdiff_t column_stride, void *v, ptrdiff_t ldf, ptrdiff_t ldv) noexcept nogil

    ctypedef void WinogradProduct "convopt_winograd_product"(
        const WinogradAxis *h, const WinogradAxis *w, ptrdiff_t count, ptrdiff_t channels, ptrdiff_t runs, const void *u, int nr,
        const void *v, ptrdiff_t ldf, ptrdiff_t ldv, void *q, ptrdiff_t ldqf, ptrdiff_t ldq) noexcept nogil

    ctypedef void WinogradOutput "convopt_winograd_output"(
        const WinogradAxis *h, const WinogradAxis *w, ptrdiff_t count, const WinogradTile *tiles, ptrdiff_t channels,
        const void *q, ptrdiff_t ldf, ptrdiff_t ldq, void *out, ptrdiff_t row_stride, ptrdiff_t column_stride,
        const Epilogue *epilogue) noexcept nogil

    ctypedef void WinogradFilter "convopt_winograd_filter"(
        const WinogradAxis *h, const WinogradAxis *w, const double *g_h, const double *g_w, ptrdiff_t channels, ptrdiff_t outputs,
        const void *filters, ptrdiff_t ldc, ptrdiff_t lds, ptrdiff_t ldr, void *u, ptrdiff_t ldu) noexcept nogil

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

    ctypedef void FftLoadTiles "convopt_fft_load_tiles"(
        const FftWindow *windows, ptrdiff_t points, ptrdiff_t ldx, void *to) noexcept nogil

    ctypedef void FftLoadColumns "convopt_fft_load_columns"(
        const FftWindow *window, ptrdiff_t points, ptrdiff_t ldx, void *to) noexcept nogil

    ctypedef void FftStoreColumns "convopt_fft_store_columns"(
        ptrdiff_t points, const void *source, void *out, ptrdiff_t ldo, const Epilogue *epilogue) noexcept nogil

    ctypedef void FftTurn "convopt_fft_turn"(
        ptrdiff_t squares, const void *source, ptrdiff_t ldf, ptrdiff_t next_from, void *to, ptrdiff_t ldt,
        ptrdiff_t next_to) noexcept nogil

    ctypedef void FftProduct "convopt_fft_product"(
        ptrdiff_t pairs, ptrdiff_t depth, ptrdiff_t columns, const void *z, ptrdiff_t ldz, const void *h, void *out,
        ptrdiff_t ldo, int conjugate, void *scratch) noexcept nogil

    ctypedef void FftFan "convopt_fft_fan"(
        ptrdiff_t points, ptrdiff_t depth, const void *line, const void *partner, ptrdiff_t step, ptrdiff_t channel,
        const ptrdiff_t *mirror, const void *h, ptrdiff_t ldh, void *to, void *to_partner, ptrdiff_t to_step) noexcept nogil

    ctypedef void FftStream "convopt_fft_stream"(
        ptrdiff_t points, const void *source, ptrdiff_t next, void *out, ptrdiff_t ldo, const Epilogue *epilogue) noexcept nogil

    ctypedef void StreamEnd "convopt_stream_end"() noexcept nogil

    ctypedef void FftMultiply "convopt_fft_multiply"(
        ptrdiff_t points, ptrdiff_t depth, void *line, void *partner, ptrdiff_t step, ptrdiff_t plane, const ptrdiff_t *mirror,
        const void *h) noexcept nogil

    ctypedef struct Strip "convopt_strip":
        ptrdiff_t taps_w, stride_h, stride_w, first_tap, last_tap
        const void *const *inputs
        const void *weights
        const void *bias
        ptrdiff_t vectors
        ptrdiff_t start, pitch, left, right
        void *out
        ptrdiff_t out_row, out_pixel
        ptrdiff_t width
        int count
        const Epilogue *epilogue

    ctypedef void DepthwiseBody "convopt_depthwise_body"(const Strip *strip) noexcept nogil

    ctypedef struct DepthwiseForm "convopt_depthwise_form":
        int taps, stride, rows, columns
        DepthwiseBody *body

    ctypedef void DepthwiseSpread "convopt_depthwise_spread"(
        ptrdiff_t columns, const void *source, ptrdiff_t pitch, int count, const void *numbers, void *to) noexcept nogil

    enum:
        CONVOPT_PLANE_OVER

    ctypedef struct Plane "convopt_plane":
        ptrdiff_t taps_h, taps_w, row, tap_row, period
        const ptrdiff_t *columns
        const void *band
        const void *weights
        const void *bias
        void *out
        ptrdiff_t out_row
        ptrdiff_t rows, width
        const Epilogue *epilogue
        int lanes

    ctypedef void DepthwisePlane "convopt_depthwise_plane"(const Plane *plane) noexcept nogil

    ctypedef void Pad "convopt_pad"(
        const ptrdiff_t *rows, ptrdiff_t columns, const void *source, ptrdiff_t lds, ptrdiff_t stride, ptrdiff_t left,
        void *to, ptrdiff_t pitch) noexcept nogil

    ctypedef void Sample "convopt_sample"(
        ptrdiff_t rows, ptrdiff_t columns, const void *source, ptrdiff_t lds, ptrdiff_t stride, void *to,
        ptrdiff_t ldt) noexcept nogil

    ctypedef double LimitMultiplyAdd "convopt_limit_multiply_add"(ptrdiff_t rounds, void *result) noexcept nogil

    ctypedef void LimitRead "convopt_limit_read"(ptrdiff_t count, const void *source, void *result) noexcept nogil

    ctypedef struct GroupedTile "convopt_grouped_tile":
        ptrdiff_t taps_h, taps_w, stride_h, stride_w, depth
        const void *const *inputs
        const ptrdiff_t *steps
        const void *panel
        const void *bias
        void *out
        ptrdiff_t out_row, out_column
        int rows, columns, count
        const Epilogue *epilogue

    ctypedef void GroupedBody "convopt_grouped_body"(const GroupedTile *tile) noexcept nogil

    ctypedef struct GroupedForm "convopt_grouped_form":
        int taps, stride
        int rows, columns
        GroupedBody *one_source
        GroupedBody *two_sources

    ctypedef struct Run "convopt_run":
        const void *x
        const void *filters

    ctypedef void Dots "convopt_dots"(
        ptrdiff_t count, int outputs, ptrdiff_t taps, ptrdiff_t length, const Run *runs, ptrdiff_t pitch, ptrdiff_t ldf, void *out,
        ptrdiff_t ldo, const Epilogue *epilogue) noexcept nogil

    ctypedef struct Kernels "convopt_kernels":
        const char *isa
        int itemsize
        int vl
        int nv_max
        int mr[5]
        Igemm *igemm
        Windows *windows
        Lines *lines
        Transpose *transpose
        Gather *gather
        const WinogradAxis *winograd_axes
        WinogradInput *winograd_input
        WinogradProduct *winograd_product
        WinogradOutput *winograd_output
        WinogradFilter *winograd_filter
        FftForward *fft_forward
        FftInverse *fft_inverse
        FftLoad *fft_load
        FftStore *fft_store
        FftLoadTiles *fft_load_tiles
        FftLoadColumns *fft_load_columns
        FftStoreColumns *fft_store_columns
        FftTurn *fft_turn
        FftProduct *fft_product
        FftFan *fft_fan
        FftMultiply *fft_multiply
        FftMultiply *fft_multiply_two
        FftStream *fft_stream
        StreamEnd *stream_end
        const DepthwiseForm *depthwise_forms
        const DepthwiseForm *depthwise_tile_forms
        DepthwiseSpread *depthwise_spread
        DepthwisePlane *depthwise_plane
        Pad *pad
        LimitMultiplyAdd *limit_multiply_add
        LimitRead *limit_read
        const GroupedForm *grouped_forms
        Sample *sample
        Dots *dots
        int dots_pixels[CONVOPT_DOTS_OUTPUTS + 1]

    const char *convopt_isa_name(int isa) noexcept nogil
    int convopt_isa_detect() noexcept nogil
    const Kernels *convopt_kernels_for(int isa, int itemsize) noexcept nogil


# The kernels in use for elements of 4 or 8 bytes; a Convolver keeps the pointer it was made with.
cdef const Kernels *kernels(int itemsize) noexcept nogil
