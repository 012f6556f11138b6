"""``convopt check``: every algorithm against tf.nn.conv2d on a grid of forward cases."""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np
import typer

import convopt
from convopt.algorithms import ALGORITHMS
from convopt.cli.terminal import JsonOption, console, new_table, print_json, progress
from convopt.errors import ConvoptError, ShapeError
from convopt.shape import ConvShape
from convopt.tensorflow import Reference

#: max|y - y64| / max|y64| allowed; y64 is what TensorFlow computes in float64 from the same numbers.
LIMITS = {"float32": 1e-5, "float64": 1e-13}
QUICK, FULL = 150, 1200

_SIZES = ((7, 7), (12, 9), (17, 16), (24, 31))
_KERNELS = ((1, 1), (2, 2), (3, 3), (5, 5), (3, 2), (1, 7), (7, 1), (11, 11))
_STRIDES = (1, 2, 3, (1, 2), (2, 1))
_DILATIONS = (1, 2, (2, 1), 3)
_PADDINGS = ("SAME", "VALID", ((1, 2), (0, 3)), ((4, 0), (2, 2)))
#: input channels, filters' input channels, output channels
_CHANNELS = ((1, 1, 1), (1, 1, 8), (3, 3, 5), (4, 4, 16), (16, 16, 33), (48, 48, 40), (8, 1, 8), (20, 1, 40), (8, 4, 6), (32, 8, 32))
_BATCHES = ((1,), (2,), (3,), (2, 2))


