"""What every verb needs of the terminal: where text goes, how errors look, how numbers read."""

import functools
import importlib
import json
import os
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from convopt.errors import ConvoptError, UnsupportedError

P = ParamSpec("P")
R = TypeVar("R")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]

#: Columns where the output goes to a file or a pipe, and COLUMNS does not say.
_WIDTH = 120


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


def progress(description: str) -> Progress:
    """A progress bar on standard error with the time that is left."""
    return Progress(
        SpinnerColumn(),
        TextColumn(description),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[doing]}", style="dim"),
        TimeRemainingColumn(compact=True),
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
