"""Dots: every register tile, tail and border against the definition, in poisoned memory between forbidden pages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import examples
from verify import check_direct_bound, run

from convopt.algorithms import dots, panels
from convopt.kernels import registry
from convopt.shape import ConvShape

# input N, H, W, C; filters R, S, K; strides, padding, dilations
SHAPES = {
    "point": (1, 13, 17, 16, 1, 1, 2, 1, "VALID", 1),
    "point_batch": (3, 7, 5, 33, 1, 1, 3, 1, "VALID", 1),
    "point_strided": (2, 9, 12, 20, 1, 1, 4, (2, 3), "SAME", 1),
    "point_padded": (1, 9, 12, 20, 1, 1, 4, 1, ((1, 2), (3, 1)), 1),
    "head": (1, 14, 31, 64, 3, 3, 1, 1, "SAME", 1),
    "three": (2, 11, 26, 19, 3, 3, 3, 1, "SAME", 1),
    "valid": (1, 10, 12, 7, 3, 3, 2, 1, "VALID", 1),
    "five": (1, 12, 13, 5, 5, 5, 4, 1, "SAME", 1),
    "picture": (1, 21, 35, 1, 5, 3, 1, 1, "SAME", 1),
    "strided": (1, 12, 21, 9, 3, 4, 2, (2, 3), "SAME", 1),
    "dilated": (1, 14, 17, 9, 3, 3, 3, 1, "SAME", (2, 3)),
    "dilated_height": (1, 14, 17, 9, 3, 3, 3, (2, 1), "SAME", (3, 1)),
    "column": (1, 14, 17, 9, 5, 1, 3, 1, "SAME", (1, 2)),
    "dilated_beyond": (1, 4, 3, 8, 3, 3, 2, 1, "SAME", (7, 5)),
    "window_over_image": (1, 3, 4, 6, 7, 9, 2, 1, "SAME", 1),
    "one_pixel": (1, 1, 1, 5, 3, 3, 4, 1, "SAME", 1),
    "tall": (1, 60, 2, 5, 3, 3, 2, 1, "SAME", 1),
    "wide": (1, 2, 300, 3, 3, 3, 1, 1, "SAME", 1),
    "lopsided_padding": (1, 6, 5, 5, 3, 3, 3, 1, ((0, 9), (11, 2)), 1),
    "only_padding": (1, 0, 4, 5, 3, 3, 2, 1, ((2, 2), (1, 1)), 1),
}


def shape_of(row, dtype="float32", k=None):
    n, h, w, c, r, s, outputs, strides, padding, dilations = row
    return ConvShape.from_arguments((n, h, w, c), (r, s, c, k or outputs), strides, padding, "NHWC", dilations, dtype)


@pytest.mark.parametrize("kind", ["normal", "positive", "lognormal"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_holds_the_direct_bound(isa, name, dtype, kind):
    activation = {"normal": None, "positive": "relu6", "lognormal": "relu"}[kind]
    vl, _ = registry.tile(4 if dtype == "float32" else 8)
    shape = shape_of(SHAPES[name], dtype)
    check_direct_bound(dots, shape_of(SHAPES[name], dtype, min(shape.k, vl)), {}, kind, activation)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("name", SHAPES)
def test_integers_are_exact(isa, name, threads):
    check_direct_bound(dots, shape_of(SHAPES[name]), {}, "integer", threads=threads, at_end=threads == 1, with_bias=threads != 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_panel_and_tail(isa, dtype):
    """All numbers of outputs, tiles that are whole and not, runs around the lengths of vectors."""
    vl, _ = registry.tile(4 if dtype == "float32" else 8)
    for k in range(1, vl + 1):
        for width, c in zip(range(1, 2 * vl + 11), [*range(1, 2 * vl + 2), *range(1, 10)], strict=True):
            check_direct_bound(dots, ConvShape(1, 2, width, c, k, 1, 1, dtype=dtype), {}, "integer", at_end=width % 2 == 0)
            check_direct_bound(dots, ConvShape(1, 3, width, c, k, 2, 3, pads=((0, 1), (1, 1)), dtype=dtype), {}, "integer", "relu")


@settings(max_examples=examples(200))
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 40)),
    st.sampled_from([(3, 3), (1, 1), (5, 5), (2, 5), (6, 1), (1, 4)]),
    st.tuples(st.integers(1, 40), st.integers(1, 16)),
    st.sampled_from([(1, 1, 1, 1), (2, 2, 1, 1), (1, 2, 1, 1), (3, 1, 2, 1), (1, 1, 1, 3), (2, 3, 1, 4), (1, 1, 2, 2)]),
    st.tuples(*[st.integers(0, 8)] * 4),
    st.integers(1, 4),
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
)
def test_any_shape_is_exact(isa, size, kernel, channels, steps, pads, threads, dtype, at_end):
    (n, h, w), (c, k) = size, channels
    shape = ConvShape(n, h, w, c, k, *kernel, steps[:2], steps[2:], (pads[:2], pads[2:]), 1, "NHWC", dtype)
    if not shape.is_empty and dots.why_not(shape) is None:
        check_direct_bound(dots, shape, {}, "integer", threads=threads, at_end=at_end)


@pytest.mark.parametrize("name", ["point_batch", "three", "dilated", "wide"])
def test_same_bits_for_any_number_of_threads(isa, name):
    shape = shape_of(SHAPES[name])
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    once = run(dots, shape, {}, x, filters)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(run(dots, shape, {}, x, filters, threads=threads), once)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["head", "three", "dilated", "point_batch"])
def test_a_bad_number_stays_in_its_window(isa, name, bad):
    shape = shape_of(SHAPES[name])
    rng = np.random.default_rng(1)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    clean = run(dots, shape, {}, x, filters)
    for y, column, channel in ((0, 0, 0), (shape.h // 2, shape.w // 2, shape.c - 1), (shape.h - 1, shape.w - 1, shape.c - 1)):
        tainted = x.copy()
        tainted[0, y, column, channel] = bad
        reached = ~np.isfinite(run(dots, shape, {}, tainted, filters))
        rows, columns = (reach(shape, axis, at) for axis, at in ((0, y), (1, column)))
        expected = np.zeros(shape.output_shape, bool)
        expected[0, rows[:, None], columns, :] = True
        np.testing.assert_array_equal(reached, expected)
        np.testing.assert_array_equal(run(dots, shape, {}, tainted, filters)[~reached], clean[~reached])


def reach(shape, axis, at):
    """Outputs along one axis whose windows hold input `at`."""
    taps, out = ((shape.r, shape.oh), (shape.s, shape.ow))[axis]
    offsets = np.arange(taps) * shape.dilations[axis] - shape.pads[axis][0]
    return np.array([o for o in range(out) if at in o * shape.strides[axis] + offsets])


@pytest.mark.parametrize("name", ["picture", "three", "dilated", "point_batch"])
def test_a_bad_weight_stays_in_its_output_channel(isa, name):
    """What follows a run's last weights, of another row or filter, must not meet the zeros that complete a vector of inputs."""
    shape = shape_of(SHAPES[name], k=4)
    for place in (0, -1):
        filters = np.ones(shape.filters_shape)
        filters[place, place, place, 2] = np.inf
        y = run(dots, shape, {}, np.ones(shape.input_shape), filters)
        assert np.isfinite(y[..., [0, 1, 3]]).all()
        assert np.isposinf(y[:, shape.oh // 2, shape.ow // 2, 2]).all()


def test_refuses_with_a_reason(isa):
    vl, _ = panels.tiles(ConvShape(1, 4, 4, 8, 8, 3, 3))
    assert "2 groups" in dots.why_not(ConvShape(1, 4, 4, 8, 2, 3, 3, groups=2))
    assert f"the {vl} of a vector" in dots.why_not(ConvShape(1, 4, 4, 8, vl + 1, 3, 3))
