"""Depthwise: every body and every border against the definition, in poisoned memory between forbidden pages."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verify import check_direct_bound, run

from convopt.algorithms import depthwise
from convopt.shape import ConvShape

# input N, H, W, C; filters R, S; multiplier; strides, padding, dilations
SHAPES = {
    "mobilenet": (1, 15, 17, 32, 3, 3, 1, 1, "SAME", 1),
    "mobilenet_strided": (2, 16, 23, 48, 3, 3, 1, 2, "SAME", 1),
    "five": (1, 13, 14, 19, 5, 5, 1, 1, "SAME", 1),
    "five_strided": (2, 12, 15, 16, 5, 5, 1, 2, "SAME", 1),
    "convnext": (1, 14, 19, 36, 7, 7, 1, 1, "SAME", 1),
    "valid": (1, 10, 21, 17, 3, 3, 1, 1, "VALID", 1),
    "narrow": (3, 9, 2, 33, 3, 3, 1, 1, "SAME", 1),
    "single_pixel": (1, 1, 1, 5, 7, 7, 1, 1, "SAME", 1),
    "few_channels": (1, 12, 30, 3, 3, 3, 1, 1, "SAME", 1),
    "picture": (1, 40, 71, 3, 5, 5, 1, 1, "SAME", 1),
    "gray": (2, 33, 90, 1, 3, 3, 1, 1, "SAME", 1),
    "gray_nine": (1, 19, 45, 1, 9, 9, 1, 1, "SAME", 1),
    "picture_of_many_taps": (1, 21, 33, 3, 11, 6, 1, (2, 1), "SAME", (2, 1)),
    "seven_channels": (1, 11, 30, 7, 7, 7, 1, 1, "VALID", 1),
    "nine_channels": (2, 12, 15, 9, 3, 3, 1, (2, 1), "SAME", 1),
    "few_channels_dilated": (1, 14, 17, 6, 3, 4, 1, (2, 1), "SAME", (3, 2)),
    "odd_kernel": (1, 12, 13, 18, 2, 4, 1, (3, 1), "SAME", 1),
    "dilated": (1, 14, 17, 16, 3, 3, 1, 1, "SAME", (2, 3)),
    "dilated_strided": (1, 19, 18, 20, 3, 2, 1, (2, 3), "SAME", (3, 2)),
    "thirteen": (1, 20, 22, 8, 15, 13, 1, 1, "SAME", 1),
    "larger_kernel": (1, 20, 22, 17, 14, 17, 1, (2, 1), "SAME", (1, 2)),
    "many_small": (1, 7, 7, 83, 5, 5, 1, 1, "SAME", 1),
    "wide": (1, 6, 70, 37, 3, 3, 1, 1, "SAME", 1),
    "wide_strided": (1, 9, 95, 33, 3, 3, 1, 2, "SAME", 1),
    "dilated_beyond": (1, 4, 3, 20, 3, 3, 1, 1, "SAME", (7, 5)),
    "multiplier_2": (2, 9, 11, 10, 3, 3, 2, 1, "SAME", 1),
    "multiplier_5_strided": (1, 9, 11, 7, 5, 5, 5, 2, "SAME", 1),
    "one_group": (1, 9, 11, 1, 3, 4, 37, 1, "SAME", 1),
    "lopsided_padding": (1, 6, 5, 16, 3, 3, 1, 1, ((0, 9), (11, 2)), 1),
    "only_padding": (1, 0, 4, 16, 3, 3, 1, 1, ((2, 2), (1, 1)), 1),
}


def shape_of(row, dtype="float32"):
    n, h, w, c, r, s, multiplier, strides, padding, dilations = row
    return ConvShape.from_arguments((n, h, w, c), (r, s, 1, c * multiplier), strides, padding, "NHWC", dilations, dtype)


def every_params(shape):
    """The candidates, and lines of interleaved channels wherever these can serve."""
    lines = [{"lines": 1}] if shape.k == shape.c and shape.strides[1] == 1 else []
    return [*(params for params in depthwise.candidates(shape) if params not in lines), *lines]


@pytest.mark.parametrize("kind", ["normal", "positive", "lognormal"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_holds_the_direct_bound(isa, name, dtype, kind):
    activation = {"normal": None, "positive": "relu6", "lognormal": "relu"}[kind]
    shape = shape_of(SHAPES[name], dtype)
    for params in every_params(shape):
        check_direct_bound(depthwise, shape, params, kind, activation)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_integers_are_exact(isa, name, threads):
    shape = shape_of(SHAPES[name])
    for params in every_params(shape):
        check_direct_bound(depthwise, shape, params, "integer", threads=threads, at_end=threads == 1, with_bias=threads != 2)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("taps", range(1, 15))
def test_every_kernel_width_and_height_of_strip(isa, taps, stride):
    for rows in range(1, 6):
        pads = ((1, 1), (taps // 2, taps // 2))
        shape = ConvShape(1, (rows - 1) * stride + 1, 3 * taps, 19, 19, 3, taps, (stride, stride), (1, 1), pads, 19, "NHWC", "float32")
        for columns in (1, 2, shape.ow):
            check_direct_bound(depthwise, shape, {"columns": columns}, "integer", at_end=bool(rows % 2))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    st.tuples(*[st.integers(1, 3), st.integers(1, 24), st.integers(1, 30)]),
    st.sampled_from([(3, 3), (3, 3), (5, 5), (7, 7), (1, 1), (2, 5), (6, 1)]),
    st.tuples(*[st.integers(1, 40), st.sampled_from([1, 1, 1, 2, 3])]),
    st.sampled_from([(1, 1, 1, 1), (2, 2, 1, 1), (1, 2, 1, 1), (3, 1, 2, 1), (2, 3, 1, 4)]),
    st.tuples(*[st.integers(0, 8)] * 4),
    st.integers(1, 3),
)
def test_any_shape_is_exact(isa, size, kernel, channels, steps, pads, threads):
    (n, h, w), (c, multiplier) = size, channels
    shape = ConvShape(n, h, w, c, c * multiplier, *kernel, steps[:2], steps[2:], (pads[:2], pads[2:]), c, "NHWC", "float32")
    if not shape.is_empty:
        for params in every_params(shape):
            check_direct_bound(depthwise, shape, params, "integer", threads=threads)


@pytest.mark.parametrize("name", ["mobilenet_strided", "picture"])
def test_same_bits_for_any_number_of_threads(isa, name):
    shape = shape_of(SHAPES[name])
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    once = run(depthwise, shape, depthwise.candidates(shape)[0], x, filters)
    for threads in (2, 3, 7, 64):
        np.testing.assert_array_equal(run(depthwise, shape, depthwise.candidates(shape)[0], x, filters, threads=threads), once)


def test_nan_reaches_only_the_windows_that_hold_it(isa):
    shape = shape_of(SHAPES["mobilenet"])
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    x[0, 0, 16, 4] = np.nan
    y = run(depthwise, shape, depthwise.candidates(shape)[0], x, filters, activation="relu")
    expected = np.zeros((15, 17, 32), bool)
    expected[:2, 15:, 4] = True
    assert (np.isnan(y[0]) == expected).all()


def test_short_runs_of_columns_are_offered_where_starting_them_is_cheap(isa):
    mobilenet, convnext = shape_of((1, 112, 112, 32, 3, 3, 1, 1, "SAME", 1)), shape_of((1, 56, 56, 96, 7, 7, 1, 1, "SAME", 1))
    assert [params["columns"] for params in depthwise.candidates(mobilenet) if "columns" in params] == [8, 112]
    assert [params["columns"] for params in depthwise.candidates(convnext) if "columns" in params] == [56]


def test_tiles_are_offered_for_whole_vectors_of_channels_and_square_kernels(isa):
    rows = dict.fromkeys(("plain", "few", "tall", "strides", "doubled", "large"), (1, 28, 28, 64, 3, 3, 1, 1, "SAME", 1))
    rows["few"] = (1, 28, 28, 1, 3, 3, 1, 1, "SAME", 1)
    rows["tall"] = (1, 28, 28, 64, 5, 3, 1, 1, "SAME", 1)
    rows["strides"] = (1, 28, 28, 64, 3, 3, 1, (2, 1), "SAME", 1)
    rows["doubled"] = (1, 28, 28, 64, 3, 3, 2, 1, "SAME", 1)
    rows["large"] = (1, 28, 28, 64, 9, 9, 1, 1, "SAME", 1)
    assert [name for name, row in rows.items() if _tiles(row)] == ["plain"]
    # The same stride along both axes once dilation is gone.
    assert _tiles((1, 28, 28, 64, 3, 3, 1, (2, 1), "SAME", (2, 1)))


def test_the_tile_that_fits_comes_first(isa):
    for size, first in ((7, 7), (28, 4), (56, 4)):
        for taps in (5, 7):
            assert _tiles((1, size, size, 64, taps, taps, 1, 1, "SAME", 1)) == [first, 11 - first]


def _tiles(row):
    return [params["tiles"] for params in depthwise.candidates(shape_of(row)) if "tiles" in params]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("taps", [3, 5, 7])
def test_every_place_of_a_tile(isa, taps, stride):
    """Heights and widths around those of a tile, channels that end within a vector, borders on every side."""
    for pads in ((0, 0), (1, 0), (0, taps // 2), (taps - 1, 2)):
        for height in range(1, 4):
            for width in (*range(1, 10), 15):
                size = (height - 1) * stride + taps - sum(pads), (width - 1) * stride + taps - sum(pads)
                if min(size) > 0:
                    shape = ConvShape(1, *size, 75, 75, taps, taps, (stride, stride), (1, 1), (pads, pads), 75, "NHWC", "float32")
                    tiles = [params for params in depthwise.candidates(shape) if "tiles" in params]
                    assert tiles
                    for params in tiles:
                        check_direct_bound(depthwise, shape, params, "integer", at_end=bool(width % 2), threads=1 + height % 2)


def test_lines_of_interleaved_channels_are_offered_where_vectors_of_them_leave_lanes_idle(isa):
    gray, rgb, mobilenet = (shape_of((1, 56, 56, c, 3, 3, 1, 1, "SAME", 1)) for c in (1, 3, 32))
    strided, doubled = (shape_of((1, 56, 56, 3, 3, 3, m, s, "SAME", 1)) for m, s in ((1, 2), (2, 1)))
    assert all({"lines": 1} in depthwise.candidates(shape) for shape in (gray, rgb))
    assert all({"lines": 1} not in depthwise.candidates(shape) for shape in (mobilenet, strided, doubled))


def test_several_channels_in_a_group_are_refused_with_a_reason():
    assert "exactly 1" in depthwise.why_not(ConvShape(1, 4, 4, 4, 4, 3, 3, groups=2))
    assert depthwise.why_not(ConvShape(1, 4, 4, 4, 4, 3, 3, groups=4)) is None
