"""conv2d and plan as users call them: every form of every argument, hostile arrays, ``out``, and what is refused.

Data are small integers, so that results are exact and an equality says all there is to say.
"""

import numpy as np
import pytest
from guarded import guarded

import convopt
from convopt import DTypeError, ShapeError, UnsupportedError, WorkspaceError
from convopt.algorithms import ALGORITHMS, reference
from convopt.shape import ConvShape

RNG = np.random.default_rng(0)
UNTOUCHED = -77.0


def integers(*sizes, dtype=np.float32):
    return RNG.integers(-4, 5, sizes).astype(dtype)


X, W = integers(2, 9, 8, 6), integers(3, 2, 6, 4)


def expected(x, w, strides=1, padding="VALID", data_format="NHWC", dilations=None, bias=None, activation=None):
    """The definition, for inputs of any rank."""
    x = np.asarray(x)
    shape = ConvShape.from_arguments(x.shape, np.shape(w), strides, padding, data_format, dilations, x.dtype.newbyteorder("=").name)
    y = reference.conv2d(x.reshape(shape.input_shape), w, shape, bias, activation)
    return y.reshape(*x.shape[:-3], *shape.output_shape[1:]).astype(x.dtype.newbyteorder("="))


def both(x, w, *arguments, **options):
    """The result of conv2d and of a plan, each exact."""
    known = {
        key: value for key, value in options.items() if key in ("bias", "activation", "strides", "padding", "data_format", "dilations")
    }
    exact = expected(x, w, *arguments, **known)
    y = convopt.conv2d(x, w, *arguments, algorithm="direct", **options)
    np.testing.assert_array_equal(y, exact)
    assert y.dtype == exact.dtype
    assert y.flags.c_contiguous
    assert y.flags.owndata
    assert y.flags.writeable
    planned = convopt.plan(np.shape(x), w, *arguments, algorithm="direct", **options)
    np.testing.assert_array_equal(planned(x), exact)
    return y


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


# Arrays in unusual memory.


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def negative_stride(array):
    return np.ascontiguousarray(array[::-1, ::-1, :, ::-1])[::-1, ::-1, :, ::-1]


def permuted(array):
    return np.ascontiguousarray(array.transpose(3, 1, 0, 2)).transpose(2, 1, 3, 0)


def strided(array):
    wide = np.full((*array.shape[:-1], array.shape[-1] * 2), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def big_endian(array):
    return array.astype(array.dtype.newbyteorder(">"))


def fortran(array):
    return np.asfortranarray(array)


class Subclass(np.ndarray):
    """An array of a kind of its own."""


def subclass(array):
    return array.view(Subclass)


def lists(array):
    return array.astype(np.float64).tolist()


FORMS = [read_only, unaligned, negative_stride, permuted, strided, big_endian, fortran, subclass]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_arrays_in_any_memory(form, dtype):
    x, w, bias = X.astype(dtype), W.astype(dtype), integers(4, dtype=dtype)
    exact = expected(x, w, bias=bias)
    for a, b in ((form(x), w), (x, form(w)), (form(x), form(w))):
        y = convopt.conv2d(a, b, bias=bias, algorithm="direct")
        np.testing.assert_array_equal(y, exact)
        assert type(y) is np.ndarray
        assert y.dtype == dtype
        assert y.dtype.isnative
        planned = convopt.plan(x.shape, b, bias=bias, algorithm="direct")
        np.testing.assert_array_equal(planned(a), exact)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("form", [read_only, big_endian, lambda b: np.repeat(b, 2)[::2], lambda b: b[::-1].copy()[::-1]])
def test_bias_in_any_memory(form):
    bias = integers(4)
    np.testing.assert_array_equal(convopt.conv2d(X, W, bias=form(bias), algorithm="direct"), expected(X, W, bias=bias))


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_callers_arrays_between_forbidden_pages(algorithm, data_format, at_end):
    """The short road uses the caller's memory as it is: to its last byte, and no further."""
    for w in (integers(3, 3, 6, 5), integers(3, 3, 1, 6)):
        x = X if data_format == "NHWC" else np.ascontiguousarray(X.transpose(0, 3, 1, 2))
        options = {"padding": "SAME", "data_format": data_format}
        if algorithm in convopt.algorithms(x.shape, w.shape, **options):
            exact = expected(x, w, **options)
            x, w, bias, out = (
                guarded(array, at_end) for array in (x, w, np.zeros(w.shape[3], np.float32), np.full(exact.shape, np.nan, np.float32))
            )
            convopt.conv2d(x, w, bias=bias, out=out, algorithm=algorithm, tune="estimate", **options)
            np.testing.assert_allclose(out, exact, atol=1e-4)


def test_zero_strides():
    x, w = np.broadcast_to(integers(1, 1, 8, 6), (3, 9, 8, 6)), np.broadcast_to(integers(1, 2, 6, 1), (3, 2, 6, 4))
    np.testing.assert_array_equal(convopt.conv2d(x, w, algorithm="direct"), expected(np.array(x), np.array(w)))


def test_lists_are_float64_arrays():
    y = convopt.conv2d(lists(X), lists(W), algorithm="direct", bias=[1.0, 2.0, 3.0, 4.0])
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, expected(X.astype("f8"), W.astype("f8"), bias=[1, 2, 3, 4]))


