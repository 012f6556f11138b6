"""The TensorFlow 1 signature: same results as convopt.conv2d, same order and names of arguments as TensorFlow's."""

import inspect

import numpy as np
import pytest

import convopt
from convopt.compat import v1

# As `inspect.signature(tf.compat.v1.nn.conv2d)` has it in TensorFlow 2.21.
TENSORFLOW_PARAMETERS = [
    ("input", inspect.Parameter.empty),
    ("filter", None),
    ("strides", None),
    ("padding", None),
    ("use_cudnn_on_gpu", True),
    ("data_format", "NHWC"),
    ("dilations", [1, 1, 1, 1]),
    ("name", None),
    ("filters", None),
]


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 9, 8, 3)).astype("f4"), rng.standard_normal((3, 3, 3, 4)).astype("f4")


def test_signature_is_tensorflows():
    found = inspect.signature(v1.conv2d).parameters
    assert list(found) == [name for name, _ in TENSORFLOW_PARAMETERS]
    for name, default in TENSORFLOW_PARAMETERS:
        value = found[name].default
        assert (list(value) if isinstance(value, tuple) else value) == default


def test_reachable_from_the_package():
    assert convopt.compat.v1.conv2d is v1.conv2d


@pytest.mark.parametrize(
    "arguments",
    [
        {"strides": [1, 2, 2, 1], "padding": "SAME"},
        {"strides": [1, 1, 1, 1], "padding": "VALID", "use_cudnn_on_gpu": False, "name": "layer"},
        {"strides": 1, "padding": [[0, 0], [1, 0], [0, 2], [0, 0]], "dilations": [1, 2, 1, 1]},
    ],
)
def test_forwards_to_conv2d(arrays, arguments):
    x, w = arrays
    known = {name: value for name, value in arguments.items() if name not in ("use_cudnn_on_gpu", "name")}
    expected = convopt.conv2d(x, w, **known, tune="estimate")
    for result in (v1.conv2d(x, w, **arguments), v1.conv2d(x, filters=w, **arguments), v1.conv2d(input=x, filter=w, **arguments)):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_positional_as_in_books(arrays):
    x, w = arrays
    assert v1.conv2d(x, w, [1, 1, 1, 1], "SAME", True, "NHWC").shape == (2, 9, 8, 4)
    nchw = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    assert v1.conv2d(nchw, w, [1, 1, 2, 2], "SAME", True, "NCHW").shape == (2, 4, 5, 4)


def test_both_names_for_the_filters_are_refused(arrays):
    x, w = arrays
    with pytest.raises(convopt.ShapeError, match="filter and filters are both given"):
        v1.conv2d(x, w, 1, "SAME", filters=w)


@pytest.mark.parametrize(
    ("missing", "given"), [("filter", {"strides": 1, "padding": "SAME"}), ("strides", {}), ("padding", {"strides": 1})]
)
def test_missing_arguments_are_named(arrays, missing, given):
    x, w = arrays
    with pytest.raises(convopt.DTypeError, match=f"^{missing} is None"):
        v1.conv2d(x, None if missing == "filter" else w, **given)
