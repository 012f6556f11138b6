"""Is a result right, and how right? A sample of it against the float64 reference, in a small fraction of a second.

Small problems are compared whole; of large ones whole output rows of some images and channels, always with the first and
the last ones, where tiles are ragged and padding begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convopt.algorithms import reference
from convopt.kernels.registry import LINE_BYTES
from convopt.shape import ConvShape

from .candidates import Request

#: Operations of the reference that a sample may cost; what one call into it costs besides, per filter tap, and what comparing an
#: output costs each candidate: with few channels that is most of it.
SAMPLE_FLOPS = 6e7
CALL_FLOPS = 2e5
COMPARING_FLOPS = 60
#: Random numbers are drawn up to this many and then repeated: drawing takes longer than convolving. A prime, so that
#: the repetition falls in step with no dimension of a tensor.
DISTINCT = 65521
#: Bytes before and behind an output that nobody may touch, whole cache lines, and what they hold.
ZONE = 4096
ZONE_BYTE = 0xA5


class Piece(NamedTuple):
    """Some images, rows and channels of an NHWC output."""

    images: slice | list[int]
    rows: slice
    channels: slice | list[int]

    def of(self, out: NDArray[Any]) -> NDArray[Any]:
        """That piece: one axis after the other, since slices cost nothing and lists copy what they are given."""
        part: NDArray[Any] = out[:, self.rows][self.images][..., self.channels]
        return part


class Trial:
    """Random arguments of a request's problem, the sample of the right result, and a fenced output.

    x, filters, bias (or None), out: arrays as ConvPlan takes them. Zero-mean data: on positive data alone the rounding
    of Winograd's algorithms would not show.
    """

    def __init__(self, request: Request) -> None:
        shape = request.shape
        draw = np.random.default_rng(20240229)
        self.shape = shape
        self.activation = request.activation
        self.x = _normal(draw, shape.input_shape, shape.dtype)
        self.filters = _normal(draw, shape.filters_shape, shape.dtype)
        self.filters *= np.asarray(shape.depth**-0.5, shape.dtype)
        self.bias = _normal(draw, (shape.k,), shape.dtype) if request.bias else None
        nbytes = int(np.prod(shape.output_shape)) * shape.itemsize
        self._fenced = _aligned(ZONE + nbytes + ZONE)
        self._fenced.fill(ZONE_BYTE)
        self.out: NDArray[Any] = self._fenced[ZONE:-ZONE].view(shape.dtype).reshape(shape.output_shape)
        self._sample = list(self._right())
        self._scale = max((float(np.abs(right).max()) for _, right in self._sample if right.size), default=0.0)

    def poison(self) -> None:
        """Fill the output with NaN, so that what is never written shows."""
        self.out.fill(np.nan)

    def error(self) -> float:
        """max|out - y64| / max|y64| over the sample; NaN where the result has one."""
        out = self.out if self.shape.data_format == "NHWC" else self.out.transpose(0, 2, 3, 1)
        # np.max, unlike max, passes NaN on.
        worst = float(np.max([np.abs(piece.of(out) - right).max() for piece, right in self._sample]))
        if self._scale == 0:
            return 0.0 if worst == 0 else np.inf
        return worst / self._scale

    def overran(self) -> bool:
        """Whether a byte around the output has changed; it is put right again."""
        zones = (self._fenced[:ZONE], self._fenced[-ZONE:])
        touched = any(bool((zone != ZONE_BYTE).any()) for zone in zones)
        for zone in zones:
            zone.fill(ZONE_BYTE)
        return touched

    def _right(self) -> Iterator[tuple[Piece, NDArray[np.float64]]]:
        """(piece of the NHWC output, what belongs there) for each piece of the sample."""
        shape = self.shape
        x = self.x if shape.data_format == "NHWC" else self.x.transpose(0, 2, 3, 1)
        images, rows, groups, channels = _extent_of_sample(shape)
        image_list = _spread(shape.n, images)
        for group in _spread(shape.groups, groups):
            inputs = slice(group * shape.group_c, (group + 1) * shape.group_c)
            outputs = [group * shape.group_k + channel for channel in _spread(shape.group_k, channels)]
            for first, last in _blocks(shape.oh, rows):
                crop, source = _rows_of(shape, first, last)
                part = replace(crop, n=len(image_list), c=shape.group_c, k=len(outputs), groups=1, data_format="NHWC")
                y = reference.conv2d(
                    x[image_list, source, :, inputs],
                    self.filters[..., outputs],
                    part,
                    None if self.bias is None else self.bias[outputs],
                    self.activation,
                )
                yield Piece(_index(image_list), slice(first, last), _index(outputs)), y


def comparing_seconds(shape: ConvShape) -> float:
    """Seconds that comparing one result takes, roughly."""
    outputs = shape.n * shape.oh * shape.ow * shape.k
    return 1e-8 * min(outputs, SAMPLE_FLOPS / (2 * shape.depth + COMPARING_FLOPS))


def _aligned(nbytes: int) -> NDArray[np.uint8]:
    """Bytes that begin where the arrays that a plan returns do: one of NumPy's own begins within a cache line, and candidates
    that store whole lines would be timed at what they do with such a one."""
    block = np.empty(nbytes + LINE_BYTES, np.uint8)
    begin = -block.ctypes.data % LINE_BYTES
    return block[begin : begin + nbytes]


def _normal(draw: np.random.Generator, size: tuple[int, ...], dtype: str) -> NDArray[Any]:
    count = int(np.prod(size))
    numbers = draw.standard_normal(min(count, DISTINCT), dtype=dtype)  # type: ignore[call-overload]
    return np.resize(numbers, size)


def _extent_of_sample(shape: ConvShape) -> tuple[int, int, int, int]:
    """(images, output rows, groups, channels of a group) that may be computed in float64."""
    images, rows, groups, channels = shape.n, shape.oh, shape.groups, shape.group_k

    def cost() -> float:
        calls = groups * min(3, rows) * shape.r * shape.s
        return images * rows * shape.ow * groups * channels * (2.0 * shape.depth + COMPARING_FLOPS) + calls * CALL_FLOPS

    # The dimensions shrink in turn, each to where it still samples first, middle and last.
    for least_images, least_rows, least_groups, least_channels in ((2, 6, 3, 8), (1, 3, 1, 2)):
        while cost() > SAMPLE_FLOPS and images > least_images:
            images = max(least_images, images // 2)
        while cost() > SAMPLE_FLOPS and rows > least_rows:
            rows = max(least_rows, rows // 2)
        while cost() > SAMPLE_FLOPS and groups > least_groups:
            groups = max(least_groups, groups // 2)
        while cost() > SAMPLE_FLOPS and channels > least_channels:
            channels = max(least_channels, channels // 2)
    return images, rows, groups, channels


def _index(numbers: list[int]) -> slice | list[int]:
    """A slice where they follow each other: it copies nothing."""
    return slice(numbers[0], numbers[-1] + 1) if numbers[-1] - numbers[0] == len(numbers) - 1 else numbers


def _spread(total: int, count: int) -> list[int]:
    """`count` different indices below `total`, evenly spread, the first and the last among them."""
    if count >= total:
        return list(range(total))
    if count == 1:
        return [total - 1]
    return [round(i * (total - 1) / (count - 1)) for i in range(count)]


def _blocks(total: int, count: int) -> list[tuple[int, int]]:
    """Ranges of `count` indices below `total` together: one if that is all, else at the begin, the middle and the end."""
    if count >= total:
        return [(0, total)]
    each = max(1, count // 3)
    middle = (total - each) // 2
    return sorted({(0, each), (middle, middle + each), (total - each, total)})


def _rows_of(shape: ConvShape, first: int, last: int) -> tuple[ConvShape, slice]:
    """The problem whose output is rows first..last, and the input rows it needs."""
    begin = first * shape.strides[0] - shape.pads[0][0]
    end = (last - 1) * shape.strides[0] - shape.pads[0][0] + shape.extent[0]
    top, bottom = max(0, -begin), max(0, end - shape.h)
    source = slice(min(max(begin, 0), shape.h), max(min(end, shape.h), 0))
    rows = max(0, source.stop - source.start)
    # Where a window lies wholly in the padding, what is cut off has no pixels at all.
    pads = ((top, end - begin - rows - top), shape.pads[1]) if rows else ((end - begin, 0), shape.pads[1])
    assert rows == 0 or pads[0][1] == bottom
    return replace(shape, h=rows, pads=pads), source