@dataclass(frozen=True)
class Case:
    """The arguments of one conv2d call."""

    input_shape: tuple[int, ...]
    filters_shape: tuple[int, ...]
    strides: Any
    padding: Any
    data_format: str
    dilations: Any
    dtype: str

    @property
    def kind(self) -> str:
        """What a reader would call it, by its rarest property."""
        shape = self.shape
        if shape.is_depthwise:
            return "depthwise"
        if shape.groups > 1:
            return "grouped"
        if shape.dilations != (1, 1):
            return "dilated"
        if shape.strides != (1, 1):
            return "strided"
        return "1x1" if (shape.r, shape.s) == (1, 1) else "ordinary"

    @property
    def shape(self) -> ConvShape:
        """The problem it poses."""
        return ConvShape.from_arguments(
            self.input_shape, self.filters_shape, self.strides, self.padding, self.data_format, self.dilations, self.dtype
        )

    def arrays(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Zero-mean input and filters, the same each time."""
        rng = np.random.default_rng(math.prod(self.input_shape) + math.prod(self.filters_shape))
        return rng.standard_normal(self.input_shape).astype(self.dtype), rng.standard_normal(self.filters_shape).astype(self.dtype)


@dataclass
class Tally:
    """What one algorithm did on one kind of case."""

    kind: str
    algorithm: str
    cases: int = 0
    worst_error: dict[str, float] = field(default_factory=dict)
    mismatches: int = 0


def grid(count: int) -> list[Case]:
    """`count` cases, always the same ones, drawn from all combinations that mean something: of each kind alike, while there are any."""
    cases = list(_combinations())
    random.Random(2).shuffle(cases)
    kinds: dict[str, list[Case]] = {}
    for case in cases:
        kinds.setdefault(case.kind, []).append(case)
    in_turn = (case for turn in itertools.zip_longest(*kinds.values()) for case in turn if case is not None)
    return list(itertools.islice(in_turn, count))


def _combinations() -> Iterator[Case]:
    product = itertools.product(_SIZES, _KERNELS, _STRIDES, _DILATIONS, _PADDINGS, _CHANNELS)
    for index, ((h, w), kernel, strides, dilations, padding, (c, group_c, k)) in enumerate(product):
        batch = _BATCHES[index % len(_BATCHES)]
        data_format = "NCHW" if index % 3 == 0 else "NHWC"
        input_shape = (*batch, c, h, w) if data_format == "NCHW" else (*batch, h, w, c)
        dtype = "float64" if index % 5 == 0 else "float32"
        case = Case(input_shape, (*kernel, group_c, k), strides, padding, data_format, dilations, dtype)
        try:
            if case.shape.is_empty:
                continue
        except ShapeError:  # the kernel is larger than the padded input
            continue
        yield case


def check(
    quick: Annotated[bool, typer.Option("--quick", help=f"{QUICK} cases instead of {FULL}.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare every algorithm with tf.nn.conv2d (a process of its own, oneDNN off); exit status 1 on a mismatch."""
    tallies: dict[tuple[str, str], Tally] = {}
    mismatches: list[dict[str, Any]] = []
    cases = grid(QUICK if quick else FULL)
    with Reference() as reference, progress("Comparing with tf.nn.conv2d") as bar:
        task = bar.add_task("", total=len(cases), doing="TensorFlow is loading")
        for case in cases:
            x, filters = case.arrays()
            expected = reference.conv2d(x.astype("f8"), filters.astype("f8"), case.strides, case.padding, case.data_format, case.dilations)
            names = convopt.algorithms(
                case.input_shape, case.filters_shape, case.strides, case.padding, case.data_format, case.dilations, case.dtype
            )
            for algorithm in ("auto", *names):
                tally = tallies.setdefault((case.kind, algorithm), Tally(case.kind, algorithm))
                error, complaint = compare(case, algorithm, expected)
                tally.cases += 1
                tally.worst_error[case.dtype] = max(error, tally.worst_error.get(case.dtype, 0.0))
                if complaint:
                    tally.mismatches += 1
                    mismatches.append({"algorithm": algorithm, **asdict(case), "complaint": complaint})
            bar.update(task, advance=1, doing=case.kind)
        version = reference.version
    if as_json:
        rows = [asdict(tally) for tally in tallies.values()]
        print_json({"tensorflow": version, "cases": len(cases), "limits": LIMITS, "results": rows, "mismatches": mismatches})
    else:
        _show(tallies, mismatches, len(cases), version)
    if mismatches:
        raise typer.Exit(1)


def compare(case: Case, algorithm: str, expected: np.ndarray[Any, Any]) -> tuple[float, str]:
    """(max|y - expected| / max|expected|, what is wrong or "") for one algorithm."""
    x, filters = case.arrays()
    try:
        y = convopt.conv2d(x, filters, case.strides, case.padding, case.data_format, case.dilations, algorithm=algorithm, tune="estimate")
    except ConvoptError as refusal:
        return math.inf, f"{type(refusal).__name__}: {refusal}"
    if y.shape != expected.shape or y.dtype != case.dtype:
        return math.inf, f"result is {y.dtype} of shape {y.shape}; tf.nn.conv2d gives shape {expected.shape}"
    error = float(np.max(np.abs(y - expected)) / np.max(np.abs(expected)))
    limit = LIMITS[case.dtype]
    return error, "" if error <= limit else f"error {error:.2g}; the limit is {limit:g}"


def _show(tallies: dict[tuple[str, str], Tally], mismatches: list[dict[str, Any]], count: int, version: str) -> None:
    algorithms = [name for name in ("auto", *ALGORITHMS) if any(key[1] == name for key in tallies)]
    table = new_table(f"{count} cases against tf.nn.conv2d (TensorFlow {version}, float64)")
    table.add_column("convolution")
    for algorithm in algorithms:
        table.add_column(algorithm, justify="right")
    for kind in ("ordinary", "1x1", "strided", "dilated", "grouped", "depthwise"):
        table.add_row(kind, *(_cell(tallies.get((kind, algorithm))) for algorithm in algorithms))
    console.print(table)
    console.print("[dim]cases, and the worst max|y - tf| / max|tf| in float32[/]")
    for mismatch in mismatches[:20]:
        console.print(f"[bold red]mismatch[/] {mismatch}", soft_wrap=True)
    if len(mismatches) > 20:
        console.print(f"... and {len(mismatches) - 20} more; --json lists all")
    console.print(f"[bold red]{len(mismatches)} mismatches[/]" if mismatches else "[bold green]All agree.[/]")


def _cell(tally: Tally | None) -> str:
    if tally is None:
        return "[dim]-[/]"
    text = f"{tally.cases}  {tally.worst_error.get('float32', 0.0):.0e}"
    return f"[bold red]{text}[/]" if tally.mismatches else text
