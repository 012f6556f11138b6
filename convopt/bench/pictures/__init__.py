"""The figures of a report, each with a caption and a text for those who do not see it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from convopt.bench.pictures.axes import Words
from convopt.bench.pictures.engines import draw_engines, draw_layers, draw_networks
from convopt.bench.pictures.machine import draw_growth, draw_memory, draw_roofline, draw_scaling
from convopt.bench.pictures.tuner import draw_errors, draw_map
from convopt.bench.results import Results
from convopt.bench.tables import memory
from convopt.bench.theme import DARK, LIGHT, NAMED, Palette, style, themed
from convopt.bench.whole import networks_of


@dataclass(frozen=True)
class Picture:
    """One figure: a file's stem, a caption, what it says in words for those who do not see it, and its SVG element."""

    name: str
    title: str
    caption: str
    alternative: str
    svg: str


Draw = Callable[[Any, Palette], Words]


def all_pictures(results: Results, png_folder: Path | None = None) -> list[Picture]:
    """The figures that these results have data for; as PNG files in a folder as well, if one is given."""
    threads = results.threads
    most, least = max(threads), min(threads)
    drawings: list[tuple[str, Draw]] = []
    for count in threads:
        if results.ratios(count):
            drawings.append((f"layers-{count}", partial(draw_layers, results=results, threads=count)))
    if len(results.engines) > 1:
        drawings.append(("engines", partial(draw_engines, results=results)))
    if networks_of(results):
        drawings.append(("networks", partial(draw_networks, results=results)))
    if results.about.get("sweep", {}).get("cells"):
        drawings.append(("map", partial(draw_map, sweep=results.about["sweep"])))
    if str(least) in results.about.get("limits", {}):
        drawings.append(("roofline", partial(draw_roofline, results=results, threads=least)))
    if any(len(points) > 1 for points in results.about.get("growth", {}).get("curves", {}).values()):
        drawings.append(("growth", partial(draw_growth, growth=results.about["growth"])))
    if most > least:
        drawings.append(("scaling", partial(draw_scaling, results=results, least=least, most=most)))
    if any(row.facts.get("contenders") for row in results.rows):
        drawings.append(("errors", partial(draw_errors, results=results)))
    if any(each["im2col"] > each["input"] for each in memory(results, least)):
        drawings.append(("memory", partial(draw_memory, results=results, threads=least)))
    # The first one is what a README shows, on light pages and dark ones.
    return [_picture(name, draw, png_folder, also_dark=not index) for index, (name, draw) in enumerate(drawings)]


def _picture(name: str, draw: Draw, png_folder: Path | None, also_dark: bool) -> Picture:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    words = ("", "", "")
    svg = ""
    outputs: list[tuple[Palette, Path | None]] = [(NAMED, None)]
    if png_folder is not None:
        outputs += [(LIGHT, png_folder / f"{name}.png"), *([(DARK, png_folder / f"{name}-dark.png")] if also_dark else [])]
    for palette, file in outputs:
        with pyplot.rc_context(style(palette)):
            words = draw(pyplot, palette)
            if file is None:
                buffer = io.StringIO()
                pyplot.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
                svg = themed(buffer.getvalue(), name, words)
            else:
                pyplot.savefig(file, dpi=160, metadata={"Software": None})
            pyplot.close("all")
    return Picture(name, *words, svg)
