"""The table of algorithms: one row per module that keeps the contract (see ``contract``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convopt.algorithms import depthwise, direct, fft, grouped, im2col, winograd
from convopt.algorithms.layout import LayoutChange

if TYPE_CHECKING:
    from convopt.algorithms.contract import Algorithm, Convolver
    from convopt.shape import ConvShape

ALGORITHMS: dict[str, Algorithm] = {
    module.NAME: module
    for module in (
        direct,
        im2col,
        winograd,
        fft,
        depthwise,
        grouped,
    )
}


def native_shape(algorithm: Algorithm, shape: ConvShape) -> ConvShape:
    """The shape in a layout the algorithm reads and writes itself: its own one where it can."""
    return shape if shape.data_format in algorithm.LAYOUTS else shape.with_layout(algorithm.LAYOUTS[0])


def prepare(name: str, shape: ConvShape, params: dict[str, int]) -> Convolver:
    """The named algorithm made ready for `shape`, filters not yet packed, its layout changed around it where needed.

    The shape must be one the algorithm applies to. Raises MemoryError, naming the byte count.
    """
    algorithm = ALGORITHMS[name]
    native = native_shape(algorithm, shape)
    convolver = algorithm.Implementation(native, params)
    return convolver if native == shape else LayoutChange(shape, params, convolver)