def test_objects_with_an_array_inside():
    class Holder:
        def __array__(self, dtype=None, copy=None):
            return X

    np.testing.assert_array_equal(convopt.conv2d(Holder(), W, algorithm="direct"), expected(X, W))


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


# out=


def test_out_is_written_and_returned():
    exact = expected(X, W)
    out = np.full(exact.shape, np.nan, np.float32)
    assert convopt.conv2d(X, W, algorithm="direct", out=out) is out
    np.testing.assert_array_equal(out, exact)
    assert convopt.plan(X.shape, W, algorithm="direct")(X, out=out) is out


@pytest.mark.parametrize(
    "form", [strided, permuted, negative_stride, fortran, big_endian, unaligned, subclass], ids=lambda form: form.__name__
)
def test_out_in_any_memory(form):
    exact = expected(X, W)
    out = form(np.full(exact.shape, UNTOUCHED, np.float32))
    base = out.base
    before = None if base is None or form is not strided else base.copy()
    assert convopt.conv2d(X, W, algorithm="direct", out=out) is out
    np.testing.assert_array_equal(np.asarray(out), exact)
    if before is not None:
        np.testing.assert_array_equal(base[..., 1::2], before[..., 1::2])


def test_out_of_a_wider_dtype_is_cast_as_numpy_does():
    exact = expected(X, W)
    out = np.full(exact.shape, UNTOUCHED, np.float64)
    assert convopt.conv2d(X, W, algorithm="direct", out=out) is out
    np.testing.assert_array_equal(out, exact)
    narrow = np.full(exact.shape, UNTOUCHED, np.float32)
    convopt.conv2d(X.astype("f8"), W.astype("f8"), algorithm="direct", out=narrow)
    np.testing.assert_array_equal(narrow, exact)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("shift", [-300, -7, -1, 0, 1, 7, 300])
def test_out_may_overlap_the_input(padding, shift):
    """A result written over its own input, exactly or displaced either way, is the result of the unharmed input."""
    w = integers(3, 3, 6, 6)
    memory = integers(X.size + 1000)
    start = 400
    x = memory[start : start + X.size].reshape(X.shape)
    exact = expected(x, w, padding=padding)
    out = memory[start + shift : start + shift + exact.size].reshape(exact.shape)
    convopt.conv2d(x, w, padding=padding, algorithm="direct", out=out)
    np.testing.assert_array_equal(out, exact)


def test_out_may_be_the_input_itself_or_its_reverse():
    w = integers(1, 1, 6, 6)
    for view in (lambda a: a, lambda a: a[::-1], lambda a: a[:, :, ::-1]):
        x = X.copy()
        exact = expected(x, w)
        convopt.conv2d(x, w, algorithm="direct", out=view(x))
        np.testing.assert_array_equal(view(x), exact)


def test_out_may_overlap_filters_and_bias():
    w, x = integers(1, 1, 6, 6), integers(1, 1, 6, 6)
    exact = expected(x, w)
    convopt.conv2d(x, w, algorithm="direct", out=w)
    np.testing.assert_array_equal(w, exact)
    bias = integers(6)
    exact = expected(x, w, bias=bias)
    out = bias.reshape(1, 1, 1, 6)
    small = x[:, :, :1]
    convopt.conv2d(small, w, bias=bias, algorithm="direct", out=out)
    np.testing.assert_array_equal(out, exact[:, :, :1])


