"""What tests of conv2d and plan as users call them share: exact data, and one call made by both roads."""

import numpy as np

import convopt
from convopt.algorithms import reference
from convopt.shape import ConvShape

RNG = np.random.default_rng(0)
#: what an output holds that must stay as it is
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


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array
