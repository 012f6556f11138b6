"""The table of algorithms: one row per module that keeps the contract (see ``contract``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convopt.algorithms import depthwise, depthwise_planes, direct, dots, fft, grouped, im2col, im2col_planes, pointwise_planes, winograd
from convopt.algorithms.layout import LayoutChange, part_shape

if TYPE_CHECKING:
    from convopt.algorithms.contract import Algorithm, Convolver, Planes
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
        dots,
    )
}

#: Modules that serve NCHW shapes in an algorithm's name: the first one whose ``why_not(shape)`` is None.
PLANES: dict[str, tuple[Planes, ...]] = {depthwise.NAME: (depthwise_planes,), im2col.NAME: (pointwise_planes, im2col_planes)}


def native_shape(algorithm: Algorithm, shape: ConvShape) -> ConvShape:
    """The shape in a layout the algorithm reads and writes itself: its own one where it can."""
    return shape if shape.data_format in algorithm.LAYOUTS else shape.with_layout(algorithm.LAYOUTS[0])


def prepare(name: str, shape: ConvShape, params: dict[str, int]) -> Convolver:
    """The named algorithm made ready for `shape`, filters not yet packed, its layout changed around it where needed.

    The shape must be one the algorithm applies to. Raises MemoryError, naming the byte count.
    """
    algorithm = ALGORITHMS[name]
    for planes in PLANES.get(name, ()) if shape.data_format == "NCHW" else ():
        if planes.why_not(shape) is None:
            return planes.Implementation(shape, params)
    native = native_shape(algorithm, shape)
    if native == shape:
        return algorithm.Implementation(native, params)
    part = part_shape(native, algorithm.row_step(native, params))
    return LayoutChange(shape, params, algorithm.Implementation(part, params))
