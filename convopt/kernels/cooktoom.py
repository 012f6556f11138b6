"""Cook-Toom (Winograd) transforms of one dimension, exact, and the straight-line C that applies them.

m outputs of an r-tap filter over a tile of t = m + r - 1 inputs:

    y = A^T [ (G g) * (B^T d) ],    y_i = sum over s of d[i + s] g[s]

B^T is the transpose of interpolation at t - 1 points and infinity, so it depends on the tile t alone; G and A^T evaluate
polynomials of r and m coefficients at the same points. In two dimensions each transform is
applied along the columns of the tile, then along its rows. S. Winograd, "Arithmetic Complexity of Computations", 1980;
A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.

Points come in pairs +-p: the rows of a pair are a sum and a difference of the same two parts, which halves the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

Matrix = list[list[Fraction]]

#: Interpolation points of a tile, infinity aside: 0 and pairs +-p, the last one single where the tile is odd; found by measured error
#: of convolutions. Those up to 8 make every coefficient of B^T and A^T a short binary fraction, so that no coefficient is rounded; 5/8
#: and 3/2 more than halve the error of 1 and 2.
POINTS: dict[int, tuple[Fraction, ...]] = {
    1: (),
    4: (Fraction(1),),
    5: (Fraction(3, 4), Fraction(3, 2)),
    6: (Fraction(5, 8), Fraction(3, 2)),
    7: (Fraction(1, 2), Fraction(1), Fraction(5, 2)),
    8: (Fraction(1), Fraction(2), Fraction(1, 2)),
    10: (Fraction(3, 8), Fraction(3, 4), Fraction(5, 4), Fraction(5, 2)),
    12: (Fraction(3, 8), Fraction(5, 8), Fraction(1), Fraction(3, 2), Fraction(3)),
}


class Axis(NamedTuple):
    """How an axis of the image is served: its stride, the filter's taps along it, and m, the outputs of a tile.

    Stride 2 is two convolutions of stride 1 whose results are added: even pixels with the even taps, odd ones with the odd taps.
    """

    stride: int
    taps: int
    outputs: int

    @property
    def tile(self) -> int:
        """t, pixels of the transform: of the even ones where the stride is 2."""
        return self.outputs + -(-self.taps // self.stride) - 1

    @property
    def odd(self) -> int:
        """Pixels of the second transform, of the odd ones; 0 where the stride is 1."""
        return 0 if self.stride == 1 else self.outputs + self.taps // 2 - 1

    @property
    def frequencies(self) -> int:
        """Products of a tile, as many as it has pixels."""
        return self.tile + self.odd

    @property
    def filters(self) -> int:
        """Values of a transformed filter. A single odd tap is not transformed: all its products are with one value, the last."""
        return self.tile + (1 if self.odd == self.outputs else self.odd)


#: The axes that kernels are built for, any two of which make a 2-D form.
AXES: tuple[Axis, ...] = tuple(
    Axis(stride, taps, outputs)
    for stride, taps, counts in (
        (1, 2, (3, 5)),
        (1, 3, (2, 3, 4, 5, 6)),
        (1, 4, (3, 4, 5)),
        (1, 5, (2, 3, 4)),
        (1, 6, (3,)),
        (1, 7, (2, 4, 6)),
        (2, 3, (3, 4)),
        (2, 4, (3, 4)),
        (2, 5, (3, 4)),
        (2, 6, (3, 4)),
        (2, 7, (3, 4)),
    )
    for outputs in counts
)
#: Tiles beyond this lose too much accuracy in two dimensions.
LARGEST_SQUARE = 8


def interpolation_points(tile: int) -> list[Fraction]:
    """The tile - 1 finite points in the order of the transforms' rows; infinity is the last row."""
    points = [Fraction(0)] if tile > 1 else []
    for point in POINTS[tile]:
        points += [point, -point]
    return points[: max(tile - 1, 0)]


