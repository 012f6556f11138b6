"""Winograd convolution: fewer multiplications, by transforming small overlapping tiles of the input.

Each t x t tile of input and each filter is transformed (see kernels/cooktoom.py); in the transformed domain the
convolution is one product per frequency, summed over channels: t*t small GEMMs on the micro-kernel that direct uses. The
output transform turns t x t sums into m x m pixels, m = t - r + 1. The two axes of an image are independent: each has its
own t and m, and one of a single tap is left alone, whatever its stride. Dilation d splits an image into d*d interleaved
ones, which only changes where tiles start and how far apart their pixels lie.

Strides go one of two ways. A stride of 2 makes the even and the odd pixels of an axis two convolutions of stride 1, each with
every other tap, whose results are summed by the output transform. Or, with few channels, and for larger strides, the pixels
that a stride skips become channels (``winograd_folded``).

``winograd_tiles`` says which transforms serve a shape and what they cost, ``winograd_blocks`` runs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convopt.algorithms.winograd_blocks import Blocks
from convopt.algorithms.winograd_folded import FoldedBlocks
from convopt.algorithms.winograd_tiles import candidates, expected_error, is_folded, row_step, why_not, work

if TYPE_CHECKING:
    from convopt.algorithms.contract import Convolver
    from convopt.shape import ConvShape

__all__ = [
    "LAYOUTS",
    "NAME",
    "REVISION",
    "SPREADS_NONFINITE",
    "Implementation",
    "candidates",
    "expected_error",
    "row_step",
    "why_not",
    "work",
]

NAME = "winograd"
REVISION = 8
LAYOUTS = ("NHWC",)
SPREADS_NONFINITE = True


def Implementation(shape: ConvShape, params: dict[str, int]) -> Convolver:
    """The Convolver of Winograd: with strides folded or not."""
    return (FoldedBlocks if is_folded(shape) else Blocks)(shape, params)
