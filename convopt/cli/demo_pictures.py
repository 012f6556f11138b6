"""Photographs to feature maps: textbook filters, each one a conv2d call, and a sheet that shows them all."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convopt
from convopt.algorithms import reference
from convopt.cli.demo_timing import best_seconds
from convopt.cli.terminal import duration, need
from convopt.shape import ConvShape

Array = NDArray[np.float32]

#: Brightness as the eye weighs red, green and blue.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
INK, PAPER, FAINT = "#1d2733", "#fbfaf7", "#7b8591"


@dataclass(frozen=True)
class Filter:
    """A kernel (R x S x maps), what it looks at ("colour": each channel by itself, "brightness"), and how its maps are shown."""

    name: str
    kernel: Array
    looks_at: str
    picture: Callable[[Array], Array]
    colours: str | None = None


@dataclass(frozen=True)
class FilteredPictures:
    """What one filter made of all photographs.

    maps: N x H x W x K. seconds: of one call for all photographs. error: max|y - y64| / max|y64| on a part of them.
    """

    filter: Filter
    maps: Array
    algorithm: str
    seconds: float
    error: float


def photographs() -> tuple[list[str], Array]:
    """Names and the two photographs that ship with scikit-learn: N x H x W x 3, from 0 to 1."""
    samples = need("sklearn.datasets", "demo").load_sample_images()
    names = [Path(name).stem for name in samples.filenames]
    return names, np.stack(samples.images).astype(np.float32) / np.float32(255)


def filters() -> list[Filter]:
    """The filters of the demo, small to large."""
    outline = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])
    sharpen = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return [
        Filter("outline", _maps(outline), "brightness", lambda y: _stretch(np.abs(y[..., 0])), "gray_r"),
        Filter("sobel", _maps(sobel, sobel.T), "brightness", lambda y: _stretch(np.hypot(y[..., 0], y[..., 1])), "inferno"),
        Filter("emboss", _maps(emboss), "brightness", lambda y: np.clip(y[..., 0], 0, 1), "gray"),
        Filter("sharpen", _maps(sharpen), "colour", _as_colours),
        Filter("blur", _maps(_gaussian(9, 2.0)), "colour", _as_colours),
        Filter("motion", _maps(_streak(31, 30.0)), "colour", _as_colours),
    ]


def apply(which: Filter, photos: Array, tune: str) -> FilteredPictures:
    """Run one filter over all photographs at once: N x H x W x C in, the same height and width out."""
    r, s = which.kernel.shape[:2]
    if which.looks_at == "brightness":
        x = np.ascontiguousarray((photos @ LUMINANCE)[..., np.newaxis])
        w = which.kernel[:, :, np.newaxis, :]
    else:  # three groups of one channel: red, green and blue pass through the same kernel
        x = photos
        w = np.tile(which.kernel[:, :, np.newaxis, :], (1, 1, 1, 3))
    # Beyond its edges a photograph goes on as it ended: zeros there would draw a frame around every map.
    margins = [(size // 2, size - 1 - size // 2) for size in (r, s)]
    x = np.pad(x, ((0, 0), *margins, (0, 0)), mode="edge")
    plan = convopt.plan(x.shape, w, tune=tune)
    out = plan(x)
    seconds = best_seconds(lambda: plan(x, out=out))
    return FilteredPictures(which, out, plan.algorithm, seconds, _error(x, w, out))


def _error(x: Array, w: Array, y: Array, part: int = 48) -> float:
    """max|y - y64| / max|y64| on a square of `part` pixels in the middle of each picture."""
    r, s = w.shape[:2]
    top, left = (y.shape[1] - part) // 2, (y.shape[2] - part) // 2
    window = x[:, top : top + part + r - 1, left : left + part + s - 1]
    exact = reference.conv2d(window, w, ConvShape.from_arguments(window.shape, w.shape))
    return float(np.max(np.abs(y[:, top : top + part, left : left + part] - exact)) / np.max(np.abs(exact)))


def _maps(*kernels: NDArray[Any]) -> Array:
    return np.stack(kernels, axis=-1).astype(np.float32)


def _gaussian(size: int, sigma: float) -> NDArray[np.float64]:
    line = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    kernel = np.outer(line, line)
    return np.asarray(kernel / kernel.sum())


def _streak(size: int, degrees: float) -> NDArray[np.float64]:
    """A straight camera movement: a soft-edged line through the middle."""
    y, x = np.mgrid[:size, :size] - size // 2
    angle = np.radians(degrees)
    along, across = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    kernel = np.clip(1.2 - np.abs(across), 0, 1) * (np.abs(along) <= size // 2)
    return np.asarray(kernel / kernel.sum())


def _stretch(y: Array) -> Array:
    """0 to 1, the brightest half per cent being cut off, per picture."""
    return np.asarray(np.clip(y / np.percentile(y, 99.5), 0, 1), np.float32)


def _as_colours(y: Array) -> Array:
    return np.asarray(np.clip(y, 0, 1), np.float32)


def save_sheet(path: Path, names: list[str], photos: Array, results: list[FilteredPictures]) -> None:
    """One PNG: a column per filter with its kernel on top, a row per photograph."""
    need("matplotlib", "demo").use("Agg")
    from matplotlib import pyplot

    columns, rows = len(results) + 1, len(photos)
    margin, width, gap, side = 0.6, 3.0, 0.14, 1.25  # inches, as everything below
    height = width * photos.shape[1] / photos.shape[2]
    total = (columns * (width + gap) - gap + margin + 0.35, 1.15 + side + 0.75 + rows * (height + gap) + 0.35)
    figure = pyplot.figure(figsize=total, facecolor=PAPER)

    def axes(left: float, top: float, w: float, h: float) -> Any:
        placed = figure.add_axes((left / total[0], 1 - (top + h) / total[1], w / total[0], h / total[1]))
        placed.set_xticks([])
        placed.set_yticks([])
        for spine in placed.spines.values():
            spine.set(color=FAINT, linewidth=0.5)
        return placed

    def text(x: float, y: float, words: str, **style: Any) -> None:
        figure.text(x / total[0], 1 - y / total[1], words, **{"color": INK, "va": "baseline", **style})

    text(margin, 0.55, "From photographs to feature maps", size=22, weight="bold")
    text(margin, 0.85, "each map is one convopt call on both photographs; algorithm and time as measured here", size=11, color=FAINT)
    top_of_maps = 1.15 + side + 0.75
    for column in range(columns):
        left = margin + column * (width + gap)
        if column == 0:
            text(left, top_of_maps - 0.42, "input", size=14, weight="bold")
            text(left, top_of_maps - 0.16, f"{photos.shape[2]} x {photos.shape[1]} pixels", size=10, color=FAINT)
        else:
            result = results[column - 1]
            r, s = result.filter.kernel.shape[:2]
            text(left, top_of_maps - 0.42, result.filter.name, size=14, weight="bold")
            text(left, top_of_maps - 0.16, f"{r} x {s}, {result.algorithm}, {duration(result.seconds)}", size=10, color=FAINT)
            for index in range(result.filter.kernel.shape[2]):
                _draw_kernel(axes(left + index * (side + gap), 1.1, side, side), result.filter.kernel[..., index])
        for row, photo in enumerate(photos):
            place = axes(left, top_of_maps + row * (height + gap), width, height)
            if column == 0:
                place.imshow(photo)
                place.set_ylabel(names[row], color=INK, size=13, labelpad=8)
            else:
                shown = result.filter.picture(result.maps[row])
                place.imshow(shown, cmap=result.filter.colours, vmin=0, vmax=1)
    figure.savefig(path, dpi=140, facecolor=PAPER)
    pyplot.close(figure)


def _draw_kernel(place: Any, kernel: Array) -> None:
    """A kernel as coloured squares: orange above zero, blue below; small ones with their numbers."""
    limit = float(np.max(np.abs(kernel)))
    place.imshow(kernel, cmap="PuOr_r", vmin=-limit, vmax=limit)
    if len(kernel) <= 5:
        for (y, x), value in np.ndenumerate(kernel):
            place.text(x, y, f"{value:g}", ha="center", va="center", size=11, color=PAPER if abs(value) > 0.6 * limit else INK)
