"""Tiles for Winograd convolution: which transforms serve a shape, how wide blocks and panels are, what they cost and how they round.

Strides may be *folded*: the pixels that a stride skips become channels, and what is left is a convolution of stride 1 of
fewer taps. Along an axis of stride s, tap r = s*a + p of output o acts on pixel s*(o + a) + p - pad, which is channel p of pixel
o + a of the folded image ("space to depth"). It is never made: tiles are read from the image as if it were (``winograd_folded``).
"""

from __future__ import annotations

from convopt.algorithms import panels
from convopt.algorithms.contract import Work
from convopt.kernels import cooktoom
from convopt.shape import ConvShape

#: The axes of the height and of the width.
Form = tuple[cooktoom.Axis, cooktoom.Axis]

#: Transformed input and sums of one block, bytes: half of the smallest L2 in use, the rest is for the filters.
BLOCK_BYTES = 1 << 19
#: Blocks of fewer register tiles read the filters too often, blocks of more tiles gain nothing.
LEAST_REGISTER_TILES = 2
MOST_TILES = 96
#: A block beyond this is not a core's share of L3 either: with 64 frequencies of 96 tiles of 256 and 320 channels, 7 and 8 MB, a layer
#: took 1.5 and 2.2 times as long as with blocks that stay in L2.
SHARED_BYTES = 1 << 22
#: Filters of so many bytes are read from beyond L2.
WIDE_FROM_BYTES = 1 << 22
#: Tiles multiplied in the time that the filters take to arrive.
READING_FILTERS = 8
#: Output pixels along an axis; beyond, the list of tile positions would outgrow its use.
LONGEST_AXIS = 1 << 20

#: Channels summed before the sum is added to the others, by t: the transforms amplify the rounding of long sums most of all.
CHANNELS_OF_RUN = {1: 128, 4: 128, 5: 128, 6: 128, 7: 48, 8: 24, 10: 24, 12: 24}

#: max|y - y64| / max|y64| in float32 is about ERROR times the growth by the transforms of either axis, by t, times the root of
#: the channels of a run: fitted to zero-mean data with C = 8 to 512.
GROWTH = {1: 1.0, 4: 1.4, 5: 2.7, 6: 3.0, 7: 5.0, 8: 7.0, 10: 18.0, 12: 48.0}
ERROR = 2e-8
FLOAT64_OVER_FLOAT32 = 2.0**-29
ONE_TAP = cooktoom.Axis(1, 1, 1)

#: Most channels whose strides are folded where a stride of 2 is served without, too: the other way has fewer products, but several
#: times the frequencies, which takes longer to transform than to multiply where channels are few. Seven layers of 3x3 to 7x7 on
#: Zen 3: at 8 channels folding took 0.7 to 0.8 of the other's time, at 16 0.8 to 1.0, at 32 0.9 to 1.1, at 64 1.0 to 1.1.
MOST_FOLDED = 24


def why_not(shape: ConvShape) -> str | None:
    """The reason Winograd cannot serve a shape, None where it can."""
    if max(shape.oh, shape.ow) > LONGEST_AXIS:
        return f"the output is {shape.oh} x {shape.ow} pixels; Winograd keeps a list of tiles for up to {LONGEST_AXIS} along an axis"
    if forms(shape):
        return None
    known = {stride: sorted({axis.taps for axis in cooktoom.AXES if axis.stride == stride}) for stride in (1, 2)}
    served = (f"{' '.join(map(str, taps))} taps with stride {stride}" for stride, taps in known.items())
    return (
        f"the kernel is {shape.r}x{shape.s} and strides are {shape.strides}; along an axis of several taps Winograd has "
        f"{', '.join(served)}, and without groups or dilations any stride that leaves {known[1][0]} to {known[1][-1]} taps to each phase"
    )


