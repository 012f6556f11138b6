"""What the figures have in common: legends, axes whose ticks read as people say them, and a few words."""

from __future__ import annotations

from typing import Any

from convopt.bench.theme import MARKERS, Palette

#: What a figure is called, its caption, and what it says in words for those who do not see it.
Words = tuple[str, str, str]

#: A legend above the axes, where it hides nothing, narrow enough for a phone's picture.
ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 4, "borderaxespad": 0, "handletextpad": 0.1, "columnspacing": 1.2}


def threads_text(count: int) -> str:
    """ "1 thread", "2 threads"."""
    return f"{count} thread" + "s" * (count > 1)


def legend(axes: Any, palette: Palette, names: list[str], markers: bool = True, title: bool = False, peer: bool = False) -> None:
    """A legend of algorithms, and of rings for the best peer; higher, if the axes have a title."""
    from matplotlib.lines import Line2D

    handles = []
    for name in names:
        marker = MARKERS.get(name, "P") if markers else "s"
        handles.append(Line2D([], [], linestyle="", marker=marker, markersize=6, color=palette.algorithm(name), label=name))
    if peer:
        ring = Line2D([], [], linestyle="", marker="o", markersize=5, markerfacecolor="none", color=palette.of["peer"], label="best peer")
        handles.append(ring)
    axes.legend(handles=handles, **(ABOVE | ({"bbox_to_anchor": (0, 1.12), "ncols": 6} if title else {})))


def ratio_axis(axes: Any, values: list[float]) -> None:
    """A logarithmic axis of ratios whose ticks read as people say them."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_xscale("log")
    low, high = min([0.8, *values]) * 0.9, max([1.5, *values]) * 1.25
    steps = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if high / low < 600 else (0.01, 0.1, 1, 10, 100, 1000)
    ticks = [tick for tick in steps if low <= tick <= high]
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:g}x" for tick in ticks])


def plain_log(axis: Any, ticks: tuple[float, ...]) -> None:
    """A logarithmic axis with these ticks, as plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