BAD_OUT = [
    (np.full((2, 7, 7, 5), UNTOUCHED, np.float32), ShapeError, ["out", "(2, 7, 7, 5)", "(2, 7, 7, 4)"]),
    (np.full((1, 7, 7, 4), UNTOUCHED, np.float32), ShapeError, ["out", "(1, 7, 7, 4)", "(2, 7, 7, 4)"]),
    (np.full((2, 7, 28), UNTOUCHED, np.float32), ShapeError, ["out", "(2, 7, 28)", "(2, 7, 7, 4)"]),
    (np.full((1, 2, 7, 7, 4), UNTOUCHED, np.float32), ShapeError, ["out", "(1, 2, 7, 7, 4)"]),
    (read_only(np.full((2, 7, 7, 4), UNTOUCHED, np.float32)), ShapeError, ["out", "read-only"]),
    (np.broadcast_to(np.float32(UNTOUCHED), (2, 7, 7, 4)), ShapeError, ["out", "read-only"]),
    (np.full((2, 7, 7, 4), UNTOUCHED, np.int32), DTypeError, ["out", "int32", "float32"]),
    (np.full((2, 7, 7, 4), False), DTypeError, ["out", "bool", "float32"]),
    ([[1.0]], DTypeError, ["out", "list"]),
    ("out", DTypeError, ["out", "str"]),
]


@pytest.mark.parametrize(("out", "kind", "words"), BAD_OUT, ids=[f"{i}-{row[1].__name__}" for i, row in enumerate(BAD_OUT)])
def test_unusable_out(out, kind, words):
    before = out.copy() if isinstance(out, np.ndarray) else None
    for call in (
        lambda: convopt.conv2d(X, W, out=out, algorithm="direct"),
        lambda: convopt.plan(X.shape, W, algorithm="direct")(X, out=out),
    ):
        with pytest.raises(kind) as caught:
            call()
        missing = [word for word in words if word not in str(caught.value)]
        assert not missing, f"{str(caught.value)!r} does not mention {missing}"
        if before is not None:
            assert np.array_equal(out, before), "an error must leave out alone"


# What is refused: arguments over the good ones -> class, and what the message must hold.

BAD_ARGUMENTS = [
    ({"input": None}, DTypeError, ["input", "None"]),
    ({"filters": None}, DTypeError, ["filters", "None"]),
    ({"input": "picture.png"}, DTypeError, ["input", "picture.png"]),
    ({"input": X.astype(object)}, DTypeError, ["input", "object", "float32"]),
    ({"input": X.astype(np.complex64)}, DTypeError, ["input", "complex64", "float32"]),
    ({"input": X.astype(np.int32)}, DTypeError, ["input", "int32", "float32"]),
    ({"input": X.astype(np.float16)}, DTypeError, ["input", "float16", "float32"]),
    ({"input": X.astype(np.longdouble)}, DTypeError, ["input", "float32"]),
    ({"input": X.astype(bool)}, DTypeError, ["input", "bool", "float32"]),
    ({"filters": W.astype(np.int64)}, DTypeError, ["filters", "int64", "float32"]),
    ({"filters": W.astype(np.float64)}, DTypeError, ["filters", "float64", "float32"]),
    ({"input": X.astype(np.float64)}, DTypeError, ["filters", "float32", "float64"]),
    ({"input": np.ma.masked_array(X, X > 0)}, DTypeError, ["input", "masked"]),
    ({"filters": np.ma.masked_array(W, W > 0)}, DTypeError, ["filters", "masked"]),
    ({"input": [[1.0, 2.0], [3.0]]}, ShapeError, ["input"]),
    ({"input": X[0]}, ShapeError, ["input", "rank 3", "4"]),
    ({"input": X[..., :5]}, ShapeError, ["input", "5 channels", "6"]),
    ({"input": X[:, :2]}, ShapeError, ["filters", "3", "2", "larger"]),
    ({"filters": W[0]}, ShapeError, ["filters", "rank 3", "4"]),
    ({"filters": W[:0]}, ShapeError, ["filters", "at least 1"]),
    ({"filters": W[:, :, :4]}, ShapeError, ["6 channels", "4"]),
    ({"filters": W[:, :, :2]}, ShapeError, ["4 output channels", "3 groups"]),
    ({"strides": 0}, ShapeError, ["strides", "0"]),
    ({"strides": -1}, ShapeError, ["strides", "-1"]),
    ({"strides": (1, 2, 3)}, ShapeError, ["strides", "(1, 2, 3)"]),
    ({"strides": (2, 1, 1, 1)}, ShapeError, ["strides", "batch and channels"]),
    ({"dilations": 0}, ShapeError, ["dilations", "0"]),
    ({"dilations": "2"}, DTypeError, ["dilations", "2"]),
    ({"padding": "FULL"}, ShapeError, ["padding", "FULL", "SAME"]),
    ({"padding": None}, DTypeError, ["padding", "None"]),
    ({"padding": ((0, -1), (0, 0))}, ShapeError, ["padding", "-1"]),
    ({"data_format": "HWCN"}, ShapeError, ["data_format", "HWCN", "NHWC"]),
    ({"data_format": []}, DTypeError, ["data_format", "[]"]),
    ({"bias": integers(5)}, ShapeError, ["bias", "(5,)", "(4,)"]),
    ({"bias": integers(1, 4)}, ShapeError, ["bias", "(1, 4)", "(4,)"]),
    ({"bias": np.float32(1)}, ShapeError, ["bias", "()", "(4,)"]),
    ({"bias": integers(4).astype(np.float64)}, DTypeError, ["bias", "float64", "float32"]),
    ({"bias": [1, 2, 3, 4]}, DTypeError, ["bias", "int", "float32"]),
    ({"bias": "ones"}, DTypeError, ["bias", "ones"]),
    ({"activation": "gelu"}, ShapeError, ["activation", "gelu", "relu6"]),
    ({"activation": []}, ShapeError, ["activation", "[]", "relu6"]),
    ({"algorithm": "quantum"}, UnsupportedError, ["algorithm", "quantum", "direct"]),
    ({"algorithm": None}, DTypeError, ["algorithm", "None"]),
    ({"algorithm": "winograd", "strides": 3}, UnsupportedError, ["winograd", "strides"]),
    ({"threads": 0}, ShapeError, ["threads", "0", "1"]),
    ({"threads": -2}, ShapeError, ["threads", "-2", "1"]),
    ({"threads": 10**6}, ShapeError, ["threads", "1000000", "1024"]),
    ({"threads": 1.5}, DTypeError, ["threads", "1.5"]),
    ({"threads": "two"}, DTypeError, ["threads", "two"]),
    ({"tune": "guess"}, ShapeError, ["tune", "guess", "estimate"]),
    ({"accuracy": -1}, ShapeError, ["accuracy", "-1"]),
    ({"accuracy": "sloppy"}, ShapeError, ["accuracy", "sloppy", "strict"]),
    ({"accuracy": float("nan")}, ShapeError, ["accuracy", "nan"]),
    ({"max_workspace": -1}, ShapeError, ["max_workspace", "-1"]),
    ({"max_workspace": "much"}, ShapeError, ["max_workspace", "much"]),
    ({"device": "tpu"}, ShapeError, ["device", "tpu", "cpu", "gpu"]),
]


