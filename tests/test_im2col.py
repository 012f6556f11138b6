"""im2col in both layouts: every kind of window against the definition, in poisoned memory between forbidden pages."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verify import check_direct_bound, run

from convopt.algorithms import im2col, im2col_planes
from convopt.kernels import registry
from convopt.shape import ConvShape

LAYOUTS = ("NHWC", "NCHW")
#: What serves each layout; of 1x1 kernels in NCHW too, which `prepare` gives to another one.
IM2COL = {"NHWC": im2col, "NCHW": SimpleNamespace(NAME="im2col", Implementation=im2col_planes.Implementation)}


def check(shape, *args, **how):
    check_direct_bound(IM2COL[shape.data_format], shape, *args, **how)


def result(shape, *args, **how):
    return run(IM2COL[shape.data_format], shape, *args, **how)


# input H, W, C; filters R, S, C/groups, K; strides, padding, dilations; batch
SHAPES = {
    "resnet_conv1": (2, 30, 33, 3, 7, 7, 3, 64, 2, "SAME", 1),
    "vgg_first": (1, 20, 21, 3, 3, 3, 3, 64, 1, "SAME", 1),
    "alexnet_first": (1, 51, 47, 3, 11, 11, 3, 96, 4, "VALID", 1),
    "patches": (1, 13, 75, 3, 4, 4, 3, 20, 4, "VALID", 1),
    "lenet_first": (9, 28, 28, 1, 5, 5, 1, 32, 1, "SAME", 1),
    "one_by_one": (1, 9, 7, 13, 1, 1, 13, 33, 1, "VALID", 1),
    "one_by_one_strided": (2, 9, 8, 13, 1, 1, 13, 9, (3, 2), "SAME", 1),
    "wide_row": (1, 1, 1500, 31, 1, 9, 31, 5, 1, "SAME", 1),
    "dilated": (1, 19, 23, 3, 3, 5, 3, 17, 1, "SAME", (4, 3)),
    "dilated_strided": (1, 19, 23, 4, 3, 4, 4, 18, (3, 2), "SAME", (2, 5)),
    "grouped": (2, 11, 12, 12, 3, 3, 4, 21, 1, "SAME", 1),
    "depthwise": (1, 10, 9, 6, 3, 3, 1, 12, 2, "SAME", 1),
    "lopsided_padding": (1, 6, 5, 3, 3, 3, 3, 8, 1, ((0, 7), (9, 1)), 1),
    "kernel_as_large_as_input": (3, 5, 7, 2, 5, 7, 2, 3, 1, "VALID", 1),
    "stride_beyond_kernel": (1, 40, 41, 3, 2, 2, 3, 4, (7, 9), "VALID", 1),
    "stride_without_end": (1, 5, 9, 3, 3, 3, 3, 4, (2, 10**9), "VALID", 1),
    "only_padding": (1, 0, 4, 2, 3, 3, 2, 5, 1, ((2, 2), (1, 1)), 1),
}


def shape_of(row, layout, dtype="float32"):
    n, h, w, c, r, s, group_c, k, strides, padding, dilations = row
    sizes = (n, h, w, c) if layout == "NHWC" else (n, c, h, w)
    return ConvShape.from_arguments(sizes, (r, s, group_c, k), strides, padding, layout, dilations, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_holds_the_direct_bound(isa, name, dtype, layout):
    shape = shape_of(SHAPES[name], layout, dtype)
    for i, params in enumerate(im2col.candidates(shape)):
        kind = ["normal", "positive", "lognormal"][i % 3]
        check(shape, params, kind, [None, "relu", "relu6"][i % 3], threads=1 + i % 3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_integers_are_exact(isa, name, threads, layout):
    shape = shape_of(SHAPES[name], layout)
    for params in im2col.candidates(shape):
        check(shape, params, "integer", threads=threads, at_end=threads == 1, with_bias=threads != 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_tile_height_and_width(isa, dtype):
    """Rows of as many pixels as a tile is high, then of two heights; panels that end with each kind of tail."""
    vl, heights = registry.tile(np.dtype(dtype).itemsize)
    for nv, tallest in enumerate(heights, 1):
        for pixels in (*range(1, tallest + 1), 2 * tallest - 1, 3 * tallest - 2):
            k = (nv - 1) * vl + 1 + pixels % vl if pixels % 2 else 2 * nv * vl + 1 + pixels % vl
            shape = ConvShape(1, 2, pixels + 1, 3, k, 2, 2, dtype=dtype)
            check(shape, {"nv": nv}, "integer", "relu" if pixels % 3 == 0 else None, with_bias=pixels % 2 == 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_tile_height_and_width_of_nchw(isa, dtype):
    """Filters fewer than a tile, of one height and of two; rows of whole vectors, which are read where they lie, and of others."""
    vl, heights = registry.tile(np.dtype(dtype).itemsize)
    for nv, tallest in enumerate(heights, 1):
        for k in (*range(1, tallest + 1), 2 * tallest - 1, 3 * tallest - 2):
            for width in (vl * (1 + k % 5), vl * (2 + k % 3) - 1, 1 + k % vl):
                shape = ConvShape(1, 3, width + 1, 2, k, 2, 2, dtype=dtype, data_format="NCHW")
                check(shape, {"nv": nv}, "integer", "relu" if k % 3 == 0 else None, with_bias=k % 2 == 0, at_end=k % 4 < 2)


def test_windows_of_nchw_beyond_the_caches(isa):
    """Windows that fill half of L1 within one tile, in parts of rows and with every stride."""
    for size, c, k, taps, strides in (
        ((3, 1700), 40, 3, 5, (1, 1)),
        ((3, 1701), 40, 70, 3, (1, 1)),
        ((2, 2 * 1703), 41, 9, 3, (1, 2)),
        ((30, 65), 9, 20, 3, (2, 3)),
        ((45, 47), 3, 30, 11, (4, 4)),
    ):
        shape = ConvShape(1, *size, c, k, taps, taps, strides, pads=((2, 1), (1, 3)), data_format="NCHW")
        for params in im2col.candidates(shape):
            check(shape, params, "integer", threads=2)


def test_panels_beyond_the_caches_meet_parts_of_rows(isa):
    """Filters too large to stay in L1, rows longer than a step, several rows in a step."""
    for width, c, k in ((200, 24, 100), (9, 16, 130), (40, 150, 96)):
        shape = ConvShape(1, 7, width, c, k, 3, 3, pads=((1, 1), (1, 1)))
        for params in im2col.candidates(shape):
            check(shape, params, "integer", threads=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    st.tuples(*[st.integers(1, 3), st.integers(1, 24), st.integers(1, 40)]),
    st.tuples(*[st.integers(1, 6)] * 2),
    st.tuples(*[st.integers(1, 5), st.sampled_from([1, 1, 1, 2, 3]), st.integers(1, 20)]),
    st.tuples(*[st.integers(1, 3)] * 4),
    st.tuples(*[st.integers(0, 4)] * 4),
    st.sampled_from(LAYOUTS),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_any_shape_is_exact(isa, size, kernel, channels, steps, pads, layout, threads, choice):
    (n, h, w), (r, s), (group_c, groups, group_k) = size, kernel, channels
    shape = ConvShape(
        n, h, w, group_c * groups, group_k * groups, r, s, steps[:2], steps[2:], (pads[:2], pads[2:]), groups, layout, "float32"
    )
    if not shape.is_empty:
        candidates = im2col.candidates(shape)
        check(shape, candidates[choice % len(candidates)], "integer", threads=threads)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_bits_for_any_number_of_threads(isa, layout):
    shape = shape_of(SHAPES["resnet_conv1"], layout)
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    params = im2col.candidates(shape)[0]
    once = result(shape, params, x, filters)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(result(shape, params, x, filters, threads=threads), once)


def test_nan_reaches_only_the_windows_that_hold_it(isa):
    shape = shape_of(SHAPES["vgg_first"], "NHWC")
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    x[0, 10, 10, 1] = np.nan
    y = result(shape, im2col.candidates(shape)[0], x, filters, activation="relu")
    expected = np.zeros((20, 21), bool)
    expected[9:12, 9:12] = True
    assert (np.isnan(y[0]) == expected[..., None]).all()


def test_absurd_padding_is_refused_with_a_reason():
    shape = ConvShape(1, 4, 4, 1, 1, 3, 3, pads=((1, 1), (1, 2**28)))
    assert "one output row" in im2col.why_not(shape)
    assert im2col.why_not(ConvShape(1, 4, 4, 1, 1, 3, 3)) is None


def test_one_row_of_a_gap_needs_no_rows_between():
    shape = ConvShape(1, 3, 9, 2, 3, 2, 3, strides=(2**20, 1), pads=((2**20, 2**20), (1, 1)))
    check(shape, im2col.candidates(shape)[0], "integer")
