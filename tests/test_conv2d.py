"""conv2d and plan as users call them: every form of every argument.

Data are small integers, so that results are exact and an equality says all there is to say.
"""

import numpy as np
import pytest
from calls import RNG, UNTOUCHED, W, X, both, expected, integers

import convopt
from convopt import ShapeError, UnsupportedError, WorkspaceError
from convopt.algorithms import ALGORITHMS


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"padding": "SAME"},
        {"padding": "same", "strides": 2},
        {"strides": (2, 3), "padding": "valid"},
        {"strides": [3]},
        {"padding": ((1, 2), (0, 3))},
        {"padding": np.array([[1, 2], [0, 3]])},
        {"dilations": (2, 3), "padding": "SAME"},
        {"dilations": 2, "strides": 2, "padding": "SAME"},
        {"bias": integers(4), "activation": "relu"},
        {"bias": integers(4), "activation": "relu6", "padding": "SAME"},
        {"activation": "relu"},
    ],
    ids=str,
)
def test_arguments(data_format, dtype, arguments):
    x = X.astype(dtype) if data_format == "NHWC" else np.ascontiguousarray(X.astype(dtype).transpose(0, 3, 1, 2))
    arguments = dict(arguments)
    if "bias" in arguments:
        arguments["bias"] = arguments["bias"].astype(dtype)
    y = both(x, W.astype(dtype), data_format=data_format, **arguments)
    assert y.dtype == dtype
    if data_format == "NCHW":
        same = convopt.conv2d(X.astype(dtype), W.astype(dtype), algorithm="direct", **arguments)
        np.testing.assert_array_equal(y, same.transpose(0, 3, 1, 2))


def test_four_entries_in_the_order_of_the_data_format():
    both(X, W, (1, 2, 3, 1), [[0, 0], [1, 2], [3, 4], [0, 0]], "NHWC", (1, 2, 1, 1))
    both(np.ascontiguousarray(X.transpose(0, 3, 1, 2)), W, (1, 1, 2, 3), [[0, 0], [0, 0], [1, 2], [3, 4]], "NCHW", (1, 1, 2, 1))


@pytest.mark.parametrize(("group_c", "k"), [(6, 5), (3, 4), (2, 9), (1, 6), (1, 12), (1, 18)])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_groups_are_implicit(group_c, k, data_format):
    x = X if data_format == "NHWC" else np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    both(x, integers(3, 3, group_c, k), padding="SAME", data_format=data_format)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (3, 2), (1, 3, 2), (2, 0), (0, 2)], ids=str)
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_extra_batch_dimensions(batch, data_format):
    x = integers(*batch, 2, *((7, 8, 6) if data_format == "NHWC" else (6, 7, 8)))
    y = both(x, W, data_format=data_format, padding="SAME")
    assert y.shape[:-3] == (*batch, 2)
    assert y.shape == convopt.output_shape(x.shape, W.shape, padding="SAME", data_format=data_format)


def test_name_is_ignored_and_may_be_positional():
    np.testing.assert_array_equal(convopt.conv2d(X, W, 1, "VALID", "NHWC", None, "conv1", algorithm="direct"), expected(X, W))


def test_auto_gives_the_same_within_rounding():
    for level in ("estimate", None):
        for x, w in ((X, W), (integers(1, 20, 20, 16), integers(3, 3, 16, 24)), (integers(1, 40, 40, 8), integers(15, 15, 1, 8))):
            exact = expected(x, w, padding="SAME")
            y = convopt.conv2d(x, w, padding="SAME", tune=level)
            np.testing.assert_allclose(y, exact, atol=1e-5 * np.abs(exact).max())


def test_deterministic_choices_repeat():
    args = ((1, 20, 20, 16), integers(3, 3, 16, 24))
    plans = [convopt.plan(*args, deterministic=True, threads=1) for _ in range(2)]
    assert (plans[0].algorithm, plans[0].params) == (plans[1].algorithm, plans[1].params)
    x = RNG.standard_normal(args[0]).astype(np.float32)
    assert np.array_equal(plans[0](x), plans[1](x))


# Activations and NaN.


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
def test_nan_and_infinity_come_through_activations(activation):
    x = X.copy()
    x[0, 4, 4, 1], x[1, 2, 2, 3] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        exact = expected(x, W, activation=activation)
    y = convopt.conv2d(x, W, activation=activation, algorithm="direct")
    np.testing.assert_array_equal(y, exact)
    assert np.isnan(y).any()


def test_ieee_accuracy_takes_no_algorithm_that_spreads_nan():
    x = integers(1, 30, 30, 32)
    w = integers(3, 3, 32, 32)
    chosen = convopt.plan(x.shape, w, padding="SAME", accuracy="ieee", tune="estimate").algorithm
    assert not ALGORITHMS[chosen].SPREADS_NONFINITE
    x[0, 15, 15, 0] = np.nan
    assert np.isnan(convopt.conv2d(x, w, padding="SAME", accuracy="ieee", tune="estimate")).sum() == 9 * 32
    with pytest.raises(UnsupportedError, match="ieee"):
        convopt.plan(x.shape, w, padding="SAME", accuracy="ieee", algorithm="winograd")


# Empties.


