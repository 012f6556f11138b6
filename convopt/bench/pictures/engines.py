"""Figures that compare engines: layer by layer, over all layers, and on whole networks."""

from __future__ import annotations

import math
from typing import Any

from convopt.bench.engines import ENGINES
from convopt.bench.pictures.axes import ABOVE, Words, legend, ratio_axis, threads_text
from convopt.bench.results import Results, geomean
from convopt.bench.theme import WIDTH, Palette
from convopt.bench.whole import Whole, networks_of

#: The axis of layers ends so many times beyond the longest bar, for the name beside it.
ROOM = 7


def draw_layers(plt: Any, palette: Palette, results: Results, threads: int) -> Words:
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
    ratio_axis(axes, [*ratios.values(), max(ratios.values()) * ROOM])
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("time of the best peer over convopt's; right of 1x convopt is faster")
    names = sorted({str(own[layer].facts.get("algorithm")) for layer in layers})
    legend(axes, palette, names, markers=False)
    mean, worst = geomean(list(ratios.values())), min(ratios, key=lambda layer: ratios[layer])
    best = max(ratios, key=lambda layer: ratios[layer])
    faster = sum(ratio > 1 for ratio in ratios.values())
    return (
        f"Every layer against the best peer, {threads_text(threads)}",
        "The best peer is the fastest of all other engines on that very layer; its name stands beside the bar.",
        f"Bar chart of {len(layers)} layers, {threads_text(threads)}. convopt is faster than the best peer on {faster}; geometric mean "
        f"{mean:.2f}x, best {ratios[best]:.2f}x on {best}, worst {ratios[worst]:.2f}x on {worst}. The table below has every figure.",
    )


def draw_engines(plt: Any, palette: Palette, results: Results) -> Words:
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
            label = threads_text(threads) if position == 0 else None
            axes.barh(at, mean - 1, left=1, height=height * 0.9, color=tones[index % len(tones)], label=label)
            axes.text(max(mean, 1) * 1.03, at, f"{mean:.2f}x  ({count})", va="center", fontsize=7.5, color=palette.of["ink"])
    axes.axvline(1, color=palette.of["ink"], linewidth=1)
    values = [mean for mean, _ in means.values()]
    ratio_axis(axes, [*values, max(values) * 1.6])
    axes.set_yticks(range(len(engines)), [ENGINES[name].title for name in engines])
    axes.set_ylim(len(engines) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("geometric mean of the engine's time over convopt's (number of layers it serves)")
    if len(results.threads) > 1:
        axes.legend(**(ABOVE | {"handletextpad": 0.6}))
    said = "; ".join(f"{ENGINES[name].title} {threads_text(threads)} {mean:.2f}x" for (name, threads), (mean, _) in means.items())
    return (
        "Engine by engine",
        "How many times longer each engine takes than convopt on the layers that it serves; in brackets how many those are. "
        "With fresh filters convopt gets, and packs, its filters in each call.",
        f"Bar chart of the geometric mean of each engine's time over convopt's: {said}.",
    )


def _first(means: dict[tuple[str, int], tuple[float, int]], name: str) -> float:
    return next(mean for (engine, _), (mean, _) in means.items() if engine == name)


def draw_networks(plt: Any, palette: Palette, results: Results) -> Words:
    """Bars: time of each engine on a whole network; ticks: the sum of its convolutions one by one."""
    wholes = networks_of(results)
    sums = {(each.name, each.threads): each.of_engines for each in networks_of(results, "sums")}
    names = list(dict.fromkeys(each.name for each in wholes))
    threads = sorted({each.threads for each in wholes})
    rows = [max(len(each.of_engines) for each in wholes if each.name == name) for name in names]
    _, grid = plt.subplots(
        len(names),
        len(threads),
        figsize=(WIDTH, 0.4 + sum(0.62 + 0.19 * count for count in rows)),
        squeeze=False,
        height_ratios=[2.6 + count for count in rows],
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for each in wholes:
        axes = grid[names.index(each.name), threads.index(each.threads)]
        axes.set_axis_on()
        _draw_network(axes, palette, each, sums.get((each.name, each.threads), {}))
    said = [
        f"{each.title}, {threads_text(each.threads)}: convopt {each.seconds * 1e3:.3g} ms"
        + ("" if each.peer is None else f", best peer {ENGINES[each.peer].title} {each.peer_seconds * 1e3:.3g} ms")
        for each in wholes
    ]
    return (
        "Whole networks",
        "All convolutions of a network in a row, one image, with bias, activation, pooling and additions as each engine does them; "
        "convopt's plans are chained by hand, and NumPy pools and adds, on one thread. "
        + ("The mark on a bar: the sum of the network's convolutions, timed one by one. " if sums else "")
        + "All results agree.",
        f"Bar charts of whole networks. {'; '.join(said)}.",
    )


def _draw_network(axes: Any, palette: Palette, whole: Whole, sums: dict[str, float]) -> None:
    engines = sorted(whole.of_engines, key=lambda name: whole.of_engines[name])
    unit = 1e6 if whole.seconds < 1e-3 else 1e3
    times = {name: whole.of_engines[name] * unit for name in engines}
    limit = min(max(times.values()), 4 * times["convopt"]) * 1.28
    for position, name in enumerate(engines):
        colour = palette.of["own"] if name == "convopt" else palette.of["peer"]
        axes.barh(position, limit if times[name] > limit * 0.9 else times[name], height=0.72, color=colour)
        text = f"{times[name]:.3g}" if times[name] < 1000 else f"{times[name]:.0f}"
        mark = sums.get(name, math.inf) * unit
        # What is too long for the axes ends there, with its figure inside; elsewhere the figure keeps clear of the mark.
        end = mark if times[name] < mark < times[name] + limit * 0.16 else times[name]
        at, side, colour = (limit * 0.99, "right", "page") if times[name] > limit * 0.9 else (end + limit * 0.012, "left", "ink")
        axes.text(at, position, text, va="center", ha=side, fontsize=7.5, color=palette.of[colour])
        if mark < limit:
            axes.plot([mark] * 2, [position - 0.36, position + 0.36], color=palette.of["ink"], linewidth=1.6)
    axes.set_yticks(range(len(engines)), [ENGINES[name].title for name in engines], fontsize=7.5)
    for label, name in zip(axes.get_yticklabels(), engines, strict=True):
        label.set_fontweight("bold" if name == "convopt" else "normal")
    axes.set_ylim(len(engines) - 0.4, -0.6)
    axes.set_xlim(0, limit)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)
    ratio = "" if math.isnan(whole.ratio) else f", {whole.ratio:.2f}x"
    unit_name = "µs" if unit == 1e6 else "ms"
    axes.set_title(f"{whole.title}, {threads_text(whole.threads)}, {unit_name}{ratio}", loc="left", fontsize=8.5, x=-0.3)
