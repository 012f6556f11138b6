"""What every verb needs of the terminal: where text goes, how errors look, how numbers read."""

import contextlib
import functools
import importlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from convopt.errors import ConvoptError, UnsupportedError

P = ParamSpec("P")
R = TypeVar("R")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]

#: Columns where the output goes to a file or a pipe, and COLUMNS does not say: enough for every table, none takes more than it needs.
_WIDTH = 240
#: Seconds between lines of progress that no terminal shows.
_SAY_EVERY = 20.0


def _console(**options: Any) -> Console:
    made = Console(highlight=False, emoji=False, **options)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _WIDTH
    return made


#: Results. What is asked for with --json is printed plainly, so that nothing wraps or colours it.
console = _console()
#: Progress and complaints, so that results can be piped.
stderr = _console(stderr=True)


def verb(function: Callable[P, R]) -> Callable[P, R]:
    """A user's mistake as one line and exit status 2, an interruption as one line and 130; never a traceback."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ConvoptError as error:
            stderr.print(f"[bold red]convopt:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            stderr.print("[bold]convopt:[/] interrupted")
            raise typer.Exit(130) from None

    return wrapped


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(value, indent=2))


class Foreseen(ProgressColumn):
    """The time that is left of a task that is counted in seconds, as they were foreseen: known before the first step is done."""

    def render(self, task: Task) -> Text:
        left = max(0.0, (task.total or 0.0) - task.completed)
        slowness = (task.elapsed or 0.0) / task.completed if task.completed else 1.0
        minutes, seconds = divmod(math.ceil(left * slowness), 60)
        return Text(f"{minutes:02d}:{seconds:02d}", style="progress.remaining")


def progress(description: str, in_seconds: bool = False) -> Progress:
    """A progress bar on standard error with the time that is left. in_seconds: as what its tasks' steps are counted."""
    return Progress(
        SpinnerColumn(),
        TextColumn(description),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[doing]}", style="dim"),
        Foreseen() if in_seconds else TimeRemainingColumn(compact=True),
        console=stderr,
        transient=True,
    )


def new_table(title: str | None = None) -> Table:
    """A table in the style of all verbs."""
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, header_style="bold cyan", padding=(0, 1, 0, 0))


def need(module: str, extra: str) -> Any:
    """Import what only some verbs use. Raises UnsupportedError that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnsupportedError(f"this needs {module}, which cannot be imported here ({error}); pip install 'convopt[{extra}]'") from error


def duration(seconds: float) -> str:
    """A time that keeps three significant digits from microseconds to seconds."""
    for unit, scale in (("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def byte_count(count: int) -> str:
    """1536 -> '1.5 KiB'."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.4g} {unit}"


@contextlib.contextmanager
def long_progress(description: str, total: float) -> Iterator[Callable[[float, str], None]]:
    """A progress bar for minutes of work; where no terminal shows it, a line now and then with the time that is left.

    Gives a function to call with (steps done now, what is being done).
    """
    if stderr.is_terminal:
        with progress(description) as bar:
            task = bar.add_task("", total=total, doing="")
            yield lambda count, doing: bar.update(task, advance=count, doing=doing)
        return
    started = said = time.monotonic()
    done = 0.0

    def advance(count: float, doing: str) -> None:
        nonlocal said, done
        done += count
        now = time.monotonic()
        if now - said >= _SAY_EVERY and 0 < done < total:
            said, left = now, (now - started) * (total / done - 1)
            stderr.print(f"{description}: {100 * done / total:.0f} %, {left / 60:.1f} min left ({escape(doing)})", soft_wrap=True)

    yield advance
