/* Everything one ISA offers for one element type: included once by each stub in isa/, after its simd header. */
#include "kernels.h"

#include "transpose-inl.h"
#include "fft-inl.h"
#include "igemm-inl.h"
#include "windows-inl.h"
#include "lines-inl.h"
#include "gather-inl.h"
#include "winograd-inl.h"
#include "depthwise-inl.h"
#include "planes-inl.h"
#include "limits-inl.h"
#include "grouped-inl.h"
#include "dots-inl.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

const convopt_kernels KERNELS = {
    .isa = STRING(ISA),
    .itemsize = REAL_BYTES,
    .vl = VL,
    .nv_max = NV_MAX,
    .mr = TILE_MR,
    .igemm = igemm,
    .windows = windows,
    .lines = lines,
    .transpose = transpose,
    .gather = gather,
    .winograd_axes = winograd_axes,
    .winograd_input = winograd_input,
    .winograd_product = winograd_product,
    .winograd_output = winograd_output,
    .winograd_filter = winograd_filter,
    .fft_forward = fft_forward,
    .fft_inverse = fft_inverse,
    .fft_load = fft_load,
    .fft_store = fft_store,
    .fft_load_tiles = fft_load_tiles,
    .fft_load_columns = fft_load_columns,
    .fft_store_columns = fft_store_columns,
    .fft_turn = fft_turn,
    .fft_product = fft_product,
    .fft_fan = fft_fan,
    .fft_multiply = fft_multiply,
    .fft_multiply_two = fft_multiply_two,
    .fft_stream = fft_stream,
    .stream_end = stream_end,
    .depthwise_forms = depthwise_forms,
    .depthwise_tile_forms = depthwise_tile_forms,
    .depthwise_spread = depthwise_spread,
    .depthwise_plane = depthwise_plane,
    .pad = pad,
    .limit_multiply_add = limit_multiply_add,
    .limit_read = limit_read,
    .grouped_forms = grouped_forms,
    .sample = sample,
    .dots = dots,
    .dots_pixels = DOTS_PIXELS,
};
