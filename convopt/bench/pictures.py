"""The figures of a report, each with a caption and a text for those who do not see it."""

from __future__ import annotations

import io
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from convopt.bench.engines import ENGINES
from convopt.bench.results import Results, geomean
from convopt.bench.theme import LIGHT, MARKERS, NAMED, WIDTH, Palette, style, themed


@dataclass(frozen=True)
class Picture:
    """One figure: a file's stem, a caption, what it says in words for those who do not see it, and its SVG element."""

    name: str
    title: str
    caption: str
    alternative: str
    svg: str


Draw = Callable[[Any, Palette], tuple[str, str, str]]


def all_pictures(results: Results, png_folder: Path | None = None) -> list[Picture]:
    """The figures that these results have data for; as PNG files in a folder as well, if one is given."""
    threads = results.threads
    most, least = max(threads), min(threads)
    drawings: list[tuple[str, Draw]] = []
    for count in threads:
        if results.ratios(count):
            drawings.append((f"layers-{count}", partial(draw_layers, results=results, threads=count)))
    if len(results.engines) > 1:
        drawings.append(("engines", lambda plt, colours: draw_engines(plt, colours, results)))
    if results.about.get("sweep", {}).get("cells"):
        drawings.append(("map", lambda plt, colours: draw_map(plt, colours, results.about["sweep"])))
    if any(row.facts.get("contenders") for row in results.rows):
        drawings.append(("errors", lambda plt, colours: draw_errors(plt, colours, results)))
    if str(least) in results.about.get("limits", {}):
        drawings.append(("roofline", lambda plt, colours: draw_roofline(plt, colours, results, least)))
    if most > least:
        drawings.append(("scaling", lambda plt, colours: draw_scaling(plt, colours, results, least, most)))
    return [_picture(name, draw, png_folder) for name, draw in drawings]


def _picture(name: str, draw: Draw, png_folder: Path | None) -> Picture:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    words = ("", "", "")
    svg = ""
    for palette, form in ((NAMED, "svg"), (LIGHT, "png")):
        if form == "png" and png_folder is None:
            continue
        with pyplot.rc_context(style(palette)):
            words = draw(pyplot, palette)
            if form == "svg":
                buffer = io.StringIO()
                pyplot.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
                svg = themed(buffer.getvalue(), name, words)
            elif png_folder is not None:
                pyplot.savefig(png_folder / f"{name}.png", dpi=160, metadata={"Software": None})
            pyplot.close("all")
    return Picture(name, *words, svg)


def _threads(count: int) -> str:
    return f"{count} thread" + "s" * (count > 1)


#: A legend above the axes, where it hides nothing, narrow enough for a phone's picture.
ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 4, "borderaxespad": 0, "handletextpad": 0.1, "columnspacing": 1.2}


def _legend(axes: Any, palette: Palette, names: list[str], markers: bool = True) -> None:
    """A legend of algorithms."""
    from matplotlib.lines import Line2D

    handles = []
    for name in names:
        marker = MARKERS.get(name, "P") if markers else "s"
        handles.append(Line2D([], [], linestyle="", marker=marker, markersize=6, color=palette.algorithm(name), label=name))
    axes.legend(handles=handles, **ABOVE)


