"""Figures of what the machine allows, and of how time and memory grow."""

from __future__ import annotations

import math
import statistics
from typing import Any

from convopt.bench.pictures.axes import Words, legend, plain_log, threads_text
from convopt.bench.results import Results
from convopt.bench.tables import memory, traffic
from convopt.bench.theme import MARKERS, WIDTH, Palette


def draw_roofline(plt: Any, palette: Palette, results: Results, threads: int) -> Words:
    """Points: operations per second against operations per byte, under what the machine allows."""
    limits = results.about["limits"][str(threads)]
    peak = limits["gflops"]
    _, axes = plt.subplots(figsize=(WIDTH, 4.2))
    own = results.of("convopt", threads)
    intensities = {layer: row.shape.flops / traffic(row.shape) for layer, row in own.items()}
    low, high = min([1.0, *intensities.values()]) * 0.7, max([100.0, *intensities.values()]) * 1.5
    heights = [*(row.gflops for row in own.values()), *(low * level["gbps"] for level in limits["bandwidth"])]
    bottom, top = min(heights) * 0.6, max(peak, *heights) * 2
    for level in limits["bandwidth"]:
        knee = min(max(peak / level["gbps"], low), high)
        axes.plot([low, knee], [low * level["gbps"], knee * level["gbps"]], color=palette.of["faint"], linewidth=1)
    # Below the knees there are no layers: the lines are named there, from the left to the right.
    names = ", ".join(f"{level['level']} {level['gbps']:.0f}" for level in limits["bandwidth"])
    style = {"transform": axes.transAxes, "fontsize": 8, "color": palette.of["faint"]}
    axes.text(0.985, 0.065, f"slopes: {names} GB/s", ha="right", va="bottom", **style)
    axes.axhline(peak, color=palette.of["ink"], linewidth=1.2)
    axes.text(low * 1.1, peak * 1.07, f"multiply-add peak {peak:.0f} GFLOP/s", ha="left", va="bottom", fontsize=8)
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
    axes.set_ylim(bottom, top)
    plain_log(axes.xaxis, (1, 10, 100, 1000))
    plain_log(axes.yaxis, (1, 10, 100, 1000, 10000))
    axes.set_xlabel("operations per byte of input, filters and output")
    axes.set_ylabel("GFLOP/s, counted as the direct algorithm's")
    legend(axes, palette, sorted({str(row.facts.get("algorithm")) for row in own.values()}))
    above = [layer for layer, row in own.items() if row.gflops > peak]
    return (
        f"Roofline, {threads_text(threads)}",
        "Filled: convopt; rings: the best peer on the same layer. Winograd and FFT do fewer operations than are counted here, which is how "
        "they rise above the peak. The lines are this project's own measurements of this machine.",
        f"Roofline plot: multiply-add peak {peak:.0f} GFLOP/s; convopt exceeds it on {len(above)} of {len(own)} layers, "
        "by doing fewer operations.",
    )


def draw_scaling(plt: Any, palette: Palette, results: Results, least: int, most: int) -> Words:
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
            axes.scatter(peers[-1], position, s=24, facecolors="none", edgecolors=palette.of["peer"], zorder=2)
        algorithm = after[layer].facts.get("algorithm")
        axes.scatter(speedup, position, s=28, color=palette.algorithm(algorithm), marker=MARKERS.get(str(algorithm), "P"), zorder=3)
    axes.axvline(most / least, color=palette.of["ink"], linewidth=1, linestyle="--")
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlabel(f"time with {threads_text(least)} over time with {most}; dashed: {most / least:g}")
    legend(axes, palette, sorted({str(after[layer].facts.get("algorithm")) for layer in layers}), peer=bool(peers))
    said = f"convopt's median is {statistics.median(own):.2f}" + (f", the best peer's {statistics.median(peers):.2f}" if peers else "")
    return (
        f"From {threads_text(least)} to {most}",
        "Filled: convopt, by algorithm; rings: the best peer at either number of threads.",
        f"Dot plot of the speedup from {threads_text(least)} to {most} on {len(layers)} layers: {said}.",
    )


#: How much time grows with one size, if an algorithm does as many operations as the definition has: to this power of it.
POWERS = {"batch": 1, "channels": 2, "image": 2, "kernel": 2}
UNITS = {"batch": "images", "channels": "channels in, as many out", "image": "pixels a side", "kernel": "filter, pixels a side"}


