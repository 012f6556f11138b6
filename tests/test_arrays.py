"""Arrays as users have them, for conv2d and plan: in any memory, of any kind, and ``out``."""

import numpy as np
import pytest
from calls import UNTOUCHED, W, X, expected, integers, read_only
from guarded import guarded

import convopt
from convopt import DTypeError, ShapeError
from convopt.algorithms import ALGORITHMS

# Unusual memory.


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
def test_lists_beside_an_array_take_its_dtype(dtype):
    x, w, exact = X.astype(dtype), W.astype(dtype), expected(X, W, bias=[1, 2, 3, 4])
    for a, b in ((x, lists(w)), (lists(x), w), (x, W.astype(int).tolist()), (tuple(lists(x)), w)):
        y = convopt.conv2d(a, b, bias=[1, 2, 3, 4.0], algorithm="direct")
        assert y.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(y, exact)
    planned = convopt.plan(x.shape, lists(w), bias=[1, 2, 3, 4.0], dtype=x.dtype, algorithm="direct")
    np.testing.assert_array_equal(planned(lists(x)), exact)
    planned.update_filters((2 * w).tolist())
    np.testing.assert_array_equal(planned(lists(x)), expected(X, 2 * W, bias=[1, 2, 3, 4]))


def test_objects_with_an_array_inside():
    class Holder:
        def __array__(self, dtype=None, copy=None):
            return X

    np.testing.assert_array_equal(convopt.conv2d(Holder(), W, algorithm="direct"), expected(X, W))


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
