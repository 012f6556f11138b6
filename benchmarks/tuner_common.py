"""What the figures of the tuner share: which problems, a cache of their own, how results are printed and kept."""

import argparse
import json
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from convopt.bench.results import cpu_name
from convopt.cli.info import gather
from convopt.kernels import registry
from convopt.shape import ConvShape
from convopt.tuning import cache, machine, measure_speeds, networks, planner
from convopt.tuning.candidates import Request

RESULTS = Path(__file__).resolve().parents[1] / "results"


def arguments(description: str, random_layers: int = 200) -> argparse.ArgumentParser:
    """The options that all scripts have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--network", default="public", help="list of layers that comes with convopt (%(default)s)")
    parser.add_argument("--random", type=int, default=random_layers, help="random realistic layers besides (%(default)s)")
    parser.add_argument("--layers", type=int, help="only so many, drawn from all")
    parser.add_argument("--threads", default="1,2", help="numbers of threads (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn (%(default)s)")
    parser.add_argument("--budget", type=float, help="seconds after which no further problem is begun; their order is random")
    parser.add_argument("--save", action="store_true", help="write results/CPU/tuner/NAME.json")
    return parser


def requests(options: argparse.Namespace) -> list[Request]:
    """The problems asked for, in random order: whatever a budget leaves of them is a fair sample."""
    draw = random.Random(options.seed)
    shapes = [layer.shape for layer in networks.network(options.network)] if options.network else []
    shapes += [realistic(draw) for _ in range(options.random)]
    draw.shuffle(shapes)
    return [
        Request(shape, bias=False, activation=None, threads=int(count), constant_filters=True)
        for shape in shapes[: options.layers]
        for count in options.threads.split(",")
    ]


def within(budget: float | None, wanted: list[Request], share: float = 1.0) -> Iterator[Request]:
    """These problems, until a share of the budget's seconds is spent."""
    end = None if budget is None else time.monotonic() + share * budget
    for request in wanted:
        if end is not None and time.monotonic() > end:
            return
        yield request


def realistic(draw: random.Random) -> ConvShape:
    """A layer as networks have them: 0.1 MFLOP to 4 GFLOP, kernels of 1 to 7, sometimes strided, depthwise or grouped."""
    while True:
        size = draw.choice((7, 8, 14, 16, 19, 28, 32, 38, 56, 64, 75, 112, 128, 224))
        c, k = (draw.choice((3, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512)) for _ in range(2))
        r = draw.choices((1, 3, 5, 7), (35, 45, 12, 8))[0]
        groups = 1
        if c > 3 and r > 1 and draw.random() < 0.2:
            k, groups = c, draw.choice((c, c, 8 if c % 8 == 0 else c))
        stride = draw.choices((1, 2), (75, 25))[0]
        batch = draw.choices((1, 4, 8), (80, 12, 8))[0]
        shape = ConvShape.from_arguments((batch, size, size, c), (r, r, c // groups, k), stride, "SAME")
        if 1e5 <= shape.flops <= 4e9:
            return shape


def fresh_cache() -> tempfile.TemporaryDirectory[str]:
    """Use a cache that holds nothing but the machine's constants, until it is cleaned up."""
    folder = tempfile.TemporaryDirectory(prefix="convopt-figures-")
    os.environ["CONVOPT_CACHE_DIR"], os.environ["CONVOPT_SHARED_CACHE"] = folder.name, ""
    cache.load()
    planner._measured_here.clear()
    cache.put(planner.SPEEDS_KEY, _constants())
    return folder


def _constants(known: list[object] = []) -> object:  # noqa: B006 - measured once per process
    if not known:
        known.append(measure_speeds.speeds().to_json())
    return known[0]


def percentiles(values: list[float]) -> dict[str, float]:
    """Median, mean, 95th percentile and largest."""
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "mean": statistics.fmean(ordered),
        "p95": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        "largest": ordered[-1],
    }


def report(name: str, options: argparse.Namespace, figures: dict[str, object], rows: list[dict[str, object]]) -> None:
    """Print the figures; keep them, with the rows they come from, where that was asked for."""
    print(f"\n{name} on {machine.fingerprint()}")
    for key, value in figures.items():
        print(f"  {key:<52} {value:.4g}" if isinstance(value, float) else f"  {key:<52} {value}")
    if options.save:
        file = folder() / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "machine": machine.fingerprint(),
            "isa": registry.isa(),
            "date": time.strftime("%Y-%m-%d"),
            "options": {key: value for key, value in vars(options).items() if key not in ("save", "again")},
        }
        lines = ",\n".join(json.dumps(row) for row in rows)  # a row a line, so that diff tells runs apart
        file.write_text(json.dumps({**about, "figures": figures}, indent=1)[:-2] + f',\n "rows": [\n{lines}\n]}}\n')
        print(f"  written to {file}")


def folder() -> Path:
    """Where this machine's figures of the tuner are kept, beside those of ``convopt bench``."""
    return RESULTS / (re.sub(r"[^a-z0-9]+", "-", cpu_name(gather()).lower()).strip("-") or "cpu") / "tuner"
