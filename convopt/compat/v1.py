"""The signature of TensorFlow 1, tf.compat.v1.nn.conv2d, as books and older programs call it."""

from collections.abc import Sequence
from typing import Any

from convopt.api import conv2d as _conv2d
from convopt.errors import DTypeError, ShapeError


def conv2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: int | Sequence[int] | None = (1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Any:
    """``convopt.conv2d`` under its older name for the filters, with the arguments in the older order.

    filter, filters: R x S x C/groups x K, one of the two. use_cudnn_on_gpu and name: accepted, without effect.

    Raises:
        DTypeError: filters, strides or padding is missing.
        ShapeError: both filter and filters are given; else as ``convopt.conv2d``.
    """
    if filter is not None and filters is not None:
        raise ShapeError("filter and filters are both given; they are two names of one argument, give one")
    given = {"filter": filters if filter is None else filter, "strides": strides, "padding": padding}
    for argument, value in given.items():
        if value is None:
            raise DTypeError(f"{argument} is None; conv2d needs a value")
    return _conv2d(input, given["filter"], strides, padding, data_format or "NHWC", dilations, name)
