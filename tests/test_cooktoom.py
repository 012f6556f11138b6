"""Cook-Toom transforms in exact arithmetic: the matrices against the definition, the written C against the matrices."""

import random
import re
from fractions import Fraction

import pytest

from convopt.kernels import cooktoom

#: (t, m) of every transform of stride 1, those of both phases of a stride of 2 among them.
AXES = sorted({(tile, axis.outputs) for axis in cooktoom.AXES for tile in (axis.tile, axis.odd) if tile > axis.outputs} | {(1, 1)})
TILES = sorted({tile for tile, _ in AXES})


def product(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def vector(size, seed):
    return [Fraction(random.Random(seed + i).randint(-99, 99), 7) for i in range(size)]


@pytest.mark.parametrize(("tile", "outputs"), AXES)
def test_matrices_compute_the_convolution(tile, outputs):
    taps = tile - outputs + 1
    d, g = vector(tile, 1), vector(taps, 2)
    frequencies = [
        u * v for u, v in zip(product(cooktoom.filter_matrix(tile, taps), g), product(cooktoom.input_matrix(tile), d), strict=True)
    ]
    expected = [sum(d[i + s] * g[s] for s in range(taps)) for i in range(outputs)]
    assert product(cooktoom.output_matrix(tile, outputs), frequencies) == expected


@pytest.mark.parametrize("axis", [axis for axis in cooktoom.AXES if axis.stride == 2])
def test_two_phases_compute_the_convolution_of_stride_2(axis):
    """Even pixels and odd ones each by a transform of their own; of a single odd tap the pixels are frequencies themselves."""
    d, g = vector(axis.frequencies, 1), vector(axis.taps, 2)
    values = product(cooktoom.axis_filter_matrix(axis), g)
    assert len(values) == axis.filters
    expected = [sum(d[2 * i + s] * g[s] for s in range(axis.taps)) for i in range(axis.outputs)]
    outputs = [Fraction(0)] * axis.outputs
    for pixels, own, tile in ((d[::2], values[: axis.tile], axis.tile), (d[1::2], values[axis.tile :], axis.odd)):
        assert len(pixels) == tile
        if len(own) == 1:
            part = [own[0] * x for x in pixels]
        else:
            frequencies = [u * v for u, v in zip(own, product(cooktoom.input_matrix(tile), pixels), strict=True)]
            part = product(cooktoom.output_matrix(tile, axis.outputs), frequencies)
        outputs = [y + z for y, z in zip(outputs, part, strict=True)]
    assert outputs == expected


def run_c(lines, stride, **arrays):
    """What the straight-line C leaves in its arrays; elements lie `stride` apart."""
    names = {"REAL": Fraction, **{name[0] + "s": stride for name in arrays}, **arrays}
    for line in list(lines)[1:-1]:
        for statement in re.sub(r"const vec ", "", line).strip().rstrip(";").split(", "):
            exec(re.sub(r"\(REAL\)([0-9.e-]+)", r"REAL(\1)", statement), names)
    return arrays


@pytest.mark.parametrize("tile", TILES)
def test_written_input_transform(tile):
    d = vector(tile, 3)
    v = run_c(cooktoom.input_transform(tile), 3, d=[x for x in d for _ in range(3)], v=[None] * 3 * tile)["v"]
    assert v[::3] == product(cooktoom.input_matrix(tile), d)


@pytest.mark.parametrize(("tile", "outputs"), AXES)
def test_written_output_transform(tile, outputs):
    q = vector(tile, 4)
    y = run_c(cooktoom.output_transform(tile, outputs), 2, q=[x for x in q for _ in range(2)], y=[None] * 2 * outputs)["y"]
    assert y[::2] == product(cooktoom.output_matrix(tile, outputs), q)


def test_input_transform_may_work_in_place():
    d = vector(6, 5)
    run = run_c(cooktoom.input_transform(6), 1, d=d, v=d)
    assert run["v"] == product(cooktoom.input_matrix(6), vector(6, 5))


@pytest.mark.parametrize("tile", [4, 5, 6, 7, 8])
def test_no_coefficient_is_rounded_in_float32(tile):
    """So the only errors are those of the additions and multiplications themselves."""
    for matrix in (cooktoom.input_matrix(tile), cooktoom.output_matrix(tile, tile - 2)):
        for coefficient in (entry for row in matrix for entry in row):
            numerator, denominator = abs(coefficient.numerator), coefficient.denominator
            assert numerator < 2**24
            assert denominator & (denominator - 1) == 0


def test_header_holds_every_axis():
    text = cooktoom.header()
    for axis in cooktoom.AXES:
        assert f"ROW({axis.stride}, {axis.taps}, {axis.outputs}, {axis.tile}, {axis.odd}, {axis.filters})" in text
    for tile, outputs in AXES[1:]:
        assert f"void winograd_output_{tile}_{outputs}(" in text
        assert f"void winograd_input_{tile}(" in text
