"""NCHW served plane by plane: every body, tail and border against the definition, in poisoned memory between forbidden pages."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verify import check_direct_bound, run

from convopt.algorithms import depthwise_planes, im2col, im2col_planes, pointwise_planes, prepare
from convopt.shape import ConvShape

DEPTHWISE = SimpleNamespace(NAME="depthwise", Implementation=depthwise_planes.Implementation)
POINTWISE = SimpleNamespace(NAME="im2col", Implementation=pointwise_planes.Implementation)

# input N, C, H, W; filters R, S; multiplier; strides, padding, dilations
DEPTHWISE_SHAPES = {
    "mobilenet": (1, 5, 21, 50, 3, 3, 1, 1, "SAME", 1),
    "mobilenet_strided": (2, 3, 16, 71, 3, 3, 1, 2, "SAME", 1),
    "five": (1, 3, 13, 34, 5, 5, 1, 1, "SAME", 1),
    "five_strided": (2, 2, 12, 35, 5, 5, 1, 2, "SAME", 1),
    "convnext": (1, 3, 14, 19, 7, 7, 1, 1, "SAME", 1),
    "small_planes": (2, 40, 7, 7, 3, 3, 1, 1, "SAME", 1),
    "whole_vectors": (1, 2, 6, 34, 3, 3, 1, 1, "VALID", 1),
    "several_strips": (1, 2, 120, 113, 3, 3, 1, 1, "SAME", 1),
    "single_pixel": (1, 5, 1, 1, 7, 7, 1, 1, "SAME", 1),
    "odd_kernel": (1, 4, 12, 37, 2, 4, 1, (3, 1), "SAME", 1),
    "nine": (1, 3, 14, 37, 9, 9, 1, 1, "SAME", 1),
    "four_rows_of_taps": (2, 3, 11, 20, 4, 3, 1, 1, "VALID", 1),
    "column": (1, 3, 23, 18, 13, 1, 1, 1, "SAME", 1),
    "dilated_as_strided": (1, 3, 25, 35, 5, 6, 2, (2, 1), "SAME", (2, 1)),
    "dilated": (1, 4, 14, 33, 3, 3, 1, 1, "SAME", (2, 3)),
    "dilated_strided": (1, 4, 19, 38, 3, 2, 1, (2, 3), "SAME", (3, 2)),
    "multiplier_3": (2, 4, 9, 20, 3, 3, 3, 1, "SAME", 1),
    "lopsided_padding": (1, 4, 6, 5, 3, 3, 1, 1, ((0, 9), (40, 2)), 1),
    "only_padding": (1, 4, 0, 4, 3, 3, 1, 1, ((2, 2), (1, 1)), 1),
}
# input N, C, H, W; K; groups; strides
POINTWISE_SHAPES = {
    "tails": (1, 13, 9, 7, 33, 1, 1),
    "whole_panels": (2, 24, 12, 16, 28, 1, 1),
    "several_blocks": (1, 64, 40, 41, 30, 1, 1),
    "several_passes": (1, 600, 5, 7, 17, 1, 1),
    "strided": (2, 7, 9, 70, 15, 1, (3, 2)),
    "far_strided": (1, 9, 23, 24, 8, 1, 7),
    "grouped": (2, 12, 6, 11, 21, 3, 1),
    "single_pixel": (3, 5, 1, 1, 6, 1, 1),
}
WIDTHS = (1, 2, 3, 4)


def depthwise_shape(row, dtype="float32"):
    n, c, h, w, r, s, multiplier, strides, padding, dilations = row
    return ConvShape.from_arguments((n, c, h, w), (r, s, 1, c * multiplier), strides, padding, "NCHW", dilations, dtype)


def pointwise_shape(row, dtype="float32"):
    n, c, h, w, k, groups, strides = row
    return ConvShape.from_arguments((n, c, h, w), (1, 1, c // groups, k), strides, "VALID", "NCHW", None, dtype)


def widths(shape):
    return [params for params in im2col.candidates(shape) if params["nv"] in WIDTHS]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DEPTHWISE_SHAPES)
def test_depthwise_holds_the_direct_bound(isa, name, dtype):
    shape = depthwise_shape(DEPTHWISE_SHAPES[name], dtype)
    check_direct_bound(DEPTHWISE, shape, {}, "lognormal", "relu")
    for threads in (1, 2, 3):
        check_direct_bound(DEPTHWISE, shape, {}, "integer", threads=threads, at_end=threads == 1, with_bias=threads != 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", POINTWISE_SHAPES)
def test_pointwise_holds_the_direct_bound(isa, name, dtype):
    shape = pointwise_shape(POINTWISE_SHAPES[name], dtype)
    for params in widths(shape):
        check_direct_bound(POINTWISE, shape, params, "lognormal", "relu6")
        for threads in (1, 2, 5):
            check_direct_bound(POINTWISE, shape, params, "integer", "relu", threads, at_end=threads == 1, with_bias=threads != 2)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    st.tuples(*[st.integers(1, 3), st.integers(1, 30), st.integers(1, 80)]),
    st.sampled_from([(3, 3), (3, 3), (5, 5), (7, 7), (1, 1), (2, 5), (6, 1)]),
    st.tuples(*[st.integers(1, 20), st.sampled_from([1, 1, 1, 2, 3])]),
    st.sampled_from([(1, 1, 1, 1), (2, 2, 1, 1), (1, 2, 1, 1), (3, 1, 2, 1), (2, 3, 1, 4)]),
    st.tuples(*[st.integers(0, 8)] * 4),
    st.integers(1, 3),
    st.booleans(),
)
def test_any_depthwise_shape_is_exact(isa, size, kernel, channels, steps, pads, threads, at_end):
    (n, h, w), (c, multiplier) = size, channels
    shape = ConvShape(n, h, w, c, c * multiplier, *kernel, steps[:2], steps[2:], (pads[:2], pads[2:]), c, "NCHW", "float32")
    if not shape.is_empty:
        check_direct_bound(DEPTHWISE, shape, {}, "integer", threads=threads, at_end=at_end)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    st.tuples(*[st.integers(1, 3), st.integers(1, 30), st.integers(1, 60)]),
    st.tuples(*[st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)]),
    st.tuples(*[st.integers(1, 4)] * 2),
    st.integers(1, 4),
    st.booleans(),
)
def test_any_pointwise_shape_is_exact(isa, size, channels, strides, threads, at_end):
    (n, h, w), (groups, c, k) = size, channels
    shape = ConvShape(n, h, w, groups * c, groups * k, 1, 1, strides, (1, 1), ((0, 0), (0, 0)), groups, "NCHW", "float32")
    for params in widths(shape):
        check_direct_bound(POINTWISE, shape, params, "integer", threads=threads, at_end=at_end)


def check_same_bits(algorithm, shape, params):
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    once = run(algorithm, shape, params, x, filters)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(run(algorithm, shape, params, x, filters, threads=threads), once)


def test_same_bits_for_any_number_of_threads(isa):
    check_same_bits(DEPTHWISE, depthwise_shape(DEPTHWISE_SHAPES["several_strips"]), {})
    check_same_bits(POINTWISE, pointwise_shape(POINTWISE_SHAPES["several_passes"]), {"nv": 1})


def test_planes_serve_what_they_say_and_nothing_else():
    depthwise = depthwise_shape(DEPTHWISE_SHAPES["mobilenet"])
    pointwise = pointwise_shape(POINTWISE_SHAPES["strided"])
    assert type(prepare("depthwise", depthwise, {})) is depthwise_planes.Implementation
    assert type(prepare("im2col", pointwise, {"nv": 1})) is pointwise_planes.Implementation
    assert type(prepare("im2col", depthwise, {"nv": 1})) is im2col_planes.Implementation
    assert type(prepare("im2col", pointwise.with_layout("NHWC"), {"nv": 1})) is im2col.Implementation
    assert "pixel" in pointwise_planes.why_not(depthwise)
    far = ConvShape(1, 2**20, 4, 3, 3, 2, 2, dilations=(2**20 - 1, 1), groups=3, data_format="NCHW", pads=((0, 0), (2**9, 2**9)))
    assert "copies at most" in depthwise_planes.why_not(far)
