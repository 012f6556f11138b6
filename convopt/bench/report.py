"""Pages made of results: one self-contained HTML file, Markdown, and the section of a README."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from convopt.bench import tables
from convopt.bench.engines import ENGINES
from convopt.bench.pictures import Picture, all_pictures
from convopt.bench.results import Results
from convopt.bench.theme import COLOURS
from convopt.bench.whole import networks_of
from convopt.errors import ShapeError, UnsupportedError

#: Between these lines of a README everything is replaced.
BEGIN, END = "<!-- measured: begin, by `convopt report --readme` -->", "<!-- measured: end -->"


def write(results: Results, folder: Path) -> list[Path]:
    """Write report.html, report.md and the figures as PNG into a folder; returns their paths, the page first."""
    _environment()  # pictures take a while: what is missing is said before
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pictures = all_pictures(results, folder)
        paths = [folder / "report.html", folder / "report.md"]
        paths[0].write_text(html(results, pictures))
        paths[1].write_text(markdown(results, pictures))
    except OSError as error:
        raise ShapeError(f"{str(folder)!r} cannot be written to: {error.strerror}") from None
    return [*paths, *(folder / f"{picture.name}.png" for picture in pictures)]


def html(results: Results, pictures: list[Picture]) -> str:
    """The page, with everything it needs in it."""
    return _render("report.html.j2", results, pictures=pictures, colours=COLOURS)


def markdown(results: Results, pictures: list[Picture]) -> str:
    """The same in Markdown, with figures beside it."""
    return _render("report.md.j2", results, pictures=pictures)


def update_readme(readme: Path, results: Results, pictures: Path) -> None:
    """Replace the marked section of a README; pictures: the folder of the figures. Raises ShapeError without the marks."""
    try:
        text = readme.read_text()
    except OSError as error:
        raise ShapeError(f"{str(readme)!r} cannot be read: {error.strerror}") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ShapeError(f"{str(readme)!r} lacks the lines {BEGIN!r} and {END!r}: nothing says where figures belong")
    try:
        where = pictures.resolve().relative_to(readme.resolve().parent)
    except ValueError:
        raise ShapeError(f"pictures are in {str(pictures)!r}, which is not below the folder of {str(readme)!r}") from None
    section = _render("readme.md.j2", results, folder=where.as_posix())
    readme.write_text(f"{before}{begin}\n{section}\n{end}{after}")


def _environment() -> Any:
    """Where templates come from. Raises UnsupportedError without the library."""
    try:
        import jinja2
    except ImportError:
        raise UnsupportedError("a report needs jinja2, which is missing: pip install 'convopt[bench]'") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "milliseconds": _milliseconds,
        "microseconds": lambda value: f"{value * 1e6:.3g}",
        "calls": _calls,
        "mib": lambda value: f"{value / 2**20:.3g}",
        "percent": lambda value: f"{100 * value:.1f} %",
        "error": lambda value: f"{value:.0e}",
    }
    return environment


def _render(template: str, results: Results, **values: Any) -> str:
    source = _environment().get_template(template)
    page = source.render(
        results=results,
        about=results.about,
        machine=results.machine,
        engines=ENGINES,
        headlines=tables.headlines(results),
        wholes=networks_of(results),
        lines=lambda threads: tables.lines(results, threads),
        totals=lambda threads: tables.totals(results, threads),
        tuner=tables.tuner(results),
        tuner_figures=tables.tuner_figures(results),
        memory=lambda threads: tables.memory(results, threads),
        network_memory=tables.network_memory(results),
        networks=lambda threads: tables.networks(results, threads),
        payback=lambda threads: tables.payback(results, threads),
        overheads=tables.overheads(results),
        unserved=_unserved(results),
        **values,
    )
    return re.sub(r"[ \t]+\n", "\n", page)


def _milliseconds(seconds: float) -> str:
    """Three digits that matter: 0.0123, 1.23, 123."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _calls(count: float | None) -> str:
    """A number of calls that people read: 7, 1,200, never."""
    if count is None:
        return ""
    return "never" if math.isinf(count) else f"{round(count, 2 - len(str(count))) if count >= 1000 else count:,}"


def _unserved(results: Results) -> list[dict[str, Any]]:
    """Why engines have no time on layers, those with the same reason together."""
    groups: dict[tuple[str, str], set[str]] = {}
    for each in results.about.get("not_timed", []):
        reason = each.get("not_served") or each.get("failed") or each.get("missing") or "unknown"
        groups.setdefault((each["engine"], reason), set()).add(each["layer"])
    return [
        {"engine": ENGINES[name].title if name in ENGINES else name, "reason": reason, "layers": sorted(layers)}
        for (name, reason), layers in groups.items()
    ]
