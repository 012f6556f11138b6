"""Bad arguments of conv2d and plan: the class of the error, what its message holds, and ``out`` left alone."""

import numpy as np
import pytest
from calls import UNTOUCHED, W, X, integers

import convopt
from convopt import DTypeError, ShapeError, UnsupportedError

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
    ({"bias": np.arange(4)}, DTypeError, ["bias", "int", "float32"]),
    ({"bias": [1j, 2, 3, 4]}, DTypeError, ["bias", "complex", "float32"]),
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


@pytest.mark.parametrize("like", [(1.0, 1.0), [1, 1.0], np.array([1.0, 1.0]), (True, "1"), np.array([4607182418800017408] * 2).view("f8")])
def test_what_looks_like_valid_strides_is_refused_even_after_them(like):
    for valid in ((1, 1), [1, 1], np.array([1, 1])):
        convopt.conv2d(X, W, valid, algorithm="direct")
    with pytest.raises((ShapeError, DTypeError), match="strides"):
        convopt.conv2d(X, W, like, algorithm="direct")
