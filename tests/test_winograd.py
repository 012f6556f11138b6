"""Winograd: every form against the definition, in poisoned memory between forbidden pages."""

import ctypes

import numpy as np
import pytest
from guarded import guarded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verify import UNIT, data, run

from convopt.algorithms import direct, reference, winograd
from convopt.algorithms.memory import Buffer
from convopt.algorithms.winograd_blocks import Blocks
from convopt.algorithms.winograd_folded import FoldedBlocks
from convopt.algorithms.winograd_tiles import MOST_FOLDED
from convopt.shape import ConvShape

# Largest error in units of u max conv(|x|, |w|), and largest relative L2 error on data without wide spread, in units of u.
BOUNDS = {4: (20, 16), 5: (150, 80), 6: (150, 80), 7: (400, 168), 8: (400, 168), 10: (400, 168), 12: (400, 168)}

# input N, H, W, C; filters R, S, C/groups, K; padding, dilations, strides (1 if left out)
SHAPES = {
    "even": (1, 8, 12, 32, 3, 3, 32, 64, "SAME", 1),
    "odd": (2, 13, 9, 5, 3, 3, 5, 7, "SAME", 1),
    "valid": (1, 15, 14, 33, 3, 3, 33, 35, "VALID", 1),
    "one_pixel": (3, 1, 1, 3, 3, 3, 3, 1, "SAME", 1),
    "one_row": (1, 1, 30, 4, 3, 3, 4, 17, "SAME", 1),
    "one_window": (1, 3, 3, 8, 3, 3, 8, 5, "VALID", 1),
    "lopsided_padding": (1, 6, 5, 19, 3, 3, 19, 24, ((0, 7), (9, 1)), 1),
    "only_padding": (1, 0, 4, 2, 3, 3, 2, 5, ((4, 2), (1, 1)), 1),
    "grouped": (2, 11, 10, 12, 3, 3, 4, 57, "SAME", 1),
    "wide_groups": (1, 9, 9, 66, 3, 3, 33, 70, "SAME", 1),
    "depthwise": (1, 10, 9, 6, 3, 3, 1, 12, "SAME", 1),
    "dilated": (2, 19, 13, 9, 3, 3, 9, 18, "SAME", (3, 2)),
    "dilated_past_the_image": (1, 3, 4, 5, 3, 3, 5, 6, "SAME", (5, 7)),
    "five": (2, 11, 12, 6, 5, 5, 6, 40, "SAME", 1),
    "five_dilated": (1, 17, 14, 17, 5, 5, 17, 9, "SAME", 2),
    "seven": (1, 13, 16, 5, 7, 7, 5, 18, "SAME", 1),
    "row_of_seven": (2, 6, 23, 18, 1, 7, 18, 33, "SAME", 1),
    "column_of_seven": (1, 25, 3, 33, 7, 1, 33, 17, ((3, 3), (2, 1)), 1),
    "row_of_three": (1, 5, 14, 16, 1, 3, 16, 16, "SAME", (1, 2)),
    "column_of_five": (2, 15, 4, 9, 5, 1, 9, 20, "VALID", 1),
    "three_by_five": (1, 11, 13, 7, 3, 5, 7, 21, "SAME", 1),
    "two_by_seven": (1, 9, 12, 4, 2, 7, 4, 5, "SAME", 1),
    "six_by_four": (1, 12, 12, 19, 6, 4, 19, 8, "SAME", 1),
    "strided": (2, 15, 22, 17, 3, 3, 17, 33, "SAME", 1, 2),
    "strided_rows": (1, 17, 11, 6, 3, 3, 6, 9, ((0, 3), (1, 1)), (2, 1), (2, 1)),
    "strided_columns": (1, 9, 24, 16, 5, 3, 8, 34, "VALID", 1, (1, 2)),
    "strided_seven": (1, 23, 30, 9, 7, 7, 9, 35, "SAME", 1, 2),
    "strided_five": (2, 18, 13, 17, 5, 5, 17, 33, "VALID", 1, 2),
    "strided_six_by_four": (1, 15, 16, 6, 6, 4, 6, 19, "SAME", 1, 2),
    "strided_seven_by_three": (1, 26, 17, 10, 7, 3, 5, 20, ((2, 4), (1, 0)), (1, 2), (2, 1)),
    "strided_five_dilated": (1, 27, 29, 5, 5, 5, 5, 9, "SAME", 2, 2),
    "strided_row_of_seven": (1, 5, 40, 16, 1, 7, 16, 17, "SAME", 1, 2),
    "strided_row_of_three": (1, 13, 30, 5, 1, 3, 5, 16, "SAME", 1, (3, 2)),
}