def candidates(shape: ConvShape) -> list[dict[str, int]]:
    """Tile sizes `t`, the one likely to be fastest first, each with blocks that stay in L2 and with wide ones.

    nv: width of a filter panel in vectors; tiles: the most tiles of one block. Transformed filters that do not stay in L2 are
    better read by few large blocks, and their transformed input, which does not either, by wide panels: then those come first.
    """
    vl, mr = panels.tiles(shape)
    widest = min(len(mr), -(-shape.group_k // vl))
    tall = min(2, widest)
    found = []
    for t in sorted(forms(shape), key=lambda t: _cost(shape, t)):
        tiles = max(1, tile_count(shape, t))
        near = {"t": t, "nv": tall, "tiles": min(tiles, tiles_in_l2(shape, t, tall))}
        wide = {"t": t, "nv": widest, "tiles": min(tiles, MOST_TILES)}
        filter_bytes = filter_values(forms(shape)[t]) * depth(shape) * shape.group_k * shape.itemsize
        both = [wide, near] if filter_bytes >= WIDE_FROM_BYTES else [near, wide]
        found += both if near != wide else [near]
    return found


def tiles_in_l2(shape: ConvShape, t: int, nv: int) -> int:
    """Tiles whose transformed input and sums fill BLOCK_BYTES; so many at least that the filters are not read too often."""
    (_, mr), form = panels.tiles(shape), forms(shape)[t]
    rows = frequencies(form) / filter_values(form)  # of products with each filter value, per tile
    return max(mr[nv - 1], int(LEAST_REGISTER_TILES * mr[nv - 1] / rows), min(BLOCK_BYTES // _tile_bytes(shape, t, nv), MOST_TILES))


def expected_error(shape: ConvShape, params: dict[str, int]) -> float:
    """Measured: it grows with the tiles of both axes and as the square root of the channels of a run, hardly with the taps."""
    growth = 1.0
    run = min(depth(shape), CHANNELS_OF_RUN[params["t"]])
    for axis in forms(shape)[params["t"]]:
        growth *= GROWTH[axis.tile]
    return ERROR * growth * float((16 + run) ** 0.5) * (1.0 if shape.dtype == "float32" else FLOAT64_OVER_FLOAT32)


def row_step(shape: ConvShape, params: dict[str, int]) -> int:
    """Rows of a row of tiles, of each of the interleaved images that dilation makes."""
    return forms(shape)[params["t"]][0].outputs * shape.dilations[0]


def work(shape: ConvShape, params: dict[str, int], threads: int) -> Work:
    """Products, transforms, and the filters once per block. Transforms take about four operations per element and pass, but run
    twice as fast as what else is not a product. What lies between the phases stays in the second-level cache, but for a part of what
    is too large for it, and all of what is too large for a share of the third."""
    form, tiles = forms(shape)[params["t"]], tile_count(shape, params["t"])
    vl, _ = panels.tiles(shape)
    vectors = -(-shape.group_k // vl)
    padded_k = vectors * vl * shape.groups
    points = frequencies(form)
    tensors = shape.n * (shape.h * shape.w * shape.c + shape.oh * shape.ow * shape.k)
    filters = depth(shape) * padded_k * filter_values(form)
    lanes = shape.groups * input_lanes(shape, vl)
    between = 2.0 * shape.itemsize * tiles * points * (lanes + padded_k)
    transforming = form[1].taps * form[0].filters * (form[0].taps + form[1].filters)
    outgrown = 0.0
    if params["tiles"] > tiles_in_l2(shape, params["t"], min(2, params["nv"])):
        outgrown = 0.25 if params["tiles"] * _tile_bytes(shape, params["t"], params["nv"]) <= SHARED_BYTES else 2.0
    return Work(
        gemm_flops=2.0 * tiles * points * depth(shape) * padded_k,
        gemm_efficiency=0.95 * _efficiency(shape, params["t"]) * panels.efficiency(shape, params["nv"]),
        vector_flops=4.0 * tiles * points * (lanes + padded_k),
        moved_bytes=shape.itemsize * (tensors + float(filters) * -(-tiles // params["tiles"])) + outgrown * between,
        parts=max(1, tiles // 4) * shape.groups * -(-vectors // params["nv"]),
        near_bytes=between,
        packing_flops=2.0 * depth(shape) * padded_k * transforming * 8 / shape.itemsize,
    )


def forms(shape: ConvShape) -> dict[int, Form]:
    """{t: (axis of the height, axis of the width)}: each the axis with the largest transform up to t, or of one tap."""
    kernel, strides = (shape.r, shape.s), shape.strides
    if is_folded(shape):
        kernel, strides = (-(-shape.r // strides[0]), -(-shape.s // strides[1])), (1, 1)
    choices = [[ONE_TAP] if taps == 1 else _axes(taps, stride) for taps, stride in zip(kernel, strides, strict=True)]
    largest = max(axis.tile for axis in cooktoom.AXES) if 1 in kernel else cooktoom.LARGEST_SQUARE
    found = {}
    for t in sorted({axis.tile for axes in choices for axis in axes if 1 < axis.tile <= largest}):
        high, wide = (max((axis for axis in axes if axis.tile <= t), key=lambda axis: axis.tile, default=None) for axes in choices)
        if high is not None and wide is not None:
            found[t] = high, wide
    return found


def is_folded(shape: ConvShape) -> bool:
    """Whether strides are folded."""
    strided = [(taps, stride) for taps, stride in zip((shape.r, shape.s), shape.strides, strict=True) if min(taps, stride) > 1]
    if not strided or shape.groups > 1 or shape.dilations != (1, 1):
        return False
    return shape.c <= MOST_FOLDED or not all(_axes(*axis) for axis in strided)


def phases(shape: ConvShape) -> tuple[int, int]:
    """Rows and columns of the image that are channels of one folded pixel; 1 where nothing is folded."""
    if not is_folded(shape):
        return 1, 1
    return min(shape.strides[0], shape.r), min(shape.strides[1], shape.s)


def depth(shape: ConvShape) -> int:
    """Channels that a product sums over, those of all phases."""
    high, wide = phases(shape)
    return high * wide * shape.group_c


def input_lanes(shape: ConvShape, vl: int) -> int:
    """Lanes in which a pixel of a group is transformed: a folded one's columns lie side by side, its rows do not."""
    high, wide = phases(shape)
    return high * -(-wide * shape.group_c // vl) * vl


def _axes(taps: int, stride: int) -> list[cooktoom.Axis]:
    return [axis for axis in cooktoom.AXES if (axis.taps, axis.stride) == (taps, stride)]


def frequencies(form: Form) -> int:
    """Products per tile."""
    return form[0].frequencies * form[1].frequencies


def filter_values(form: Form) -> int:
    """Values of a transformed filter."""
    return form[0].filters * form[1].filters


def tile_starts(size: int, step: int, dilation: int) -> list[int]:
    """First output pixels of the tiles along one axis: every `step`-th pixel of each of the interleaved images."""
    return [start for phase in range(min(dilation, size)) for start in range(phase, size, step * dilation)]


def tile_count(shape: ConvShape, t: int) -> int:
    """Tiles of all images."""
    high, wide = forms(shape)[t]
    rows = len(tile_starts(shape.oh, high.outputs, shape.dilations[0]))
    return shape.n * rows * len(tile_starts(shape.ow, wide.outputs, shape.dilations[1]))


def _tile_bytes(shape: ConvShape, t: int, nv: int) -> int:
    """Transformed input and sums of one tile."""
    vl, _ = panels.tiles(shape)
    return frequencies(forms(shape)[t]) * (depth(shape) + vl * (nv + 1)) * shape.itemsize


def _cost(shape: ConvShape, t: int) -> float:
    """Products per filter value, counted in tiles: reading the filters costs each block as much as some tiles do."""
    tiles = tile_count(shape, t)
    blocks = -(-tiles // tiles_in_l2(shape, t, 1))
    return frequencies(forms(shape)[t]) * (tiles + READING_FILTERS * blocks) / _efficiency(shape, t)


def _efficiency(shape: ConvShape, t: int) -> float:
    """Of the micro-kernel, which loads and stores its sums once per run of channels."""
    run = depth(shape) / -(-depth(shape) // CHANNELS_OF_RUN[t])
    return run / (run + 8)
