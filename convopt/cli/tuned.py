"""What ``convopt tune`` shows of the layers it has tuned: rows as they are done, or a table at the end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from convopt.cli.terminal import console, duration, new_table, stderr
from convopt.shape import ConvShape
from convopt.tuning.networks import Layer
from convopt.tuning.planner import Choice, Contender, Request

#: Columns, and how wide those are whose content is known only when all is done.
WIDTHS = {"layer": 0, "input": 0, "filters": 0, "threads": 7, "fastest": 27, "time": 7, "GFLOP/s": 7, "error": 5, "runner-up": 33}
#: What a narrow terminal does without, first of all the first.
SPARED = ("input", "filters", "error", "runner-up", "GFLOP/s")
RIGHT = ("threads", "time", "GFLOP/s", "error")


@dataclass(frozen=True)
class Row:
    """What was chosen for one layer at one number of threads. Times in seconds per call, in the best moment of its race.

    runner_up: the fastest candidate of any other algorithm, None where only one applies or nothing was timed.
    noisy: whether something else had the machine while it was measured.
    """

    layer: Layer
    threads: int
    choice: str
    source: str
    seconds: float | None
    error: float | None
    runner_up: str | None
    runner_up_seconds: float | None
    noisy: bool

    @property
    def gflops(self) -> float | None:
        """Operations of the direct algorithm per nanosecond."""
        return None if self.seconds is None else self.layer.shape.flops / self.seconds / 1e9


def row_of(layer: Layer, request: Request, choice: Choice) -> Row:
    chosen = choice.contenders[0]
    others = [each for each in choice.contenders if each.seconds is not None and each.algorithm != choice.algorithm]
    runner_up = min(others, key=_seconds, default=None)
    return Row(
        layer=layer,
        threads=request.threads,
        choice=chosen.label,
        source=choice.source,
        seconds=chosen.seconds,
        error=chosen.error,
        runner_up=runner_up.label if runner_up else None,
        runner_up_seconds=runner_up.seconds if runner_up else None,
        noisy=bool(choice.note) and choice.source in ("measured", "cache"),
    )


def _seconds(contender: Contender) -> float:
    return math.inf if contender.seconds is None else contender.seconds


def as_dict(row: Row) -> dict[str, Any]:
    """A row as plain values for --json; times in seconds."""
    return {
        "layer": row.layer.name,
        "count": row.layer.count,
        "shape": row.layer.shape.key(),
        "threads": row.threads,
        "choice": row.choice,
        "source": row.source,
        "seconds": row.seconds,
        "gflops": row.gflops,
        "error": row.error,
        "runner_up": row.runner_up,
        "runner_up_seconds": row.runner_up_seconds,
        "noisy": row.noisy,
    }


def show(rows: Sequence[Row], title: str) -> None:
    """The table of what was chosen, and the time of all layers together."""
    cells = [_cells(row) for row in rows]
    widths = {name: max(len(name), *(_width(each[name]) for each in cells)) for name in WIDTHS}
    if len({row.threads for row in rows}) == 1:
        del widths["threads"]
        title = f"{title}, {_threads(rows[0].threads)}"
    _fit(widths, console)
    table = _table(widths, title)
    for each in cells:
        table.add_row(*(each[name] for name in widths))
    console.print(table)
    show_sums(rows)


def show_sums(rows: Sequence[Row]) -> None:
    """The time of all layers together, by number of threads."""
    for count in sorted({row.threads for row in rows}):
        times = [row.seconds * row.layer.count for row in rows if row.threads == count and row.seconds is not None]
        if times:
            console.print(f"All layers, {_threads(count)}: [bold]{duration(sum(times))}[/]")
    if any(row.noisy for row in rows):
        console.print("~ something else had the machine; `convopt verify --update` measures again what is remembered")


class Listing:
    """The same table, row by row; widths: of its columns."""

    def __init__(self, widths: dict[str, int], title: str) -> None:
        self._widths, self._title = widths, title

    def begin(self, to: Console) -> None:
        """Title and head."""
        to.print(_table(self._widths, self._title))

    def add(self, to: Console, row: Row) -> None:
        """One row more."""
        table = _table(self._widths)
        table.show_header = False
        cells = _cells(row)
        table.add_row(*(cells[name] for name in self._widths))
        to.print(table)


def listing_of(wanted: Sequence[tuple[Layer, Request]], title: str) -> Listing | None:
    """A listing of what is to be tuned, with as many columns as the terminal has room for; None where nobody watches."""
    if not (console.is_terminal and stderr.is_terminal) or not wanted:
        return None
    widths = dict(WIDTHS)
    for layer, _ in wanted:
        cells = _cells_of_layer(layer)
        widths |= {name: max(widths[name], _width(cell), len(name)) for name, cell in cells.items()}
    counts = {request.threads for _, request in wanted}
    if len(counts) == 1:
        del widths["threads"]
        title = f"{title}, {_threads(*counts)}"
    _fit(widths, stderr)
    return Listing(widths, title)


def _fit(widths: dict[str, int], to: Console) -> None:
    """Leave columns out until the others fit."""
    for name in SPARED:
        if _whole(widths) > to.width:
            del widths[name]


def _whole(widths: dict[str, int]) -> int:
    """Characters of a line: after each column a blank of its own and one of the frame's, and one before them all."""
    return sum(widths.values()) + 2 * len(widths) + 1


def _width(cell: str) -> int:
    return len(Text.from_markup(cell))


def _table(widths: dict[str, int], title: str | None = None) -> Table:
    table = new_table(title)
    for name, width in widths.items():
        style = "bold green" if name == "fastest" else None
        table.add_column(name, style=style, no_wrap=True, justify="right" if name in RIGHT else "left", width=width)
    return table


def _cells(row: Row) -> dict[str, str]:
    return {
        **_cells_of_layer(row.layer),
        "threads": str(row.threads),
        "fastest": row.choice,
        "time": "-" if row.seconds is None else "~" * row.noisy + duration(row.seconds),
        "GFLOP/s": "-" if row.gflops is None else f"{row.gflops:.1f}",
        "error": "-" if row.error is None else f"{row.error:.0e}",
        "runner-up": _runner_up(row),
    }


def _cells_of_layer(layer: Layer) -> dict[str, str]:
    return {
        "layer": escape(layer.name) + (f" [dim]x{layer.count}[/]" if layer.count > 1 else ""),
        "input": "x".join(map(str, layer.shape.input_shape)),
        "filters": _filters(layer.shape),
    }


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _filters(shape: ConvShape) -> str:
    extras = [
        "stride " + _pair(shape.strides) if shape.strides != (1, 1) else "",
        "dilation " + _pair(shape.dilations) if shape.dilations != (1, 1) else "",
    ]
    return " ".join(["x".join(map(str, shape.filters_shape)), *filter(None, extras)])


def _pair(values: tuple[int, int]) -> str:
    return str(values[0]) if values[0] == values[1] else f"{values[0]},{values[1]}"


def _runner_up(row: Row) -> str:
    if row.runner_up is None or row.runner_up_seconds is None or row.seconds is None:
        return "[dim]-[/]"
    return f"{row.runner_up} [dim]{row.runner_up_seconds / row.seconds:.2f}x[/]"