#: Strides that become channels.
FOLDED = {
    "first_layer": (2, 30, 41, 3, 7, 7, 3, 35, "SAME", 1, 2),
    "first_layer_padded_oddly": (1, 29, 32, 3, 7, 7, 3, 16, ((3, 3), (3, 3)), 1, 2),
    "stride_of_four": (1, 59, 63, 3, 11, 11, 3, 20, "VALID", 1, 4),
    "gray": (1, 26, 35, 1, 5, 6, 1, 9, "SAME", 1, 2),
    "deep": (1, 23, 21, 40, 7, 7, 40, 18, "SAME", 1, 3),
    "strides_of_two_and_one": (1, 19, 21, 6, 5, 3, 6, 34, ((0, 3), (1, 1)), 1, (2, 1)),
    "strides_of_three_and_two": (2, 27, 22, 5, 8, 3, 5, 17, "SAME", 1, (3, 2)),
    "a_tap_per_phase_along_rows": (1, 18, 33, 7, 5, 3, 7, 9, "SAME", 1, (2, 4)),
    "a_tap_along_columns": (1, 14, 29, 7, 1, 7, 7, 9, "VALID", 1, (3, 2)),
    "fewer_pixels_than_a_tile": (3, 1, 2, 3, 3, 3, 3, 5, "SAME", 1, 2),
    "only_padding_between": (1, 3, 2, 2, 5, 5, 2, 3, ((6, 9), (11, 4)), 1, 2),
}
SHAPES |= FOLDED

TAPS_AND_STRIDES = [(1, 1), (1, 2), (2, 1), (3, 1), (3, 1), (3, 2), (4, 1), (4, 2), (5, 1), (5, 2), (6, 1), (6, 2), (7, 1), (7, 2)]
STEEP = [(1, 3), (2, 3), (4, 3), (5, 4), (6, 5), (7, 4), (11, 4)]


def shape_of(row, dtype="float32"):
    n, h, w, c, r, s, group_c, k, padding, dilations, *strides = row
    return ConvShape.from_arguments((n, h, w, c), (r, s, group_c, k), *(strides or [1]), padding, "NHWC", dilations, dtype)


def check(shape, params, kind, activation=None, threads=1, with_bias=True, at_end=True, seed=0):
    """The largest error within u max A, and for data of narrow spread the L2 error."""
    rng = np.random.default_rng(seed)
    x = data(kind, shape.input_shape, rng).astype(shape.dtype)
    filters = data(kind, shape.filters_shape, rng).astype(shape.dtype)
    bias = data(kind, (shape.k,), rng).astype(shape.dtype) if with_bias else None
    y = run(winograd, shape, params, x, filters, bias, activation, threads, at_end)
    expected = reference.conv2d(x, filters, shape, bias, activation)
    magnitude = reference.conv2d(np.abs(x), np.abs(filters), shape, None if bias is None else np.abs(bias)).max()
    largest, l2 = (units * UNIT[shape.dtype] for units in BOUNDS[params["t"]])
    label = f"{params} {shape.key()} {kind} {activation} threads={threads}"
    assert not np.isnan(y).any(), label
    assert np.abs(y - expected).max() <= largest * magnitude, label
    if kind != "lognormal" and activation is None:
        assert np.linalg.norm(y - expected) <= l2 * np.linalg.norm(expected), label


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["normal", "positive", "lognormal"])
@pytest.mark.parametrize("name", SHAPES)
def test_holds_its_bound(isa, name, kind, dtype):
    shape = shape_of(SHAPES[name], dtype)
    for params in winograd.candidates(shape):
        for threads in (1, 2, 3):
            check(shape, params, kind, [None, "relu", "relu6"][threads - 1], threads, with_bias=threads != 2, at_end=threads != 3)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    st.tuples(*[st.integers(1, 3), st.integers(1, 27), st.integers(1, 27)]),
    st.one_of(st.tuples(*[st.sampled_from(TAPS_AND_STRIDES)] * 2), st.tuples(*[st.sampled_from(TAPS_AND_STRIDES + STEEP)] * 2)),
    st.tuples(*[st.integers(1, 40), st.sampled_from([1, 1, 1, 2, 3]), st.integers(1, 70)]),
    st.tuples(*[st.sampled_from([1, 1, 2, 3])] * 2),
    st.tuples(*[st.integers(0, 6)] * 4),
    st.sampled_from(["float32", "float64"]),
    st.integers(1, 4),
)
def test_any_shape_holds_its_bound(isa, size, taps_and_strides, channels, dilations, pads, dtype, threads):
    (n, h, w), (group_c, groups, group_k) = size, channels
    (r, s), strides = zip(*taps_and_strides, strict=True)
    shape = ConvShape(n, h, w, group_c * groups, group_k * groups, r, s, strides, dilations, (pads[:2], pads[2:]), groups, "NHWC", dtype)
    if not shape.is_empty and winograd.why_not(shape) is None:
        for params in winograd.candidates(shape):
            check(shape, params, "normal", threads=threads, at_end=threads % 2 == 0)