@pytest.mark.parametrize(
    ("arguments", "kind", "words"), BAD_ARGUMENTS, ids=[f"{i}-{next(iter(row[0]))}" for i, row in enumerate(BAD_ARGUMENTS)]
)
def test_refused(arguments, kind, words):
    out = np.full((2, 7, 7, 4), UNTOUCHED, np.float32)
    arguments = {"input": X, "filters": W, "out": out, **arguments}
    for _ in range(2):  # what was refused once must be refused again
        with pytest.raises(kind) as caught:
            convopt.conv2d(**arguments)
        missing = [word for word in words if word not in str(caught.value)]
        assert not missing, f"{str(caught.value)!r} does not mention {missing}"
        assert (out == UNTOUCHED).all(), "an error must leave out alone"
    plannable = arguments["input"] is X and "device" not in arguments and getattr(arguments["filters"], "dtype", None) != np.float64
    if plannable:  # the same arguments, but for those a plan does not have
        options = {name: value for name, value in arguments.items() if name not in ("input", "out")}
        with pytest.raises(kind):
            convopt.plan(X.shape, **options)


@pytest.mark.parametrize("name", ["strides", "dilations"])
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (1, 1.0),
        (1, True),
        (1, np.float32(1)),
        (1, np.bool_(True)),
        ((1, 1), (1.0, 1.0)),
        ((1, 1), (True, True)),
        (2, 2.0),
        ((2, 1), (2.0, 1)),
    ],
    ids=repr,
)
def test_equal_keys_do_not_let_bad_values_in(name, good, bad):
    """1.0 == True == 1, so a careless table of past calls would accept what the first call refuses."""
    convopt.conv2d(X, W, algorithm="direct", **{name: good})
    with pytest.raises((ShapeError, DTypeError), match=name):
        convopt.conv2d(X, W, algorithm="direct", **{name: bad})
    convopt.conv2d(X, W, algorithm="direct", **{name: good})


@pytest.mark.parametrize(("good", "bad"), [(((1, 1), (1, 1)), ((1.0, 1), (1, 1))), (((1, 0), (0, 1)), ((True, 0), (0, 1)))])
def test_equal_paddings_do_not_let_bad_values_in(good, bad):
    convopt.conv2d(X, W, padding=good, algorithm="direct")
    with pytest.raises((ShapeError, DTypeError), match="padding"):
        convopt.conv2d(X, W, padding=bad, algorithm="direct")


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
        convopt.plan((1, 2**20, 2**20, 2**12), np.zeros((1, 1, 2**12, 2**10), np.float32), data_format="NCHW", algorithm="direct")
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
