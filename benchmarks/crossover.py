"""Time against kernel size, 3 to 63 taps, for direct, Winograd and FFT at three channel counts; and what the estimate picks.

    python benchmarks/crossover.py [--threads 1] [--save]

Each algorithm runs with the parameters that measuring prefers; what would take too long is left out. With --save, results/CPU/crossover/
gets crossover.json, and the plot as crossover.svg and crossover.png.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from tuner_common import RESULTS, fresh_cache

import convopt
from convopt.bench.results import cpu_name
from convopt.bench.theme import LIGHT, MARKERS, style
from convopt.cli import info
from convopt.kernels import registry
from convopt.tuning import machine

ALGORITHMS = ("direct", "winograd", "fft")
KERNELS = (3, 5, 7, 9, 11, 15, 21, 31, 47, 63)
#: Channels in and out -> height and width.
PICTURES = {1: 512, 16: 128, 64: 56}
#: Longer calls, seconds, are left out: by then the curves have long parted. Operations per second of the slowest algorithm.
LONGEST, SLOWEST = 0.2, 1e11
#: Seconds of timing per plan, and calls at least.
SECONDS, CALLS = 0.15, 5


def fastest(plan: convopt.ConvPlan, x: np.ndarray) -> float:
    """Seconds of the shortest of many calls."""
    out = plan(x)
    times: list[float] = []
    end = perf_counter() + SECONDS
    while len(times) < CALLS or perf_counter() < end:
        start = perf_counter()
        plan(x, out)
        times.append(perf_counter() - start)
    return min(times)


def measure(channels: int, kernel: int, threads: int) -> dict[str, Any]:
    """Milliseconds by algorithm for one problem, and the estimate's choice with its time over the fastest's."""
    size = PICTURES[channels]
    rng = np.random.default_rng(kernel)
    x = rng.standard_normal((1, size, size, channels)).astype("f4")
    filters = rng.standard_normal((kernel, kernel, channels, channels)).astype("f4")
    found: dict[str, float] = {}

    def plan(algorithm: str, tune: str) -> convopt.ConvPlan:
        return convopt.plan(x.shape, filters, padding="SAME", algorithm=algorithm, tune=tune, threads=threads)

    applicable = convopt.algorithms(x.shape, filters.shape, padding="SAME")
    for name in ALGORITHMS:
        if name in applicable and (name != "direct" or 2 * size**2 * filters.size / SLOWEST <= LONGEST):
            found[name] = 1e3 * fastest(plan(name, "measure"), x)
    chosen = plan("auto", "estimate")
    label = chosen.algorithm + ":" + ",".join(f"{key}={value}" for key, value in chosen.params.items())
    took = 1e3 * fastest(chosen, x)
    return {
        "channels": channels,
        "kernel": kernel,
        "size": size,
        "milliseconds": found,
        "estimate": label,
        "estimate_milliseconds": took,
        "regret": max(0.0, took / min(found.values()) - 1),
    }


def draw(rows: list[dict[str, Any]], to: Path) -> None:
    """One panel per channel count."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with pyplot.rc_context(style(LIGHT)):
        figure, panels = pyplot.subplots(1, len(PICTURES), figsize=(10.5, 3.6), sharex=True)
        for panel, (channels, size) in zip(panels, PICTURES.items(), strict=True):
            mine = [row for row in rows if row["channels"] == channels]
            for name in ALGORITHMS:
                points = [(row["kernel"], row["milliseconds"][name]) for row in mine if name in row["milliseconds"]]
                panel.plot(*zip(*points, strict=True), color=LIGHT.algorithm(name), marker=MARKERS[name], markersize=4, label=name)
            panel.plot(
                [row["kernel"] for row in mine],
                [row["estimate_milliseconds"] for row in mine],
                linestyle="none",
                marker="o",
                markersize=9,
                markerfacecolor="none",
                color=LIGHT.of["ink"],
                label="the estimate's choice",
            )
            title = f"{channels} to {channels} channels, {size} x {size}"
            panel.set(xscale="log", yscale="log", title=title, xlabel="taps along each axis")
            panel.set_xticks(KERNELS, [str(kernel) for kernel in KERNELS])
            panel.minorticks_off()
        panels[0].set_ylabel("milliseconds")
        panels[0].legend()
        for form in ("svg", "png"):
            figure.savefig(to / f"crossover.{form}", dpi=160, metadata={"Date": None} if form == "svg" else {"Software": None})
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kernels", default=",".join(map(str, KERNELS)), help="sizes (%(default)s)")
    parser.add_argument("--save", action="store_true", help="write results/CPU/crossover/crossover.json, .svg and .png")
    options = parser.parse_args()
    folder = fresh_cache()
    rows = []
    print(
        f"{'channels':>8} {'kernel':>6} " + " ".join(f"{name:>10}" for name in ALGORITHMS) + "  ms; the estimate's choice, over the fastest"
    )
    for channels in PICTURES:
        for kernel in map(int, options.kernels.split(",")):
            row = measure(channels, kernel, options.threads)
            rows.append(row)
            times = " ".join(f"{row['milliseconds'].get(name, float('nan')):10.3f}" for name in ALGORITHMS)
            print(f"{channels:8} {kernel:6} {times}  {row['estimate']} {row['regret']:+.0%}", flush=True)
    folder.cleanup()
    if options.save:
        cpu = re.sub(r"[^a-z0-9]+", "-", cpu_name(info.gather()).lower()).strip("-") or "cpu"
        to = RESULTS / cpu / "crossover"
        to.mkdir(parents=True, exist_ok=True)
        about = {"machine": machine.fingerprint(), "isa": registry.isa(), "threads": options.threads}
        (to / "crossover.json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
        draw(rows, to)
        print(f"written to {to}")


if __name__ == "__main__":
    main()