@pytest.mark.parametrize("kind", ["normal", "positive", "lognormal"])
def test_deep_sums_hold_the_bound(isa, kind):
    shape = shape_of((1, 12, 12, 512, 3, 3, 512, 40, "SAME", 1))
    for params in winograd.candidates(shape):
        check(shape, params, kind)


def test_error_is_what_it_says_and_near_that_of_direct(isa):
    """expected_error is the largest error over the largest output; the mean error is at most 3 times direct's for F(4,3)."""
    shape = shape_of((1, 28, 28, 128, 3, 3, 128, 64, "SAME", 1))
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape.input_shape).astype(np.float32)
    filters = rng.standard_normal(shape.filters_shape).astype(np.float32)
    expected = reference.conv2d(x, filters, shape)
    straight = np.abs(run(direct, shape, direct.candidates(shape)[0], x, filters) - expected)
    for params in winograd.candidates(shape):
        error = np.abs(run(winograd, shape, params, x, filters) - expected)
        said = winograd.expected_error(shape, params)
        assert said / 4 <= error.max() / np.abs(expected).max() <= said * 1.5, (params, error.max() / np.abs(expected).max())
        if params["t"] <= 6:
            assert error.mean() <= 3 * straight.mean(), (params, error.mean(), straight.mean())


def test_large_tiles_are_within_the_default_tolerance(isa):
    """Long sums in one go would not be: they are what the transforms amplify."""
    rng = np.random.default_rng(5)
    for r, s, c in ((3, 3, 256), (5, 5, 96), (7, 7, 64), (1, 7, 192), (7, 1, 33)):
        shape = shape_of((1, 24, 24, c, r, s, c, 16, "SAME", 1))
        x = rng.standard_normal(shape.input_shape).astype(np.float32)
        filters = rng.standard_normal(shape.filters_shape).astype(np.float32)
        expected = reference.conv2d(x, filters, shape)
        params = max(winograd.candidates(shape), key=lambda params: params["t"])
        assert params["t"] == (12 if 1 in (r, s) else 8)
        assert np.abs(run(winograd, shape, params, x, filters) - expected).max() <= 1e-5 * np.abs(expected).max()
        assert winograd.expected_error(shape, params) <= 1e-5


@pytest.mark.parametrize("name", ["odd", "valid", "wide_groups", "dilated", "five", "column_of_seven", "strided", "first_layer"])
def test_same_bits_every_time_and_for_any_number_of_threads(isa, name):
    shape = shape_of(SHAPES[name])
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    for params in winograd.candidates(shape):
        once = run(winograd, shape, params, x, filters)
        for threads in (1, 2, 3, 7, 40):
            np.testing.assert_array_equal(run(winograd, shape, params, x, filters, threads=threads), once)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_several_blocks_and_panels(isa, threads):
    """More tiles than a block holds, more output channels than a panel."""
    shape = shape_of((2, 41, 38, 24, 3, 3, 24, 150, "SAME", 1))
    for params in winograd.candidates(shape):
        check(shape, params, "normal", threads=threads)


