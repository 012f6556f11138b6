"""``convopt cache``: what is remembered of this machine: look at it, carry it elsewhere, throw it away."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from convopt.cli.terminal import JsonOption, byte_count, console, duration, new_table, print_json, verb
from convopt.errors import CacheMiss, ConvoptError, ShapeError, UnsupportedError
from convopt.tuning import cache as stored
from convopt.tuning import exchange, machine
from convopt.tuning.exchange import Entry
from convopt.tuning.records import Record

cache = typer.Typer(
    name="cache", help="What is remembered of this machine: look at it, carry it elsewhere, throw it away.", no_args_is_help=True
)

FilesArgument = Annotated[list[Path], typer.Argument(help="Files that `convopt cache export` wrote.")]


def path(as_json: JsonOption = False) -> None:
    """Print the user's directory; with --json, all that are read, and this machine's name in them."""
    if as_json:
        shared = [str(each) for each in stored.shared_paths()]
        print_json({"path": str(stored.path()), "shared": shared, "machine": machine.fingerprint()})
    else:
        typer.echo(stored.path())


def ls(
    match: Annotated[str, typer.Argument(help="Only entries whose keys contain this.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List what is remembered: each problem, and what would be chosen for it."""
    found = [entry for entry in exchange.entries() if match in entry.key]
    if as_json:
        print_json({"path": str(stored.path()), "machine": machine.fingerprint(), "entries": [_summary(entry) for entry in found]})
        return
    table = new_table(f"{len(found)} entries of {machine.fingerprint()}")
    for name in ("problem", "fastest", "time", "error", "candidates", "age", "from"):
        left = name in ("problem", "fastest", "from")
        # Keys are there to be copied: rather folded than cut.
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "problem", overflow="fold")
    for entry in found:
        best = entry.best
        cells = ("-", "-", "-") if best is None else (best.label, _time(best.fastest), _error(best))
        layer = "" if entry.layer == stored.path() else str(entry.layer)
        table.add_row(entry.key, *cells, str(len(entry.records)), _age(entry.written), layer)
    console.print(table)


def show(
    key: Annotated[str, typer.Argument(help="A problem's key, or a part that no other entry's has.")],
    as_json: JsonOption = False,
) -> None:
    """Show everything that was measured of one problem."""
    entry = _entry(key)
    if as_json:
        print_json({**_summary(entry), "records": [record.to_json() for record in entry.records]})
        return
    best = entry.best
    table = new_table(entry.key)
    for name in ("candidate", "fastest", "quartile", "spread", "samples", "error", "workspace", "filters", ""):
        table.add_column(name, justify="left" if name in ("candidate", "") else "right", no_wrap=True)
    for each in sorted(entry.records, key=lambda record: (record.fastest is None, record.fastest or 0.0)):
        spread = "-" if each.spread is None else f"{100 * each.spread:.0f} %"
        sizes = byte_count(each.workspace_bytes), byte_count(each.packed_bytes)
        remark = escape(each.rejected) or ("[bold green]chosen[/]" if each is best else "" if each.fastest else "not timed: without hope")
        table.add_row(each.label, _time(each.fastest), _time(each.seconds), spread, str(each.samples), _error(each), *sizes, remark)
    console.print(table)


def export(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    as_json: JsonOption = False,
) -> None:
    """Write everything of this machine to one file, for `import` on another machine of the same kind."""
    count = _writing(file, lambda: exchange.export(file))
    _report(as_json, f"{count} entries written to {file}", file=str(file), entries=count)


def import_(files: FilesArgument, as_json: JsonOption = False) -> None:
    """Take over what exported files of the same kind of machine hold."""
    try:
        count = exchange.merge(*files)
    except OSError as error:
        raise ShapeError(f"FILE is {str(error.filename)!r}, which cannot be read: {error.strerror}") from None
    _report(as_json, f"{count} entries are new or changed in {stored.path()}", entries=count)


def merge(
    files: FilesArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    as_json: JsonOption = False,
) -> None:
    """Make one file out of several of one machine, without touching this machine's cache."""
    count = _writing(output, lambda: exchange.merge_files(files, output))
    _report(as_json, f"{count} entries written to {output}", file=str(output), entries=count)


def prune(
    days: Annotated[float | None, typer.Option(min=0.0, help="Also forget what was measured longer ago.")] = None,
    other_machines: Annotated[bool, typer.Option("--other-machines", help="Also forget other machines and instruction sets.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget what can no longer be chosen, such as earlier revisions of algorithms, and make one file of many."""
    entries, files = _writing(stored.path(), lambda: exchange.prune(days, other_machines))
    _report(as_json, f"{entries} entries forgotten, {files} files fewer", entries=entries, files=files)


def clear(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget everything in the user's directory, of every machine."""
    if not yes:
        if not sys.stdin.isatty():
            raise UnsupportedError(f"this forgets everything in {stored.path()}; say --yes where nobody can be asked")
        typer.confirm(f"Forget everything in {stored.path()}?", abort=True)
    files = stored.clear()
    _report(as_json, f"{files} files removed from {stored.path()}", files=files)


cache.command("ls")(verb(ls))
cache.command("show")(verb(show))
cache.command("path")(verb(path))
cache.command("export")(verb(export))
cache.command("import")(verb(import_))
cache.command("merge")(verb(merge))
cache.command("prune")(verb(prune))
cache.command("clear")(verb(clear))


def _entry(text: str) -> Entry:
    found = exchange.entries()
    exact = [entry for entry in found if entry.key == text]
    matching = exact or [entry for entry in found if text in entry.key]
    if not matching:
        raise CacheMiss(f"KEY is {text!r}, which is in no entry's; `convopt cache ls` lists them")
    if len(matching) > 1:
        raise ShapeError(f"KEY is {text!r}, which {len(matching)} entries' have, such as {matching[0].key} and {matching[1].key}")
    return matching[0]


def _summary(entry: Entry) -> dict[str, Any]:
    best = entry.best
    return {
        "key": entry.key,
        "shape": entry.request.shape.key(),
        "threads": entry.request.threads,
        "algorithm": entry.algorithm,
        "choice": None if best is None else best.label,
        "seconds": None if best is None else best.fastest,
        "error": None if best is None else best.error,
        "candidates": len(entry.records),
        "written": entry.written / 1e9,
        "layer": str(entry.layer),
    }


def _writing(file: Path, work: Any) -> Any:
    """What work() returns; where the disk will not, an error of the user."""
    try:
        return work()
    except OSError as error:
        raise WritingError(f"{error.filename or file} cannot be read or written: {error.strerror}") from None


class WritingError(ConvoptError):
    """A file that was named cannot be read or written."""


def _report(as_json: bool, text: str, **facts: Any) -> None:
    if as_json:
        print_json(facts)
    else:
        console.print(escape(text), soft_wrap=True)


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _error(record: Record) -> str:
    return "-" if record.error is None else f"{record.error:.0e}"


def _age(written: int) -> str:
    seconds = max(0.0, time.time() - written / 1e9)
    for unit, scale in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= scale:
            return f"{seconds / scale:.0f} {unit}"
    return f"{seconds:.0f} s"
