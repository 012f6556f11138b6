"""2-D convolution on CPUs from NumPy arrays: tf.nn.conv2d's semantics, the fastest algorithm per layer, found once and remembered."""

from convopt import cache, compat
from convopt.api import algorithms, conv2d, explain, output_shape, plan, threads
from convopt.errors import CacheMiss, ConvoptError, DTypeError, ShapeError, UnsupportedError, WorkspaceError
from convopt.pictures import filter2d
from convopt.plan import ConvPlan

__all__ = [
    "CacheMiss",
    "ConvPlan",
    "ConvoptError",
    "DTypeError",
    "ShapeError",
    "UnsupportedError",
    "WorkspaceError",
    "algorithms",
    "cache",
    "compat",
    "conv2d",
    "explain",
    "filter2d",
    "output_shape",
    "plan",
    "threads",
]

__version__ = "0.1.0"