def _times(a: Sequence[Fraction], b: Sequence[Fraction]) -> list[Fraction]:
    """Product of two polynomials, lowest coefficient first."""
    product = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += x * y
    return product


def input_matrix(tile: int) -> Matrix:
    """B^T, tile x tile: row j holds the product of (x - p) over all points p but the j-th; the last row, over all points."""
    points = interpolation_points(tile)
    rows = []
    for skipped in range(tile):
        row = [Fraction(1)]
        for j, point in enumerate(points):
            if j != skipped:
                row = _times(row, [-point, Fraction(1)])
        rows.append(row + [Fraction(0)] * (tile - len(row)))
    return rows


def filter_matrix(tile: int, taps: int) -> Matrix:
    """G, tile x taps: powers of each point over the product of its distances to the others."""
    points = interpolation_points(tile)
    rows = []
    for j, point in enumerate(points):
        distance = Fraction(1)
        for k, other in enumerate(points):
            if k != j:
                distance *= point - other
        rows.append([point**s / distance for s in range(taps)])
    return [*rows, [Fraction(int(s == taps - 1)) for s in range(taps)]]


def axis_filter_matrix(axis: Axis) -> Matrix:
    """The filter's values along an axis from its taps: G; for stride 2, G of the even taps, then G of the odd ones."""
    rows: Matrix = []
    for phase, tile in enumerate([axis.tile] if axis.stride == 1 else [axis.tile, axis.odd]):
        own = range(phase, axis.taps, axis.stride)
        part = filter_matrix(tile, len(own)) if len(own) > 1 else [[Fraction(1)]]
        for values in part:
            row = [Fraction(0)] * axis.taps
            for tap, value in zip(own, values, strict=True):
                row[tap] = value
            rows.append(row)
    return rows


def output_matrix(tile: int, outputs: int) -> Matrix:
    """A^T, outputs x tile: powers of each point; infinity counts in the last output alone."""
    points = interpolation_points(tile)
    return [[*(point**i for point in points), Fraction(int(i == outputs - 1))] for i in range(outputs)]


def _literal(value: Fraction) -> str:
    return f"(REAL){float(value)!r}"


def _sum(terms: Sequence[tuple[Fraction, str]]) -> str:
    """C text of a linear combination; terms of coefficient 1, then -1, lead, so that the others become fused multiply-adds."""
    text = ""
    for factor, name in sorted((term for term in terms if term[0]), key=lambda term: (abs(term[0]) != 1, term[0] < 0)):
        product = name if abs(factor) == 1 else f"{_literal(abs(factor))} * {name}"
        if text:
            text += f" {'-' if factor < 0 else '+'} {product}"
        else:
            text = f"{'-' if factor < 0 else ''}{product}"
    return text


def _is_pair(tile: int, row: int) -> bool:
    """Whether rows `row` and `row + 1` belong to points +p and -p."""
    return row % 2 == 1 and row + 1 < tile - 1


def input_transform(tile: int) -> Iterator[str]:
    """Lines of C for v = B^T d, elements ds and vs apart; v may be d."""
    matrix = input_matrix(tile)
    yield f"static ALWAYS_INLINE void winograd_input_{tile}(const vec *d, int ds, vec *v, int vs) {{"
    yield "    const vec " + ", ".join(f"d{i} = d[{i} * ds]" for i in range(tile)) + ";"
    row = 0
    while row < tile:
        if _is_pair(tile, row):
            # Of the other points' polynomial q, x q is the even and p q the odd part: the rows are x q + p q and x q - p q. The odd
            # part is scaled to a leading 1, which saves a multiplication in each row.
            plus, minus = matrix[row], matrix[row + 1]
            even = [((a + b) / 2, f"d{i}") for i, (a, b) in enumerate(zip(plus, minus, strict=True))]
            part = [(a - b) / 2 for a, b in zip(plus, minus, strict=True)]
            lead = next(factor for factor in reversed(part) if factor)
            odd = [(factor / lead, f"d{i}") for i, factor in enumerate(part)]
            yield f"    const vec even{row} = {_sum(even)}, odd{row} = {_sum(odd)};"
            for target, side in ((row, lead), (row + 1, -lead)):
                yield f"    v[{target} * vs] = {_sum([(Fraction(1), f'even{row}'), (side, f'odd{row}')])};"
            row += 2
        else:
            yield f"    v[{row} * vs] = {_sum([(factor, f'd{i}') for i, factor in enumerate(matrix[row])])};"
            row += 1
    yield "}"