def _ratio_axis(axes: Any, values: list[float]) -> None:
    """A logarithmic axis of ratios whose ticks read as people say them."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_xscale("log")
    low, high = min([0.8, *values]) * 0.9, max([1.5, *values]) * 1.25
    steps = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if high / low < 300 else (0.01, 0.1, 1, 10, 100, 1000)
    ticks = [tick for tick in steps if low <= tick <= high]
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:g}x" for tick in ticks])


def draw_layers(plt: Any, palette: Palette, results: Results, threads: int) -> tuple[str, str, str]:
    """Bars: the best peer's time over convopt's, layer by layer."""
    ratios, own = results.ratios(threads), results.of("convopt", threads)
    layers = list(ratios)
    _, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.24 * len(layers)))
    for position, layer in enumerate(layers):
        ratio, algorithm = ratios[layer], own[layer].facts.get("algorithm")
        axes.barh(position, ratio - 1, left=1, height=0.68, color=palette.algorithm(algorithm))
        peer = results.best_peer(layer, threads)
        assert peer is not None
        at, side = (max(ratio, 1) * 1.04, "left")
        axes.text(at, position, f"{ratio:.2f}x  {ENGINES[peer.engine].title}", va="center", ha=side, fontsize=7.5, color=palette.of["ink"])
    axes.axvline(1, color=palette.of["ink"], linewidth=1)
    _ratio_axis(axes, [*ratios.values(), max(ratios.values()) * 3])
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("time of the best peer over convopt's; right of 1x convopt is faster")
    names = sorted({str(own[layer].facts.get("algorithm")) for layer in layers})
    _legend(axes, palette, names, markers=False)
    mean, worst = geomean(list(ratios.values())), min(ratios, key=lambda layer: ratios[layer])
    best = max(ratios, key=lambda layer: ratios[layer])
    faster = sum(ratio > 1 for ratio in ratios.values())
    return (
        f"Every layer against the best peer, {_threads(threads)}",
        "The best peer is the fastest of all other engines on that very layer; its name stands beside the bar.",
        f"Bar chart of {len(layers)} layers, {_threads(threads)}. convopt is faster than the best peer on {faster}; geometric mean "
        f"{mean:.2f}x, best {ratios[best]:.2f}x on {best}, worst {ratios[worst]:.2f}x on {worst}. The table below has every figure.",
    )


def draw_engines(plt: Any, palette: Palette, results: Results) -> tuple[str, str, str]:
    """Bars: geometric mean of each engine's time over convopt's."""
    engines = [name for name in results.engines if name != "convopt"]
    means: dict[tuple[str, int], tuple[float, int]] = {}
    for threads in results.threads:
        own = results.of("convopt", threads)
        for name in engines:
            ratios = [row.seconds / own[layer].seconds for layer, row in results.of(name, threads).items() if layer in own]
            if ratios:
                means[name, threads] = (geomean(ratios), len(ratios))
    engines = sorted((name for name in engines if any(key[0] == name for key in means)), key=lambda name: _first(means, name))
    height = 0.8 / len(results.threads)
    _, axes = plt.subplots(figsize=(WIDTH, 0.9 + 0.22 * len(engines) * len(results.threads)))
    tones = [palette.of["direct"], palette.of["other"], palette.of["fft"], palette.of["depthwise"]]
    for index, threads in enumerate(results.threads):
        for position, name in enumerate(engines):
            if (name, threads) not in means:
                continue
            mean, count = means[name, threads]
            at = position + (index - (len(results.threads) - 1) / 2) * height
            label = _threads(threads) if position == 0 else None
            axes.barh(at, mean - 1, left=1, height=height * 0.9, color=tones[index % len(tones)], label=label)
            axes.text(max(mean, 1) * 1.03, at, f"{mean:.2f}x  ({count})", va="center", fontsize=7.5, color=palette.of["ink"])
    axes.axvline(1, color=palette.of["ink"], linewidth=1)
    values = [mean for mean, _ in means.values()]
    _ratio_axis(axes, [*values, max(values) * 1.6])
    axes.set_yticks(range(len(engines)), [ENGINES[name].title for name in engines])
    axes.set_ylim(len(engines) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("geometric mean of the engine's time over convopt's (number of layers it serves)")
    if len(results.threads) > 1:
        axes.legend(**(ABOVE | {"handletextpad": 0.6}))
    said = "; ".join(f"{ENGINES[name].title} {_threads(threads)} {mean:.2f}x" for (name, threads), (mean, _) in means.items())
    return (
        "Engine by engine",
        "How many times longer each engine takes than convopt on the layers that it serves; in brackets how many those are. "
        "With fresh filters convopt gets, and packs, its filters in each call.",
        f"Bar chart of the geometric mean of each engine's time over convopt's: {said}.",
    )


def _first(means: dict[tuple[str, int], tuple[float, int]], name: str) -> float:
    return next(mean for (engine, _), (mean, _) in means.items() if engine == name)


def draw_map(plt: Any, palette: Palette, sweep: dict[str, Any]) -> tuple[str, str, str]:
    """Squares: which algorithm wins for a kernel, a number of channels and an image."""
    cells = sweep["cells"]
    sizes, kernels, channels = (sorted({cell[key] for cell in cells}) for key in ("size", "kernel", "channels"))
    _, all_axes = plt.subplots(len(sizes), 1, figsize=(WIDTH, 0.3 + 2.15 * len(sizes)), squeeze=False, sharex=True)
    for axes, size in zip(all_axes[:, 0], sizes, strict=True):
        for cell in cells:
            if cell["size"] != size:
                continue
            x, y = kernels.index(cell["kernel"]), channels.index(cell["channels"])
            axes.add_patch(plt.Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=palette.algorithm(cell["algorithm"]), linewidth=0))
            lead = "" if cell["second_seconds"] is None else f"\n{cell['second_seconds'] / cell['seconds']:.1f}x"
            axes.text(
                x, y, cell["algorithm"][:9] + lead, ha="center", va="center", fontsize=6.8, color=palette.of["page"], linespacing=1.15
            )
        axes.set_title(f"image {size} x {size}", loc="left")
        axes.set_yticks(range(len(channels)), [str(count) for count in channels])
        axes.set_xticks(range(len(kernels)), [f"{kernel}x{kernel}" for kernel in kernels])
        axes.set_xlim(-0.55, len(kernels) - 0.45)
        axes.set_ylim(-0.55, len(channels) - 0.45)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.set_ylabel("channels in, out")
        for spine in axes.spines.values():
            spine.set_visible(False)
    all_axes[-1, 0].set_xlabel("kernel")
    wins = Counter(cell["algorithm"] for cell in cells)
    said = ", ".join(f"{name} {count}" for name, count in sorted(wins.items()))
    return (
        f"Which algorithm wins where, {_threads(sweep['threads'])}",
        "Stride 1, SAME padding, one image, as many channels out as in. Below the name: the time of "
        "the fastest other algorithm over its own, where one was worth timing; 1.0x or less is a tie, which the lower error decides. "
        "Empty: not measured.",
        f"Map of {len(cells)} problems by kernel, channels and image size. Wins: {said}. The table below the map has every cell.",
    )


def draw_errors(plt: Any, palette: Palette, results: Results) -> tuple[str, str, str]:
    """Points: every candidate the tuner timed, its time over the fastest one's and its error."""
    threads = min(results.threads)
    points: dict[str, list[tuple[float, float]]] = {}
    for row in results.of("convopt", threads).values():
        timed = [each for each in row.facts.get("contenders", []) if each["seconds"] and each["error"]]
        best = min((each["seconds"] for each in timed), default=0)
        for each in timed:
            points.setdefault(each["algorithm"], []).append((each["seconds"] / best, each["error"]))
    _, axes = plt.subplots(figsize=(WIDTH, 3.6))
    for name, values in sorted(points.items()):
        x, y = zip(*values, strict=True)
        axes.scatter(x, y, s=20, marker=MARKERS.get(name, "P"), color=palette.algorithm(name), alpha=0.85, linewidths=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_log(axes.xaxis, (1, 1.5, 2, 3, 5, 10, 20))
    axes.set_xlabel("time over that of the layer's fastest candidate")
    axes.set_ylabel("max|y - y64| / max|y64|")
    axes.axhline(1e-5, color=palette.of["ink"], linewidth=1, linestyle="--")
    axes.text(axes.get_xlim()[1], 1.06e-5, "default limit", ha="right", va="bottom", fontsize=8)
    _legend(axes, palette, sorted(points))
    medians = "; ".join(f"{name} {statistics.median(error for _, error in values):.1e}" for name, values in sorted(points.items()))
    count = sum(map(len, points.values()))
    return (
        f"Time against error, {_threads(threads)}",
        "Every candidate that the tuner timed on these layers, its error measured against float64. What lies above the limit is not chosen "
        "unless the caller allows it.",
        f"Scatter plot of {count} candidates. Median error by algorithm: {medians}.",
    )


def draw_roofline(plt: Any, palette: Palette, results: Results, threads: int) -> tuple[str, str, str]:
    """Points: operations per second against operations per byte, under what the machine allows."""
    limits = results.about["limits"][str(threads)]
    peak = limits["gflops"]
    _, axes = plt.subplots(figsize=(WIDTH, 4.2))
    own = results.of("convopt", threads)
    intensities = {layer: row.shape.flops / _traffic(row.shape) for layer, row in own.items()}
    low, high = min([1.0, *intensities.values()]) * 0.7, max([100.0, *intensities.values()]) * 1.5
    for level in limits["bandwidth"]:
        knee = min(max(peak / level["gbps"], low), high)
        axes.plot([low, knee], [low * level["gbps"], knee * level["gbps"]], color=palette.of["faint"], linewidth=1)
        axes.text(low * 1.05, low * 1.05 * level["gbps"], f"{level['level']} {level['gbps']:.0f} GB/s", fontsize=7.5, va="bottom")
    axes.axhline(peak, color=palette.of["ink"], linewidth=1.2)
    axes.text(high, peak * 1.03, f"multiply-add peak {peak:.0f} GFLOP/s", ha="right", va="bottom", fontsize=8)
    for layer, row in own.items():
        peer = results.best_peer(layer, threads)
        x, algorithm = intensities[layer], row.facts.get("algorithm")
        if peer is not None:
            axes.plot([x, x], [peer.gflops, row.gflops], color=palette.of["grid"], linewidth=0.8, zorder=1)
            axes.scatter(x, peer.gflops, s=16, facecolors="none", edgecolors=palette.of["peer"], linewidths=1)
        axes.scatter(
            x, row.gflops, s=24, marker=MARKERS.get(str(algorithm), "P"), color=palette.algorithm(algorithm), linewidths=0, zorder=3
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_xlabel("operations per byte of input, filters and output")
    axes.set_ylabel("GFLOP/s, counted as the direct algorithm's")
    _legend(axes, palette, sorted({str(row.facts.get("algorithm")) for row in own.values()}))
    above = [layer for layer, row in own.items() if row.gflops > peak]
    return (
        f"Roofline, {_threads(threads)}",
        "Filled: convopt; rings: the best peer on the same layer. Winograd and FFT do fewer operations than are counted here, which is how "
        "they rise above the peak. The lines are this project's own measurements of this machine.",
        f"Roofline plot: multiply-add peak {peak:.0f} GFLOP/s; convopt exceeds it on {len(above)} of {len(own)} layers, "
        "by doing fewer operations.",
    )


def draw_scaling(plt: Any, palette: Palette, results: Results, least: int, most: int) -> tuple[str, str, str]:
    """Dots: how many times faster more threads are, layer by layer, convopt and the best peer."""
    before, after = results.of("convopt", least), results.of("convopt", most)
    layers = [layer for layer in before if layer in after]
    _, axes = plt.subplots(figsize=(WIDTH, 1.0 + 0.2 * len(layers)))
    own, peers = [], []
    for position, layer in enumerate(layers):
        speedup = before[layer].seconds / after[layer].seconds
        own.append(speedup)
        one, other = results.best_peer(layer, least), results.best_peer(layer, most)
        if one is not None and other is not None:
            peers.append(one.seconds / other.seconds)
            axes.plot([speedup, peers[-1]], [position] * 2, color=palette.of["grid"], linewidth=1.5, zorder=1)
            label = "best peer" if len(peers) == 1 else None
            axes.scatter(peers[-1], position, s=24, facecolors="none", edgecolors=palette.of["peer"], zorder=2, label=label)
        algorithm = after[layer].facts.get("algorithm")
        axes.scatter(speedup, position, s=28, color=palette.algorithm(algorithm), marker=MARKERS.get(str(algorithm), "P"), zorder=3)
    axes.axvline(most / least, color=palette.of["ink"], linewidth=1, linestyle="--")
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlabel(f"time with {_threads(least)} over time with {most}; dashed: {most / least:g}")
    if peers:
        axes.legend(**ABOVE)
    said = f"convopt's median is {statistics.median(own):.2f}" + (f", the best peer's {statistics.median(peers):.2f}" if peers else "")
    return (
        f"From {_threads(least)} to {most}",
        "Filled: convopt, by algorithm; rings: the best peer at either number of threads.",
        f"Dot plot of the speedup from {_threads(least)} to {most} on {len(layers)} layers: {said}.",
    )


def _traffic(shape: Any) -> int:
    """Bytes that any algorithm must move: input, filters, output, once."""
    inputs = shape.n * shape.h * shape.w * shape.c
    filters = shape.r * shape.s * shape.group_c * shape.k
    outputs = shape.n * shape.oh * shape.ow * shape.k
    return int((inputs + filters + outputs) * shape.itemsize)


def _plain_log(axis: Any, ticks: tuple[float, ...]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
