"""The oracle of all other tests, and conv2d itself, against tf.nn.conv2d: bit by bit, on small integers.

Sums of small integers are exact whatever their order, so TensorFlow, the float64 reference and direct must agree in every
bit; what may differ is what this file is about: which pixels meet which taps. A systematic grid of small cases, where
every border is a large part of the whole; ``convopt check`` is the other comparison, with random numbers and every algorithm.
"""

import itertools

import numpy as np
import pytest

import convopt
from convopt.algorithms import reference
from convopt.shape import ConvShape

SIZES = ((5, 4), (6, 9))
KERNELS = ((1, 1), (2, 3), (3, 3), (4, 1), (5, 2))
STRIDES = (1, 2, (3, 1), (1, 2))
DILATIONS = (1, 2, (1, 3))
PADDINGS = ("SAME", "VALID", ((2, 0), (0, 1)), ((0, 3), (4, 4)))
#: input channels, filters' input channels, output channels: plain, grouped, depthwise with and without a multiplier
CHANNELS = ((1, 1, 1), (3, 3, 5), (4, 2, 6), (4, 1, 4), (3, 1, 6))


def cases():
    """Arguments of conv2d: input shape (NHWC), filters' shape, strides, padding, dilations; only what has an output."""
    everything = itertools.product(SIZES, KERNELS, STRIDES, DILATIONS, PADDINGS, CHANNELS)
    for index, (size, kernel, strides, dilations, padding, (c, group_c, k)) in enumerate(everything):
        batch = ((1,), (2,), (2, 1))[index % 3]
        arguments = (*batch, *size, c), (*kernel, group_c, k), strides, padding, "NHWC", dilations
        try:
            shape = ConvShape.from_arguments(*arguments)
        except convopt.ShapeError:  # the kernel is larger than the padded input; TensorFlow computes garbage there
            continue
        if not shape.is_empty:
            yield arguments


CASES = list(cases())[::2]
PARTS = 4


def test_the_grid_is_large_and_holds_every_kind():
    assert len(CASES) >= 1000
    shapes = [ConvShape.from_arguments(*arguments) for arguments in CASES]
    assert {shape.groups > 1 for shape in shapes} == {False, True}
    assert {(shape.strides, shape.dilations) for shape in shapes} >= {((1, 1), (1, 1)), ((2, 2), (2, 2)), ((3, 1), (1, 3))}
    assert any(shape.is_depthwise and shape.strides != (1, 1) and shape.dilations != (1, 1) for shape in shapes)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_bit_agrees_with_tensorflow(tensorflow, part):
    wrong = []
    for index, arguments in list(enumerate(CASES))[part::PARTS]:
        input_shape, filters_shape, strides, padding, _, dilations = arguments
        rng = np.random.default_rng(index)
        dtype = (np.float32, np.float64)[index // PARTS % 2]
        x, w = rng.integers(-9, 10, input_shape).astype(dtype), rng.integers(-9, 10, filters_shape).astype(dtype)
        theirs = tensorflow.conv2d(x, w, strides, padding, "NHWC", dilations)
        shape = ConvShape.from_arguments(*arguments, np.dtype(dtype).name)
        results = {
            "reference": reference.conv2d(x.reshape(shape.input_shape), w, shape).reshape(theirs.shape).astype(dtype),
            "direct": convopt.conv2d(x, w, strides, padding, "NHWC", dilations, algorithm="direct"),
            "im2col": convopt.conv2d(x, w, strides, padding, "NHWC", dilations, algorithm="im2col"),
            "direct in NCHW": np.moveaxis(
                convopt.conv2d(np.moveaxis(x, -1, -3), w, strides, padding, "NCHW", dilations, algorithm="direct"), -3, -1
            ),
        }
        assert convopt.output_shape(*arguments) == theirs.shape
        wrong += [f"{name}: {arguments}" for name, y in results.items() if y.dtype != dtype or not np.array_equal(y, theirs)]
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong[:10])
