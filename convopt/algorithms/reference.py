"""The oracle: 2-D convolution as its definition, in float64, slow and plain.

    y[n, i, j, k] = bias[k] + sum over r, s, c of  xp[n, i*stride_h + r*dilation_h, j*stride_w + s*dilation_w, g*C' + c] * w[r, s, c, k]

where xp is the input with its padding of zeros, C' = C/groups the channels of one group, and g = k // (K/groups)
the group that output channel k belongs to. (Strictly this is cross-correlation, as in every neural-network library.)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convopt.shape import ACTIVATIONS, ConvShape


def conv2d(
    x: ArrayLike, filters: ArrayLike, shape: ConvShape, bias: ArrayLike | None = None, activation: str | None = None
) -> NDArray[np.float64]:
    """The convolution `shape` describes, in float64.

    x: array of shape.input_shape. filters: R x S x C/groups x K. bias: K values. Returns an array of shape.output_shape.
    """
    x64 = np.asarray(x, np.float64)
    if shape.data_format == "NCHW":
        x64 = x64.transpose(0, 2, 3, 1)
    w64 = np.asarray(filters, np.float64)
    padded = np.pad(x64, ((0, 0), *shape.pads, (0, 0)))
    y = np.zeros((shape.n, shape.oh, shape.ow, shape.k))
    for group in range(shape.groups):
        inputs = slice(group * shape.group_c, (group + 1) * shape.group_c)
        outputs = slice(group * shape.group_k, (group + 1) * shape.group_k)
        for r in range(shape.r):
            for s in range(shape.s):
                rows = _window(r, shape.dilations[0], shape.strides[0], shape.oh)
                columns = _window(s, shape.dilations[1], shape.strides[1], shape.ow)
                y[..., outputs] += padded[:, rows, columns, inputs] @ w64[r, s, :, outputs]
    if bias is not None:
        y += np.asarray(bias, np.float64)
    low, high = ACTIVATIONS[activation]
    y = np.clip(y, low, high)
    return y if shape.data_format == "NHWC" else y.transpose(0, 3, 1, 2)


def _window(tap: int, dilation: int, stride: int, count: int) -> slice:
    """The padded pixels that one tap multiplies, one for each of `count` outputs."""
    first = tap * dilation
    return slice(first, first + (count - 1) * stride + 1, stride) if count else slice(0, 0)
