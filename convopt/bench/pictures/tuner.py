"""Figures of what the tuner knows: which algorithm wins where, and what accuracy costs."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any

from convopt.bench.pictures.axes import Words, legend, plain_log, threads_text
from convopt.bench.results import Results
from convopt.bench.theme import MARKERS, WIDTH, Palette


def draw_map(plt: Any, palette: Palette, sweep: dict[str, Any]) -> Words:
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
        f"Which algorithm wins where, {threads_text(sweep['threads'])}",
        "Stride 1, SAME padding, one image, as many channels out as in. Below the name: the time of "
        "the fastest other algorithm over its own, where one was worth timing; 1.0x or less is a tie, which the lower error decides. "
        "Empty: not measured.",
        f"Map of {len(cells)} problems by kernel, channels and image size. Wins: {said}. The table below the map has every cell.",
    )


def draw_errors(plt: Any, palette: Palette, results: Results) -> Words:
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
    plain_log(axes.xaxis, (1, 1.5, 2, 3, 5, 10, 20))
    axes.set_xlabel("time over that of the layer's fastest candidate")
    axes.set_ylabel("max|y - y64| / max|y64|")
    axes.axhline(1e-5, color=palette.of["ink"], linewidth=1, linestyle="--")
    axes.text(axes.get_xlim()[1], 1.06e-5, "default limit", ha="right", va="bottom", fontsize=8)
    legend(axes, palette, sorted(points))
    medians = "; ".join(f"{name} {statistics.median(error for _, error in values):.1e}" for name, values in sorted(points.items()))
    count = sum(map(len, points.values()))
    return (
        f"Time against error, {threads_text(threads)}",
        "Every candidate that the tuner timed on these layers, its error measured against float64. What lies above the limit is not chosen "
        "unless the caller allows it.",
        f"Scatter plot of {count} candidates. Median error by algorithm: {medians}.",
    )
