"""Filtering pictures: one kernel over an image or each of its channels, as in scipy.signal and OpenCV.

An image of C channels is a depthwise convolution of C equal filters, so everything ``conv2d`` knows serves here too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convopt.api import conv2d
from convopt.errors import DTypeError, ShapeError

MODES = ("full", "same", "valid")


def filter2d(
    image: ArrayLike,
    kernel: ArrayLike,
    mode: str = "same",
    convolve: bool = False,
    *,
    algorithm: str = "auto",
    tune: str | None = None,
    threads: int | None = None,
    accuracy: float | str | None = None,
    max_workspace: int | None = None,
    deterministic: bool | None = None,
) -> NDArray[Any]:
    """Correlate (or convolve) a picture with one kernel; beyond its edges a picture is zero.

    Args:
        image: H x W or H x W x C array of numbers. float64 and integers of 32 bits or more are computed as float64, all others
            (uint8 pictures, float16, bool) as float32.
        kernel: R x S array of numbers, converted to the type the image is computed in; each channel is filtered by it.
        mode: "same": the result is as large as the image, and the kernel's anchor is (R // 2, S // 2), as in
            ``scipy.signal.correlate`` and OpenCV. "valid": only where the kernel lies within the image, (H - R + 1) x (W - S + 1).
            "full": wherever they overlap, (H + R - 1) x (W + S - 1).
        convolve: turn the kernel by 180 degrees first: a true convolution (``scipy.signal.convolve2d``, ``fftconvolve``)
            instead of a correlation (``scipy.signal.correlate``, ``cv2.filter2D``).
        algorithm, tune, threads, accuracy, max_workspace, deterministic: as for ``conv2d``.

    Returns:
        A new array of the image's rank, float32 or float64.

    Raises:
        ShapeError: impossible rank, size or mode; DTypeError: not numbers; and what ``conv2d`` raises.
    """
    pixels = _numbers("image", image)
    taps = _numbers("kernel", kernel)
    if pixels.ndim not in (2, 3):
        raise ShapeError(f"image has rank {pixels.ndim} (shape {pixels.shape}); 2 (H x W) or 3 (H x W x C) is needed")
    if taps.ndim != 2:
        raise ShapeError(f"kernel has rank {taps.ndim} (shape {taps.shape}); 2 (R x S) is needed")
    if 0 in taps.shape:
        raise ShapeError(f"kernel has shape {taps.shape}; both sizes must be at least 1")
    if pixels.shape[2:] == (0,):
        raise ShapeError(f"image has shape {pixels.shape}; it must have at least 1 channel")
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    dtype = np.result_type(pixels.dtype, np.float32)
    taps = taps.astype(dtype, copy=False)
    if convolve:
        taps = taps[::-1, ::-1]
    result: NDArray[Any] = conv2d(
        pixels.astype(dtype, copy=False).reshape(1, *pixels.shape[:2], channels),
        np.ascontiguousarray(np.broadcast_to(taps[:, :, None, None], (*taps.shape, 1, channels))),
        padding=_padding(mode, pixels.shape, taps.shape),
        algorithm=algorithm,
        tune=tune,
        threads=threads,
        accuracy=accuracy,
        max_workspace=max_workspace,
        deterministic=deterministic,
    )
    return result.reshape(*result.shape[1:3], *pixels.shape[2:])


def _numbers(name: str, value: ArrayLike) -> NDArray[Any]:
    """`value` as an array of real numbers that float64 holds."""
    if value is None or isinstance(value, (str, bytes, dict)):
        raise DTypeError(f"{name} is {value!r}; expected an array of numbers")
    if isinstance(value, np.ma.MaskedArray):
        raise DTypeError(f"{name} is a masked array; fill it first: a filter has no notion of masked pixels")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name} is not an array: {error}") from None
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise DTypeError(f"{name} has dtype {array.dtype}; expected integers, bool, or floats of up to 64 bits")
    return array


def _padding(mode: str, image: tuple[int, ...], kernel: tuple[int, ...]) -> list[list[int]]:
    """Rows and columns of zeros (before, after) each axis."""
    if mode not in MODES:
        raise ShapeError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    if mode == "full":
        return [[taps - 1, taps - 1] for taps in kernel]
    if mode == "same":
        return [[taps // 2, taps - 1 - taps // 2] for taps in kernel]
    for axis, size, taps in zip("HW", image, kernel, strict=False):
        if taps > size:
            raise ShapeError(f"kernel has {taps} taps along {axis}; mode 'valid' needs at most the image's {size} pixels")
    return [[0, 0], [0, 0]]