@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_empties(algorithm, data_format):
    w, bias = integers(3, 3, 6, 4), integers(4)
    for sizes, padding in (
        ((0, 9, 8, 6), "SAME"),
        ((0, 9, 8, 6), "VALID"),
        ((2, 0, 8, 6), "SAME"),
        ((2, 0, 8, 6), "VALID"),
        ((2, 8, 0, 6), "VALID"),
        ((2, 0, 0, 6), "SAME"),
        ((2, 0, 8, 6), ((2, 3), (1, 1))),
        ((2, 0, 0, 6), ((1, 2), (2, 2))),
        ((0, 0, 0, 6), ((1, 2), (2, 2))),
        ((2, 0, 8, 6), ((1, 0), (1, 1))),
    ):
        x = np.zeros(sizes if data_format == "NHWC" else (sizes[0], sizes[3], *sizes[1:3]), np.float32)
        if algorithm != "auto" and algorithm not in convopt.algorithms(x.shape, w.shape, 1, padding, data_format):
            continue
        for activation in (None, "relu"):
            options = {"bias": bias, "activation": activation}
            exact = expected(x, w, 1, padding, data_format, **options)
            y = convopt.conv2d(x, w, 1, padding, data_format, algorithm=algorithm, tune="estimate", **options)
            np.testing.assert_array_equal(y, exact)
            out = np.full(exact.shape, UNTOUCHED, np.float32)
            planned = convopt.plan(x.shape, w, 1, padding, data_format, algorithm=algorithm, **options)
            assert planned(x, out) is out
            np.testing.assert_array_equal(out, exact)


def test_padding_alone_gives_bias():
    y = convopt.conv2d(
        np.zeros((1, 0, 4, 1), np.float32), np.ones((3, 3, 1, 2), np.float32), padding=((2, 2), (1, 1)), bias=np.float32([1, -2])
    )
    assert y.shape == (1, 2, 4, 2)
    assert (y == [1, -2]).all()


def test_paddings_as_arrays_are_told_apart():
    """Two arrays may print alike; what they say differs all the same."""
    x = np.zeros((1, 4, 4, 1), np.float32)
    w = np.ones((1, 1, 1, 1), np.float32)
    with np.printoptions(threshold=2, edgeitems=1):
        first = convopt.conv2d(x, w, padding=np.array([[0, 0], [1, 2], [3, 4], [0, 0]]), algorithm="direct")
        second = convopt.conv2d(x, w, padding=np.array([[0, 0], [2, 1], [4, 4], [0, 0]]), algorithm="direct")
    assert first.shape == (1, 7, 11, 1)
    assert second.shape == (1, 7, 12, 1)


def test_mutated_arguments_are_seen():
    strides = [1, 1]
    first = convopt.conv2d(X, W, strides, algorithm="direct")
    strides[0] = 2
    second = convopt.conv2d(X, W, strides, algorithm="direct")
    assert first.shape[1] == 7
    assert second.shape[1] == 4


def test_new_filters_and_bias_of_the_same_shape_are_seen():
    for seed in range(3):
        w, bias = W + seed, integers(4)
        np.testing.assert_array_equal(convopt.conv2d(X, w, bias=bias, algorithm="direct"), expected(X, w, bias=bias))
        w[0, 0, 0, 0] += 1
        np.testing.assert_array_equal(convopt.conv2d(X, w, bias=bias, algorithm="direct"), expected(X, w, bias=bias))


def test_workspace_limit_is_kept():
    x, w = np.zeros((1, 20, 20, 16), np.float32), np.zeros((3, 3, 16, 24), np.float32)
    with pytest.raises(WorkspaceError, match=r"max_workspace is 0 bytes; .* needs at least \d+"):
        convopt.plan(x.shape, w, max_workspace=0, tune="estimate")
    limit = 10_000_000
    assert convopt.plan(x.shape, w, max_workspace=limit, tune="estimate").workspace_bytes <= limit


def test_impossible_allocations_are_memory_errors_with_a_size():
    with pytest.raises(WorkspaceError, match=r"\d{10,} bytes") as caught:
        # Around FFT the whole tensors change their layout; around others bands of rows do, which fit whatever the image.
        convopt.plan((1, 2**12, 2**20, 2**20), np.zeros((3, 3, 1, 2**12), np.float32), data_format="NCHW", algorithm="fft")
    assert isinstance(caught.value, MemoryError)
    assert caught.value.needed > 2**40


def test_algorithms_and_explain():
    names = convopt.algorithms(X.shape, W.shape)
    assert set(names) <= set(ALGORITHMS)
    assert "direct" in names
    assert "winograd" not in convopt.algorithms(X.shape, W.shape, strides=3)
    text = convopt.explain(X.shape, W.shape)
    assert any(name in text for name in names)
    with pytest.raises(ShapeError, match="strides"):
        convopt.algorithms(X.shape, W.shape, strides=0)
    with pytest.raises(ShapeError, match="padding"):
        convopt.explain(X.shape, W.shape, padding="FULL")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_named_algorithms_serve_or_say_why_not(algorithm):
    for strides, dilations in ((1, 1), (2, 1), (1, 2), (2, 2)):
        w = integers(3, 3, 6, 4)
        applies = algorithm in convopt.algorithms(X.shape, w.shape, strides, "SAME", dilations=dilations)
        if applies:
            exact = expected(X, w, strides, "SAME", dilations=dilations)
            y = convopt.conv2d(X, w, strides, "SAME", dilations=dilations, algorithm=algorithm)
            np.testing.assert_allclose(y, exact, atol=1e-4 * np.abs(exact).max())
        else:
            with pytest.raises(UnsupportedError, match=algorithm):
                convopt.conv2d(X, w, strides, "SAME", dilations=dilations, algorithm=algorithm)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_strides_beyond_all_images(data_format):
    x = integers(*((1, 5, 5, 4) if data_format == "NHWC" else (1, 4, 5, 5)))
    w = integers(3, 3, 4, 4)
    y = convopt.conv2d(x, w, 2**30, data_format=data_format)
    np.testing.assert_allclose(y, expected(x, w, 2**30, data_format=data_format), atol=1e-3)