def draw_growth(plt: Any, palette: Palette, growth: dict[str, Any]) -> Words:
    """Curves: time against one size, all others those of one layer."""
    curves = {name: points for name, points in growth["curves"].items() if len(points) > 1}
    _, grid = plt.subplots(2, 2, figsize=(WIDTH, 5.6), squeeze=False)
    said, algorithms, peers = [], set(), False
    for axes, (name, points) in zip(grid.flat, curves.items(), strict=False):
        values, own = [point["value"] for point in points], [point["seconds"]["convopt"] * 1e3 for point in points]
        best = [min((each for engine, each in point["seconds"].items() if engine != "convopt"), default=math.nan) * 1e3 for point in points]
        axes.plot(values, own, color=palette.of["ink"], linewidth=1.2, zorder=2)
        for value, time, point in zip(values, own, points, strict=True):
            algorithm = point["algorithm"]
            algorithms.add(algorithm)
            axes.scatter(value, time, s=26, marker=MARKERS.get(algorithm, "P"), color=palette.algorithm(algorithm), linewidths=0, zorder=3)
        if not all(map(math.isnan, best)):
            peers = True
            axes.plot(
                values,
                best,
                color=palette.of["peer"],
                linewidth=1.2,
                linestyle="--",
                marker="o",
                markersize=4,
                markerfacecolor="none",
                zorder=1,
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        plain_log(axes.xaxis, tuple(values))
        if name == "kernel":
            axes.set_xscale("linear")
            axes.set_xticks(values)
        _decades(axes, [*own, *(time for time in best if not math.isnan(time))])
        axes.set_title(name, loc="left")
        axes.set_xlabel(UNITS[name])
        power = math.log(own[-1] / own[0]) / math.log(values[-1] / values[0])
        said.append(f"{name} from {values[0]} to {values[-1]}: time grows {own[-1] / own[0]:.3g} times, as its power {power:.2f}")
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    grid[0, 0].set_ylabel("milliseconds")
    grid[1, 0].set_ylabel("milliseconds")
    legend(grid[0, 0], palette, sorted(algorithms), title=True)
    base = "3x3 filters on one 28 x 28 image, 128 channels in and out"
    dashed = " Dashed: the fastest peer at each size." if peers else ""
    return (
        f"How time grows, {threads_text(growth['threads'])}",
        f"One size at a time, the others as in a layer of ResNet-50: {base}.{dashed} Marks: the algorithm that was chosen.",
        f"Four curves of time, all other sizes as in {base}. {'; '.join(said)}.",
    )


def _decades(axes: Any, times: list[float]) -> None:
    """Ticks at 1, 2 and 5 of the decades that occur."""
    ticks = [step * 10.0**decade for decade in range(-4, 5) for step in (1, 2, 5)]
    low, high = min(times) * 0.8, max(times) * 1.25
    inside = [tick for tick in ticks if low <= tick <= high]
    axes.set_ylim(low, high)
    plain_log(axes.yaxis, tuple(inside if len(inside) < 9 else inside[::3]))


def draw_memory(plt: Any, palette: Palette, results: Results, threads: int) -> Words:
    """Dots: scratch memory of convopt, and the matrix that a whole im2col would make."""
    rows = [each for each in memory(results, threads) if each["im2col"] > each["input"]]
    own = results.of("convopt", threads)
    _, axes = plt.subplots(figsize=(WIDTH, 1.0 + 0.2 * len(rows)))
    floor = 1 / 64
    for position, each in enumerate(rows):
        algorithm = str(own[each["layer"]].facts.get("algorithm"))
        scratch, matrix = (max(each[key] / 2**20, floor) for key in ("workspace", "im2col"))
        axes.plot([scratch, matrix], [position] * 2, color=palette.of["grid"], linewidth=1.5, zorder=1)
        axes.scatter(
            scratch, position, s=28, color=palette.algorithm(algorithm), marker=MARKERS.get(algorithm, "P"), linewidths=0, zorder=3
        )
        axes.scatter(matrix, position, s=40, color=palette.of["ink"], marker="|", zorder=2)
    axes.set_xscale("log")
    plain_log(axes.xaxis, (floor, 0.1, 1, 10, 100, 1000))
    axes.set_xticklabels(["none", "0.1", "1", "10", "100", "1000"])
    axes.set_xlim(floor * 0.7, max(each["im2col"] for each in rows) / 2**20 * 1.6)
    axes.set_yticks(range(len(rows)), [each["layer"] for each in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("MiB beside input, filters and output; bar at the right: im2col's whole matrix")
    legend(axes, palette, sorted({str(own[each["layer"]].facts.get("algorithm")) for each in rows}))
    shares = [each["workspace"] / each["im2col"] for each in rows]
    return (
        f"Scratch memory, {threads_text(threads)}",
        "What convopt needs beside input, filters and output, packed filters not counted, against the matrix that multiplication after a "
        "whole im2col would need; 1 x 1 filters, which need none, are left out.",
        f"Dot plot of {len(rows)} layers: convopt's scratch memory is typically {100 * statistics.median(shares):.2g} % of "
        f"im2col's matrix, {100 * max(shares):.2g} % at most.",
    )
