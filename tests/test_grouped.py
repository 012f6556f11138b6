"""Grouped: every register tile, block size and border against the definition, in poisoned memory between forbidden pages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import examples
from verify import check_direct_bound, run

from convopt.algorithms import grouped
from convopt.shape import ConvShape

# input N, H, W; groups, input and output channels of each; filters R, S; strides, padding, dilations
SHAPES = {
    "resnext": (1, 15, 17, 8, 4, 4, 3, 3, 1, "SAME", 1),
    "resnext_strided": (2, 16, 23, 4, 8, 8, 3, 3, 2, "SAME", 1),
    "pairs": (1, 13, 14, 21, 2, 2, 3, 3, 1, "SAME", 1),
    "threes": (1, 9, 14, 11, 3, 3, 3, 3, 1, "SAME", 1),
    "sixes": (1, 9, 14, 7, 6, 6, 3, 3, 1, "SAME", 1),
    "whole_vectors": (1, 9, 15, 3, 8, 8, 3, 3, 1, "SAME", 1),
    "whole_vectors_strided": (2, 17, 14, 3, 16, 16, 3, 3, 2, "SAME", 1),
    "cut_by_vectors": (1, 9, 14, 5, 6, 12, 3, 3, 1, "SAME", 1),
    "fewer_outputs": (1, 9, 14, 9, 6, 2, 3, 3, 1, "SAME", 1),
    "more_outputs": (1, 9, 14, 9, 2, 5, 3, 3, 2, "SAME", 1),
    "few_channels": (1, 12, 30, 2, 2, 2, 3, 3, 1, "SAME", 1),
    "one_pixel": (1, 1, 1, 3, 2, 3, 3, 3, 1, "SAME", 1),
    "narrow": (3, 9, 2, 5, 4, 4, 3, 3, 1, "SAME", 1),
    "wide": (1, 3, 300, 4, 2, 3, 3, 3, 1, "SAME", 1),
    "valid": (1, 10, 21, 6, 4, 4, 3, 3, 1, "VALID", 1),
    "five": (1, 11, 13, 6, 4, 4, 5, 5, 1, "SAME", 1),
    "point": (1, 11, 13, 6, 4, 3, 1, 1, 1, "SAME", 1),
    "point_strided": (1, 11, 13, 6, 4, 3, 1, 1, 3, "SAME", 1),
    "odd_kernel": (1, 12, 13, 6, 4, 4, 2, 4, (3, 1), "SAME", 1),
    "dilated": (1, 14, 17, 8, 4, 4, 3, 3, 1, "SAME", (2, 3)),
    "dilated_beyond": (1, 4, 3, 8, 4, 4, 3, 3, 1, "SAME", (7, 5)),
    "dilated_strided": (1, 19, 18, 5, 4, 2, 3, 3, (4, 2), "SAME", (2, 1)),
    "lopsided_padding": (1, 6, 5, 5, 4, 4, 3, 3, 1, ((0, 9), (11, 2)), 1),
    "only_padding": (1, 0, 4, 5, 4, 4, 3, 3, 1, ((2, 2), (1, 1)), 1),
}


def shape_of(row, dtype="float32"):
    n, h, w, groups, group_c, group_k, r, s, strides, padding, dilations = row
    return ConvShape.from_arguments(
        (n, h, w, groups * group_c), (r, s, group_c, groups * group_k), strides, padding, "NHWC", dilations, dtype
    )


def served(shape):
    """The shape, or None where each of its groups fills several vectors of the instruction set in use."""
    return shape if not shape.is_empty and grouped.why_not(shape) is None else None


@pytest.mark.parametrize("kind", ["normal", "positive", "lognormal"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_holds_the_direct_bound(isa, name, dtype, kind):
    activation = {"normal": None, "positive": "relu6", "lognormal": "relu"}[kind]
    shape = served(shape_of(SHAPES[name], dtype))
    for params in grouped.candidates(shape) if shape else []:
        check_direct_bound(grouped, shape, params, kind, activation)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_integers_are_exact(isa, name, threads):
    shape = served(shape_of(SHAPES[name]))
    for params in grouped.candidates(shape) if shape else []:
        check_direct_bound(grouped, shape, params, "integer", threads=threads, at_end=threads == 1, with_bias=threads != 2)


@settings(max_examples=examples(150))
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 24), st.integers(1, 30)),
    st.sampled_from([(3, 3), (3, 3), (5, 5), (1, 1), (2, 5), (6, 1)]),
    st.tuples(st.integers(2, 20), st.integers(2, 12), st.integers(1, 12)),
    st.sampled_from([(1, 1, 1, 1), (2, 2, 1, 1), (1, 2, 1, 1), (3, 1, 2, 1), (2, 3, 1, 4), (1, 1, 2, 2), (4, 4, 2, 2), (6, 4, 4, 6)]),
    st.tuples(*[st.integers(0, 8)] * 4),
    st.integers(1, 3),
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
)
def test_any_shape_is_exact(isa, size, kernel, channels, steps, pads, threads, dtype, at_end):
    (n, h, w), (groups, group_c, group_k) = size, channels
    c, k = groups * group_c, groups * group_k
    shape = served(ConvShape(n, h, w, c, k, *kernel, steps[:2], steps[2:], (pads[:2], pads[2:]), groups, "NHWC", dtype))
    for params in grouped.candidates(shape) if shape else []:
        check_direct_bound(grouped, shape, params, "integer", threads=threads, at_end=at_end)


def test_same_bits_for_any_number_of_threads(isa):
    shape = shape_of((2, 16, 23, 40, 3, 3, 3, 3, 2, "SAME", 1))
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    params = grouped.candidates(shape)[0]
    once = run(grouped, shape, params, x, filters)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(run(grouped, shape, params, x, filters, threads=threads), once)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_stays_in_its_window_and_group(isa, bad):
    shape = shape_of((1, 15, 17, 10, 3, 3, 3, 3, 1, "SAME", 1))
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    x[0, 0, 16, 4] = bad
    expected = np.zeros((15, 17, 30), bool)
    expected[:2, 15:, 3:6] = True
    for params in grouped.candidates(shape):
        y = run(grouped, shape, params, x, filters)
        assert (~np.isfinite(y[0]) == expected).all()


def test_offers_whole_vectors_and_several_heights(isa):
    if isa == "generic":
        pytest.skip("the blocks of three channels in a vector of 4 have one group")
    shape = shape_of((1, 9, 14, 40, 3, 3, 3, 3, 1, "SAME", 1))
    whole = 16 if isa == "avx512" else 8
    assert whole in {params["lanes"] for params in grouped.candidates(shape)}
    assert len({params["rows"] for params in grouped.candidates(shape)}) > 1


@pytest.mark.parametrize(
    ("groups", "group_c", "group_k", "reason"), [(1, 4, 4, "one group"), (4, 1, 2, "depthwise"), (4, 4, 64, "64 output channels")]
)
def test_refuses_with_a_reason(isa, groups, group_c, group_k, reason):
    shape = ConvShape(1, 4, 4, groups * group_c, groups * group_k, 3, 3, groups=groups)
    assert reason in grouped.why_not(shape)


def test_refuses_groups_too_far_apart(isa):
    group_k = {"generic": None, "avx2": 5, "avx512": 9}[isa]
    if group_k is None:
        pytest.skip("three groups never share a vector of 4 as long as two of them have to be cut")
    assert "64 channels apart" in grouped.why_not(ConvShape(1, 4, 4, 8 * 64, 8 * group_k, 3, 3, groups=8))
