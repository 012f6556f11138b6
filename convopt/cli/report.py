"""``convopt report``: a page of what ``convopt bench`` measured."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from convopt.bench import report as reports
from convopt.bench import results
from convopt.cli.terminal import JsonOption, console, need, print_json, stderr
from convopt.errors import ShapeError


def report(
    file: Annotated[Path | None, typer.Argument(metavar="RESULTS", help="What bench wrote. Default: the newest below results/.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write to. Default: beside RESULTS, under its name.")] = None,
    readme: Annotated[Path | None, typer.Option(help="Also replace the marked section of this README.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained HTML page, the same in Markdown, and the figures as PNG."""
    need("matplotlib", "bench")
    skipped: list[str] = []
    if file is None:
        found, skipped = results.latest()
        for why in skipped:
            stderr.print(f"[yellow]skipped[/] {escape(why)}", soft_wrap=True)
        if found is None:
            raise ShapeError(f"there are no results below {str(results.FOLDER)!r}; convopt bench makes some, or name a file")
    else:
        found = results.read(file)
    paths = reports.write(found, output or found.path.with_suffix(""))
    if readme is not None:
        reports.update_readme(readme, found, paths[0].parent)
        paths.append(readme)
    if as_json:
        print_json({"results": str(found.path), "skipped": skipped, "written": [str(path) for path in paths]})
    else:
        console.print(
            f"Written to [bold]{escape(str(paths[0]))}[/], with report.md and {sum(p.suffix == '.png' for p in paths)} PNG", soft_wrap=True
        )
