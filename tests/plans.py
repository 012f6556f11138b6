"""What tests of plans share: shapes with work for every thread, and a plan by an algorithm's name."""

import numpy as np
from strategies import data

import convopt
from convopt.algorithms import ALGORITHMS, native_shape
from convopt.shape import ConvShape

# Enough work for every thread, one of them for every algorithm.
SHAPE = ConvShape(2, 24, 22, 24, 40, 3, 3, pads=((1, 1), (1, 1)))
DEPTHWISE = ConvShape(2, 48, 44, 96, 96, 3, 3, pads=((1, 1), (1, 1)), groups=96)
GROUPED = ConvShape(2, 48, 44, 96, 96, 3, 3, pads=((1, 1), (1, 1)), groups=48)
FEW_OUTPUTS = ConvShape(2, 48, 44, 96, 3, 3, 3, pads=((1, 1), (1, 1)))


def shape_for(algorithm):
    """Whichever of the shapes the algorithm serves."""
    shapes = (SHAPE, DEPTHWISE, GROUPED, FEW_OUTPUTS)
    return next(shape for shape in shapes if ALGORITHMS[algorithm].why_not(native_shape(ALGORITHMS[algorithm], shape)) is None)


def arrays(shape=SHAPE, kind="normal", seed=0):
    rng = np.random.default_rng(seed)
    return data(kind, shape.input_shape, rng, shape.dtype), data(kind, shape.filters_shape, rng, shape.dtype)


def plan_of(algorithm, w, shape=SHAPE, **options):
    return convopt.plan(
        shape.input_shape, w, padding=shape.pads, data_format=shape.data_format, algorithm=algorithm, tune="estimate", **options
    )


X, W = arrays()