@pytest.mark.parametrize("threads", [2, 3, 40])
def test_threads_share_one_block_of_few_tiles(isa, threads):
    """Its channels are no whole cache lines; 40 threads are more than panels."""
    shape = shape_of((1, 7, 6, 70, 3, 3, 70, 150, "SAME", 1))
    for params in winograd.candidates(shape):
        check(shape, params, "normal", threads=threads)


@pytest.mark.parametrize("name", ["even", "grouped", "one_pixel", "dilated", "row_of_seven", "strided", "first_layer", "deep"])
@pytest.mark.parametrize("threads", [1, 3])
def test_workspace_is_as_large_as_it_says(isa, name, threads):
    shape = shape_of(SHAPES[name])
    convolver = winograd.Implementation(shape, winograd.candidates(shape)[0])
    convolver.pack_filters(np.ones(shape.filters_shape, np.float32))
    needed, beyond = convolver.workspace_bytes(threads), 4096
    workspace = Buffer(needed + beyond)
    workspace.fill(0xA5)
    out = np.empty(shape.output_shape, np.float32)
    convolver.run_on(np.ones(shape.input_shape, np.float32), out, workspace, threads=threads)
    assert ctypes.string_at(workspace.address + needed, beyond) == b"\xa5" * beyond


@pytest.mark.parametrize("name", ["wide_groups", "stride_of_four"])
def test_new_filters_replace_the_old_by_any_number_of_threads(isa, name):
    shape = shape_of(SHAPES[name])
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape.input_shape).astype(np.float32)
    old, new = (rng.standard_normal(shape.filters_shape).astype(np.float32) for _ in range(2))
    params = winograd.candidates(shape)[0]
    convolver = winograd.Implementation(shape, params)
    convolver.pack_filters(old)
    convolver.pack_filters(new, threads=3)
    workspace = Buffer(convolver.workspace_bytes(1))
    out = guarded(np.empty(shape.output_shape, np.float32))
    convolver.run_on(x, out, workspace)
    np.testing.assert_array_equal(out, run(winograd, shape, params, x, new))


def test_nan_passes_the_activation(isa):
    shape = shape_of(SHAPES["even"])
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    x[0, 4, 4, 1] = np.nan
    for params in winograd.candidates(shape):
        y = run(winograd, shape, params, x, filters, activation="relu6")
        assert np.isnan(y[0, 3:6, 3:6]).all()
    assert winograd.SPREADS_NONFINITE


def test_says_why_it_cannot():
    assert "(4, 4)" in winograd.why_not(ConvShape(1, 8, 8, 4, 4, 4, 4, (4, 4)))
    assert "(3, 3)" in winograd.why_not(ConvShape(1, 8, 8, 4, 4, 4, 4, (3, 3), groups=2))
    assert "(3, 2)" in winograd.why_not(ConvShape(1, 18, 18, 4, 4, 5, 5, (3, 2), (2, 1)))
    assert "2x2" in winograd.why_not(ConvShape(1, 8, 8, 4, 4, 2, 2, (2, 2)))
    assert "9x9" in winograd.why_not(ConvShape(1, 8, 8, 4, 4, 9, 9))
    assert "1x1" in winograd.why_not(ConvShape(1, 8, 8, 4, 4, 1, 1))
    assert winograd.why_not(ConvShape(1, 8, 8, 4, 4, 3, 3)) is None
    assert winograd.why_not(ConvShape(1, 8, 8, 4, 4, 1, 3, (5, 2))) is None


@pytest.mark.parametrize(("size", "t"), [(28, 6), (13, 5), (7, 4), (2, 4)])
def test_default_wastes_little(isa, size, t):
    """Large tiles save multiplications, unless most of them lies outside the image."""
    assert winograd.candidates(ConvShape(1, size, size, 64, 64, 3, 3, pads=((1, 1), (1, 1))))[0]["t"] == t


def test_strides_are_folded_where_channels_are_few_or_there_is_no_other_way():
    def kind(c, taps, stride, **options):
        shape = ConvShape(1, 40, 40, c, 8, taps, taps, (stride, stride), **options)
        return type(winograd.Implementation(shape, winograd.candidates(shape)[0]))

    assert kind(3, 7, 2) is kind(64, 7, 4) is kind(MOST_FOLDED, 3, 2) is FoldedBlocks
    assert kind(64, 7, 2) is kind(3, 7, 1) is kind(4, 7, 2, groups=2) is kind(3, 5, 2, dilations=(2, 2)) is Blocks
