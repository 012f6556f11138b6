"""What a worker is asked to compute."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class NotServedError(Exception):
    """This engine has no such convolution; says why."""


@dataclass(frozen=True)
class Problem:
    """One convolution with its arrays: x (N, H, W, C) and w (R, S, C/groups, K), float32.

    strides, dilations: (height, width). pads: ((top, bottom), (left, right)). padding: the rule they follow, "SAME" or
    "VALID", None where they follow neither. thorough: engines that measure before they choose should do so with care.
    """

    x: NDArray[Any]
    w: NDArray[Any]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    padding: str | None
    groups: int
    thorough: bool = False

    @property
    def symmetric(self) -> bool:
        """Whether as much is padded before as after."""
        return all(before == after for before, after in self.pads)

    @property
    def is_depthwise(self) -> bool:
        """Each group has one input channel, and there are several."""
        return bool(self.groups == self.x.shape[3] > 1)

    @property
    def filters_each_channel(self) -> bool:
        """One image, one filter per channel, every pixel: what image libraries do."""
        n, _, _, c = self.x.shape
        r, s, _, k = self.w.shape
        plain = self.strides == (1, 1) and self.dilations == (1, 1)
        return bool(plain and n == 1 and self.groups == c == k and r % 2 == s % 2 == 1 and self.padding is not None)

    @property
    def x_nchw(self) -> NDArray[Any]:
        """The input as most frameworks hold it."""
        return np.ascontiguousarray(self.x.transpose(0, 3, 1, 2))

    @property
    def w_oihw(self) -> NDArray[Any]:
        """The filters as most frameworks hold them: K x C/groups x R x S."""
        return np.ascontiguousarray(self.w.transpose(3, 2, 0, 1))
