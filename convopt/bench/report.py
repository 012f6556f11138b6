"""Pages made of results: one self-contained HTML file, Markdown, and the section of a README."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convopt.bench.engines import ENGINES
from convopt.bench.pictures import Picture, all_pictures
from convopt.bench.results import Results, geomean
from convopt.bench.theme import COLOURS
from convopt.errors import ShapeError, UnsupportedError
from convopt.tuning.records import TIE

#: Between these lines of a README everything is replaced.
BEGIN, END = "<!-- measured: begin, by `convopt report --readme` -->", "<!-- measured: end -->"


@dataclass(frozen=True)
class Headline:
    """The figures of one number of threads. ratios are best peer over convopt."""

    threads: int
    layers: int
    geomean: float
    faster: int
    best: float
    best_layer: str
    worst: float
    worst_layer: str


@dataclass(frozen=True)
class Line:
    """One layer in a table. seconds: by engine, None where it was not timed; peer: title of the best one."""

    layer: str
    sizes: str
    choice: str
    error: float | None
    gflops: float
    noise: float
    ratio: float | None
    peer: str
    seconds: dict[str, float | None]
    fastest: str


def write(results: Results, folder: Path) -> list[Path]:
    """Write report.html, report.md and the figures as PNG into a folder; returns their paths, the page first."""
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


def headlines(results: Results) -> list[Headline]:
    """The figures that come first, for each number of threads."""
    found = []
    for threads in results.threads:
        ratios = results.ratios(threads)
        if ratios:
            best, worst = max(ratios, key=lambda layer: ratios[layer]), min(ratios, key=lambda layer: ratios[layer])
            faster = sum(ratio >= 1 for ratio in ratios.values())
            mean = geomean(list(ratios.values()))
            found.append(Headline(threads, len(ratios), mean, faster, ratios[best], best, ratios[worst], worst))
    return found


def lines(results: Results, threads: int) -> list[Line]:
    """The table of one number of threads."""
    found = []
    rows = {name: results.of(name, threads) for name in results.engines}
    ratios = results.ratios(threads)
    for layer, own in results.of("convopt", threads).items():
        seconds = {name: rows[name][layer].seconds if layer in rows[name] else None for name in results.engines}
        timed = {name: value for name, value in seconds.items() if value is not None}
        peer = results.best_peer(layer, threads)
        found.append(
            Line(
                layer=layer,
                sizes=f"{'x'.join(map(str, own.shape.input_shape))} by {'x'.join(map(str, own.shape.filters_shape))}",
                choice=str(own.facts.get("choice", "")),
                error=own.facts.get("error"),
                gflops=own.gflops,
                noise=own.noise,
                ratio=ratios.get(layer),
                peer="" if peer is None else ENGINES[peer.engine].title,
                seconds=seconds,
                fastest=min(timed, key=lambda name: timed[name]),
            )
        )
    return found


def totals(results: Results, threads: int) -> list[dict[str, Any]]:
    """Seconds of all layers, each as often as its network has it, of the engines that serve every layer; the fastest first."""
    layers = results.of("convopt", threads)
    sums = []
    for name in results.engines:
        rows = results.of(name, threads)
        if layers.keys() <= rows.keys():
            sums.append({"engine": ENGINES[name].title, "seconds": sum(rows[layer].seconds * rows[layer].count for layer in layers)})
    return sorted(sums, key=lambda each: float(each["seconds"]))


def tuner(results: Results) -> list[dict[str, Any]]:
    """By number of threads, what guessing instead of measuring costs, and what measuring costs.

    A layer's regret is the time of the cost model's favourite over that of the fastest candidate, both as the tuner timed them.
    """
    found = []
    for threads in results.threads:
        regrets, seconds = {}, 0.0
        for layer, row in results.of("convopt", threads).items():
            timed = [each for each in row.facts.get("contenders", []) if each["seconds"]]
            if timed:
                guess = min(timed, key=lambda each: each["estimate"])
                regrets[layer] = guess["seconds"] / min(each["seconds"] for each in timed)
                seconds += row.facts["tuning_seconds"]
        if regrets:
            worst = max(regrets, key=lambda layer: regrets[layer])
            right = sum(regret <= TIE for regret in regrets.values())
            values = {"threads": threads, "layers": len(regrets), "right": right, "geomean": geomean(list(regrets.values()))}
            found.append(values | {"worst": regrets[worst], "worst_layer": worst, "seconds": seconds})
    return found


def memory(results: Results, threads: int) -> list[dict[str, Any]]:
    """Bytes by layer: convopt's scratch memory and packed filters, the filters themselves, and the whole matrix of im2col."""
    return [
        {
            "layer": layer,
            "workspace": row.facts["workspace_bytes"],
            "packed": row.facts["packed_bytes"],
            "filters": row.shape.depth * row.shape.k * row.shape.itemsize,
            "im2col": row.shape.n * row.shape.oh * row.shape.ow * row.shape.depth * row.shape.groups * row.shape.itemsize,
        }
        for layer, row in results.of("convopt", threads).items()
        if "workspace_bytes" in row.facts
    ]


def networks(results: Results, threads: int) -> list[dict[str, Any]]:
    """By network (what stands before the first underscore of a layer's name): the geometric mean of the ratios."""
    groups: dict[str, list[float]] = {}
    for layer, ratio in results.ratios(threads).items():
        groups.setdefault(layer.partition("_")[0], []).append(ratio)
    return [{"name": name, "layers": len(values), "ratio": geomean(values)} for name, values in groups.items()]


def _render(template: str, results: Results, **values: Any) -> str:
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
        "mib": lambda value: f"{value / 2**20:.3g}",
        "percent": lambda value: f"{100 * value:.1f} %",
        "error": lambda value: f"{value:.0e}",
    }
    page = environment.get_template(template).render(
        results=results,
        about=results.about,
        machine=results.machine,
        engines=ENGINES,
        headlines=headlines(results),
        lines=lambda threads: lines(results, threads),
        totals=lambda threads: totals(results, threads),
        tuner=tuner(results),
        memory=lambda threads: memory(results, threads),
        networks=lambda threads: networks(results, threads),
        unserved=_unserved(results),
        **values,
    )
    return re.sub(r"[ \t]+\n", "\n", page)


def _milliseconds(seconds: float) -> str:
    """Three digits that matter: 0.0123, 1.23, 123."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


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