def output_transform(tile: int, outputs: int) -> Iterator[str]:
    """Lines of C for y = A^T q, elements qs and ys apart."""
    matrix = output_matrix(tile, outputs)
    yield f"static ALWAYS_INLINE void winograd_output_{tile}_{outputs}(const vec *q, int qs, vec *y, int ys) {{"
    terms: list[list[tuple[Fraction, str]]] = [[] for _ in range(outputs)]
    column = 0
    while column < tile:
        if _is_pair(tile, column):
            plus, minus = f"q[{column} * qs]", f"q[{column + 1} * qs]"
            yield f"    const vec s{column} = {plus} + {minus}, t{column} = {plus} - {minus};"
            for i in range(outputs):
                terms[i].append((matrix[i][column], f"{'t' if i % 2 else 's'}{column}"))
            column += 2
        else:
            for i in range(outputs):
                terms[i].append((matrix[i][column], f"q[{column} * qs]"))
            column += 1
    for i in range(outputs):
        yield f"    y[{i} * ys] = {_sum(terms[i])};"
    yield "}"


def header() -> str:
    """The generated header: every 1-D transform in use, a switch over them, and the list of axes."""
    phases = [(axis.tile, axis.outputs) for axis in AXES]
    phases += [(axis.odd, axis.outputs) for axis in AXES if axis.odd > axis.outputs]
    tiles, outputs = sorted({tile for tile, _ in phases}), sorted(set(phases))
    lines = ["/* Written by cooktoom.py: do not edit. v = B^T d and y = A^T q of each tile size, over vectors of channels. */", ""]
    for tile in tiles:
        lines += [*input_transform(tile), ""]
    for tile, count in outputs:
        lines += [*output_transform(tile, count), ""]
    lines.append("static ALWAYS_INLINE void winograd_input_1d(const int t, const vec *d, int ds, vec *v, int vs) {")
    lines += [f"    if (t == {tile}) winograd_input_{tile}(d, ds, v, vs);" for tile in tiles]
    lines += ["}", ""]
    lines.append("static ALWAYS_INLINE void winograd_output_1d(const int t, const int m, const vec *q, int qs, vec *y, int ys) {")
    lines += [f"    if (t == {tile} && m == {count}) winograd_output_{tile}_{count}(q, qs, y, ys);" for tile, count in outputs]
    lines += ["}", ""]
    square = max(axis.frequencies for axis in AXES if axis.tile <= LARGEST_SQUARE)
    lines.append(f"#define WINOGRAD_MAX_LINE {max(axis.frequencies for axis in AXES)} /* pixels or frequencies of an axis */")
    lines.append(f"#define WINOGRAD_MAX_TILE {square**2} /* and of two */")
    counts = sorted({1} | {axis.taps for axis in AXES})
    lines.append(f"#define WINOGRAD_MAX_TAPS {counts[-1]}")
    lines.append("#define WINOGRAD_TAPS(ROW) " + " ".join(f"ROW({count})" for count in counts))
    lines.append("/* stride, taps, m, t, t of the odd pixels, values of a transformed filter */")
    rows = (f"ROW({', '.join(map(str, (*axis, axis.tile, axis.odd, axis.filters)))})" for axis in AXES)
    lines.append("#define WINOGRAD_AXES(ROW) " + " ".join(rows))
    return "\n".join([*lines, ""])
