"""Tiles for FFT convolution: how an image is cut, which transform lengths are worth trying, and what a cut costs.

A tile of n points gives the circular correlation of its n pixels with the kernel; of those n results, the
n - kernel + 1 that do not wrap around are kept (overlap-save). An image that one tile can hold needs fewer points: its
padding before and after is zeros, so both may share the same points, and the wrapped products meet zeros.
Where there are strides or dilations, all this is said of their phases (see ``fft_phases``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from convopt.algorithms.fft_phases import Phases
from convopt.kernels.fourier import LENGTHS
from convopt.kernels.registry import LINE_BYTES
from convopt.shape import ConvShape

#: Bytes of the spectra of one batch of tiles: they should stay in a last-level cache, and bound the workspace.
BATCH_BYTES = 16 << 20
#: The same where the filters' spectra are no larger than this, too: then both may stay in a second-level cache.
SMALL_BYTES = 1 << 20
#: Bytes of two columns of all tiles of a batch, input and output: they should stay in a second-level cache.
COLUMN_BYTES = 1 << 20
#: A batch smaller than this reads the filter spectra too often.
BATCH_PAIRS = 8
#: Most input channels whose products are no matrix product worth the name.
FAN_CHANNELS = 4
#: Bytes of one pair's spectra, input and a line of outputs: they should stay in a second-level cache.
FAN_BYTES = 1 << 20
#: Smallest tile, in points, that is offered: below, products dominate and rounding has few frequencies to average over.
POINTS_MIN = 16
#: What loading and storing a point in both passes of a transform takes, in operations.
LOAD_AND_STORE = 6.0
#: A plane of so many bytes, outside the second-level cache, takes twice as long as one within; then, where lanes are pixels.
TWICE_AS_SLOW_BYTES = 10 << 20
TWICE_AS_SLOW_PIXELS = 1 << 20
#: What finding the pixels of one row of one tile in the image takes, in operations.
WINDOW = 350.0
#: What moving a pixel takes where lanes are pixels, in operations, and how much more if pixels of a channel are not adjacent.
TURN, GATHER = 6.0, 16.0
#: Channels fill vectors less well than so: then it pays to take pixels of one channel instead, though they need turning.
MOST_LANES_TURNED = 0.6
#: Parameter sets worth measuring.
CANDIDATES = 5
#: How many times slower, as estimated, a cut for those short of memory may be: tiles that barely hold the kernel give hardly an output.
SLOWEST = 10.0


@dataclass(frozen=True)
class Axis:
    """How one axis is cut: `count` tiles of `n` points, each giving `step` outputs.

    Point j of tile t is the pixel t * step + first + j, for j < held, and 0 beyond; tap s of the kernel acts `s - shift`
    points further on.
    """

    n: int
    count: int
    step: int
    first: int
    shift: int
    held: int

    @classmethod
    def cut(cls, n: int, phases: Phases) -> Axis | None:
        """The cut of an axis, or of each of its phases, into tiles of n points; None where none is possible."""
        out, kernel, pad = phases.out, phases.kernel, phases.pad
        used = min(phases.size, max(out + kernel - 1 - pad, 0))
        if n >= max(out, used + pad, out + kernel - 1 - pad):
            return cls(n, 1, out, 0, pad, used)
        step = n - kernel + 1
        return cls(n, -(-out // step), step, -pad, 0, n) if step > 0 else None


@dataclass(frozen=True)
class Tiling:
    """The cut of both axes of a batch of images."""

    shape: ConvShape
    vertical: Axis
    horizontal: Axis
    phases: tuple[Phases, Phases]

    @property
    def tiles(self) -> int:
        """Tiles of all images and output phases; two of them, as real and imaginary part, make a pair."""
        return self.shape.n * self.phases[0].outputs * self.phases[1].outputs * self.vertical.count * self.horizontal.count

    @property
    def inputs(self) -> int:
        """Input phases, whose products are summed as those of channels are."""
        return self.phases[0].inputs * self.phases[1].inputs

    @property
    def points(self) -> int:
        """Points of a tile."""
        return self.vertical.n * self.horizontal.n

    @property
    def filter_points(self) -> int:
        """Frequencies kept of a real filter's spectrum: one of each two mirrored columns."""
        n = self.horizontal.n
        return self.vertical.n * (n // 2 + 1 if n % 2 == 0 else (n + 1) // 2)

    @property
    def is_pointwise(self) -> bool:
        """Whether each output channel needs one input channel only, so that spectra multiply point by point."""
        return self.shape.group_c == 1 and (self.shape.groups > 1 or self.shape.k == 1)

    def pairs_channels(self, vl: int) -> bool:
        """Whether real and imaginary part are two vectors of channels of one tile, there being no second tile."""
        return self.is_pointwise and self.tiles == 1 and not self.lanes_are_pixels(vl)

    def fans_out(self, vl: int) -> bool:
        """Whether spectra are multiplied pair of tiles by pair of tiles, a cache line of output channels at a time."""
        planes = self.inputs * self.shape.c + fan_vectors(vl * self.shape.itemsize)
        size = planes * 2 * vl * self.shape.itemsize * self.points
        return not self.is_pointwise and self.shape.groups == 1 and self.shape.c <= FAN_CHANNELS and size <= FAN_BYTES

    def lanes_are_pixels(self, vl: int) -> bool:
        """Whether a vector holds vl pixels of one channel rather than vl channels of one pixel: for few channels."""
        pairs, vectors = (self.tiles + 1) // 2, -(-self.shape.c // vl)
        lanes = vl * (-(-vectors // 2) if self.tiles == 1 else vectors * pairs)
        return self.is_pointwise and self.shape.c * pairs <= MOST_LANES_TURNED * lanes

    def vectors(self, vl: int) -> tuple[int, int]:
        """Vectors of input channels, of all phases, and of output channels of one group."""
        return self.inputs * -(-self.shape.group_c // vl), -(-self.shape.group_k // vl)

    def depth(self, vl: int) -> int:
        """Input channels of all phases that one product sums; where lanes are channels, each phase begins with a vector of its own."""
        if self.inputs == 1 or self.is_pointwise or self.fans_out(vl):
            return self.inputs * self.shape.group_c
        return self.vectors(vl)[0] * vl

    def batch(self, vl: int) -> int:
        """Pairs of tiles that go through the phases of the dense algorithm together."""
        pairs = (self.tiles + 1) // 2
        if pairs == 0:
            return 1
        plane = self.plane_bytes(vl)
        if self.filter_bytes <= SMALL_BYTES:
            largest = max(1, SMALL_BYTES // plane)
        else:
            columns = COLUMN_BYTES * self.horizontal.n * self.shape.groups // (2 * plane)
            few = BATCH_PAIRS if BATCH_PAIRS * plane <= 4 * BATCH_BYTES else 1
            largest = max(min(BATCH_BYTES // plane, columns), few)
        batches = -(-pairs // min(pairs, largest))
        return -(-pairs // batches)

    def plane_bytes(self, vl: int) -> int:
        """Spectra of one pair of tiles: all input and output channels."""
        return 2 * vl * self.shape.itemsize * sum(self.vectors(vl)) * self.shape.groups * self.points

    def workspace_bytes(self, vl: int) -> int:
        """About what one thread needs: the planes that exist at a time."""
        if self.lanes_are_pixels(vl):
            return 2 * self.shape.itemsize * self.inputs * _up(self.vertical.n, vl) * _up(self.horizontal.n, vl)
        if self.is_pointwise:
            planes = self.inputs
        elif self.fans_out(vl):
            planes = self.depth(vl) + fan_vectors(vl * self.shape.itemsize)
        else:
            return self.batch(vl) * self.plane_bytes(vl)
        return planes * 2 * vl * self.shape.itemsize * self.points

    @property
    def filter_bytes(self) -> int:
        """Spectra of the filters, without idle lanes."""
        return 2 * self.shape.itemsize * self.filter_points * self.shape.k * self.shape.group_c * self.inputs

    def product_flops(self, vl: int) -> float:
        """Operations of the products of spectra: three real multiply-adds for a complex one."""
        pairs = (self.tiles + 1) // 2
        if self.lanes_are_pixels(vl):
            return 8.0 * self.inputs * self.units(vl) * _up(self.vertical.n, vl) * self.horizontal.n
        if self.is_pointwise:
            return 8.0 * self.inputs * self.points * self.units(vl) * vl
        if self.fans_out(vl):
            return 8.0 * pairs * self.points * self.depth(vl) * self.vectors(vl)[1] * vl
        return 6.0 * pairs * self.points * self.shape.groups * self.depth(vl) * self.vectors(vl)[1] * vl

    def transform_flops(self, vl: int) -> float:
        """Operations of all transforms, idle lanes included: 5 log2(n) for each of n complex points, and LOAD_AND_STORE."""
        forth, back = self.planes(vl)
        row, column = _transform(self.horizontal.n), _transform(self.vertical.n)
        if self.lanes_are_pixels(vl):
            rows, wide, kept = (_up(n, vl) for n in (self.vertical.n, self.horizontal.n, self.horizontal.step))
            return forth * (rows * row + wide * column) + back * (rows * row + kept * column)
        columns = self.horizontal.n * column
        return vl * (forth * (self.vertical.n * row + columns) + back * (self.vertical.step * row + columns))

    def planes(self, vl: int) -> tuple[int, int]:
        """Complex planes that are transformed forth, and back."""
        pairs = (self.tiles + 1) // 2
        if self.is_pointwise:
            return self.inputs * self.units(vl), self.units(vl)
        if self.fans_out(vl):
            return self.depth(vl) * -(-pairs // vl), pairs * self.vectors(vl)[1]
        return pairs * self.shape.groups * self.vectors(vl)[0], pairs * self.shape.groups * self.vectors(vl)[1]

    def gemm_flops(self, vl: int) -> float:
        """Operations of matrix products."""
        return 0.0 if self.is_pointwise or self.fans_out(vl) else self.product_flops(vl)

    def vector_flops(self, vl: int) -> float:
        """All other work, weighted by how fast it runs, as measured: in operations that take three times a matrix product's."""
        transforms = self.transform_flops(vl)
        if self.fans_out(vl):
            return self.product_flops(vl) + 0.3 * transforms
        if not self.is_pointwise:
            return (2.0 if self.shape.group_c <= FAN_CHANNELS else 0.6) * transforms
        pixels = self.lanes_are_pixels(vl)
        twice = TWICE_AS_SLOW_PIXELS if pixels else TWICE_AS_SLOW_BYTES
        flops = 0.2 * self.product_flops(vl) + 0.35 * transforms * (1 + self.workspace_bytes(vl) / twice)
        if pixels:
            forth, back = self.planes(vl)
            pixel = TURN if self.shape.c == 1 else TURN + GATHER
            for planes, rows, row in (
                (forth, self.vertical.n, self.horizontal.n),
                (back, self.vertical.step, self.horizontal.step),
            ):
                flops += 2 * planes * rows * (WINDOW + pixel * row)
        return flops

    def units(self, vl: int) -> int:
        """Complex planes of a pointwise convolution, each transformed forth and back in one go."""
        if self.lanes_are_pixels(vl):
            return self.shape.k * ((self.tiles + 1) // 2)
        blocks = -(-self.shape.c // vl)
        pairs = -(-blocks // 2) if self.pairs_channels(vl) else blocks * ((self.tiles + 1) // 2)
        return pairs * self.shape.group_k

    def moved_bytes(self, vl: int) -> float:
        """Tensors once, filter spectra once per batch."""
        shape, item = self.shape, self.shape.itemsize
        tensors = item * shape.n * (shape.h * shape.w * shape.c + shape.oh * shape.ow * shape.k)
        if self.is_pointwise or self.fans_out(vl):
            return float(tensors + self.filter_bytes)
        pairs = (self.tiles + 1) // 2
        return float(tensors + self.filter_bytes * -(-pairs // self.batch(vl)))


def tiling(shape: ConvShape, nh: int, nw: int) -> Tiling | None:
    """The cut into tiles of nh x nw points, None where the kernel does not fit them."""
    phases = Phases.of(shape, 0), Phases.of(shape, 1)
    vertical, horizontal = Axis.cut(nh, phases[0]), Axis.cut(nw, phases[1])
    return Tiling(shape, vertical, horizontal, phases) if vertical and horizontal else None


def largest_kernel() -> int:
    """Taps along an axis beyond which no tile of the table is certain to hold the kernel."""
    return max(LENGTHS)


def holds_kernel(shape: ConvShape) -> bool:
    """Whether there is a tiling at all."""
    return tiling(shape, max(LENGTHS), max(LENGTHS)) is not None


@lru_cache(maxsize=256)
def tilings(shape: ConvShape, vl: int) -> tuple[Tiling, ...]:
    """The cuts worth measuring, the one that should be fastest first; the last one, for those short of memory, needs the least."""
    sizes = [_lengths(Phases.of(shape, axis)) for axis in (0, 1)]
    cuts = [tiling(shape, nh, nw) for nh in sizes[0] for nw in sizes[1] if nh * nw >= POINTS_MIN]
    ranked = sorted((cut for cut in cuts if cut), key=lambda cut: estimate(cut, vl))
    chosen: list[Tiling] = []
    for cut in ranked:
        # A tile on its side is hardly ever faster than the one that should be.
        sides = cut.vertical.n, cut.horizontal.n
        if all(sides != (other.horizontal.n, other.vertical.n) for other in chosen):
            chosen.append(cut)
        if len(chosen) == CANDIDATES:
            break
    bearable = [cut for cut in ranked if estimate(cut, vl) <= SLOWEST * estimate(ranked[0], vl)]
    smallest = min(bearable, key=lambda cut: cut.workspace_bytes(vl), default=None)
    if smallest is not None and 2 * smallest.workspace_bytes(vl) <= min(cut.workspace_bytes(vl) for cut in chosen):
        chosen.append(smallest)
    return tuple(chosen)


def _lengths(phases: Phases) -> list[int]:
    """Transform lengths for an axis: those that fit, unless a shorter one needs no more points, up to one that needs one tile only."""
    lengths = []
    fewest = math.inf
    for n in LENGTHS:
        cut = Axis.cut(n, phases)
        if cut is None or (n == 1 and phases.kernel > 1) or n * cut.count >= fewest:
            continue
        lengths.append(n)
        if n > 1:
            fewest = n * cut.count
        if cut.count == 1 and n >= POINTS_MIN:
            break
    return lengths


def _transform(n: int) -> float:
    """Operations of one transform."""
    return n * (5.0 * math.log2(n) + LOAD_AND_STORE)


def fan_vectors(vector_bytes: int) -> int:
    """Vectors of output channels that make a cache line of a pixel: lines are best written whole."""
    return max(LINE_BYTES // vector_bytes, 1)


def _up(n: int, vl: int) -> int:
    """n pixels in whole vectors."""
    return -(-n // vl) * vl


def estimate(cut: Tiling, vl: int) -> float:
    """Relative time of a cut: matrix products run three times as fast as what else is computed; filters come from a last-level cache."""
    itemsize = cut.shape.itemsize
    return (cut.gemm_flops(vl) / 3 + cut.vector_flops(vl)) * itemsize / 4 + 1.2 * cut.moved_bytes(vl)
