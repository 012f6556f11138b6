"""What the tables of a report say: plain values, ready to be formatted."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from convopt.bench.engines import ENGINES
from convopt.bench.results import Results, geomean
from convopt.bench.whole import networks_of
from convopt.shape import ConvShape
from convopt.tuning.records import FLIP


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
    """One layer in a table.

    share: of what the machine allows the direct algorithm. seconds: by engine, None where it was not timed. peer: title of the best one.
    """

    layer: str
    sizes: str
    choice: str
    error: float | None
    gflops: float
    share: float | None
    noise: float
    ratio: float | None
    peer: str
    seconds: dict[str, float | None]
    fastest: str


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
        limit = allowed(results, own.shape, threads)
        found.append(
            Line(
                layer=layer,
                sizes=f"{'x'.join(map(str, own.shape.input_shape))} by {'x'.join(map(str, own.shape.filters_shape))}",
                choice=str(own.facts.get("choice", "")),
                error=own.facts.get("error"),
                gflops=own.gflops,
                share=None if limit is None else own.gflops / limit,
                noise=own.noise,
                ratio=ratios.get(layer),
                peer="" if peer is None else ENGINES[peer.engine].title,
                seconds=seconds,
                fastest=min(timed, key=lambda name: timed[name]),
            )
        )
    return found


def traffic(shape: ConvShape) -> int:
    """Bytes that any algorithm must move: input, filters, output, once."""
    inputs = shape.n * shape.h * shape.w * shape.c
    filters = shape.r * shape.s * shape.group_c * shape.k
    outputs = shape.n * shape.oh * shape.ow * shape.k
    return (inputs + filters + outputs) * shape.itemsize


def allowed(results: Results, shape: ConvShape, threads: int) -> float | None:
    """GFLOP/s that this machine allows the direct algorithm on a layer: the peak, or what moving its tensors once leaves of it.

    They come from the nearest cache that holds them all, as they do where a layer is called again and again. None where the
    machine's limits were not measured.
    """
    limits = results.about.get("limits", {}).get(str(threads))
    if limits is None:
        return None
    tensors, caches = traffic(shape), results.about["caches"]
    sizes = {"L1": threads * caches.get("L1d", 0), "L2": threads * caches.get("L2", 0), "L3": caches.get("L3", 0)}
    near = (each["gbps"] for each in limits["bandwidth"] if sizes.get(each["level"], 0) >= tensors)
    bandwidth = next(near, limits["bandwidth"][-1]["gbps"])
    return float(min(limits["gflops"], shape.flops / tensors * bandwidth))


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
            right = sum(regret <= FLIP for regret in regrets.values())
            values = {"threads": threads, "layers": len(regrets), "right": right, "geomean": geomean(list(regrets.values()))}
            found.append(values | {"worst": regrets[worst], "worst_layer": worst, "seconds": seconds})
    return found


def memory(results: Results, threads: int) -> list[dict[str, Any]]:
    """Bytes by layer: convopt's scratch memory and packed filters, filters and input, and the whole matrix of im2col."""
    return [
        {
            "layer": layer,
            "workspace": row.facts["workspace_bytes"],
            "packed": row.facts["packed_bytes"],
            "filters": row.shape.depth * row.shape.k * row.shape.itemsize,
            "input": row.shape.n * row.shape.h * row.shape.w * row.shape.c * row.shape.itemsize,
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


def payback(results: Results, threads: int) -> list[dict[str, Any]]:
    """By layer, what comes before the first call, and after how many calls it has paid off.

    packing: seconds to reorder or transform filters. tuning: seconds to measure all candidates. packed_calls: calls until
    packing and calling is faster than the fastest engine that takes its filters with each call. tuned_calls: calls until
    measuring has paid off against the cost model's favourite. Infinite where it never does, None where that is unknown.
    """
    found = []
    fresh = [name for name in results.engines if not ENGINES[name].constant_filters and not ENGINES[name].is_own]
    rows = {name: results.of(name, threads) for name in fresh}
    for layer, row in results.of("convopt", threads).items():
        if "packing_seconds" not in row.facts:
            continue
        rivals = [rows[name][layer].seconds for name in fresh if layer in rows[name]]
        packing, tuning = row.facts["packing_seconds"], row.facts["tuning_seconds"]
        timed = [each for each in row.facts.get("contenders", []) if each["seconds"]]
        guess = min(timed, key=lambda each: each["estimate"])["seconds"] if timed else None
        best = min((each["seconds"] for each in timed), default=None)
        found.append(
            {
                "layer": layer,
                "seconds": row.seconds,
                "packing": packing,
                "packed_calls": _calls(packing, min(rivals) - row.seconds) if rivals else None,
                "tuning": tuning,
                "tuned_calls": None if guess is None or best is None or guess <= best * FLIP else _calls(tuning, guess - best),
            }
        )
    return found


def _calls(cost: float, gain: float) -> float:
    return math.inf if gain <= 0 else math.ceil(cost / gain)


def overheads(results: Results) -> list[dict[str, Any]]:
    """By engine, seconds of a call that does next to nothing, by number of threads; the quickest first."""
    calls = results.about.get("calls", {})
    threads = sorted(calls, key=int)
    names = {name for each in calls.values() for name in each if name in ENGINES}
    rows: list[dict[str, Any]] = [
        {"engine": ENGINES[name].title, "seconds": {count: calls[count].get(name) for count in threads}} for name in names
    ]
    return sorted(rows, key=lambda each: each["seconds"][threads[0]] or math.inf)


def network_memory(results: Results) -> dict[str, Any]:
    """{"networks": titles, "rows": [{"engine", "footprint", "grown": bytes by network}]}, as they were with fewest threads.

    footprint: of the process before it computes anything; grown: by how much at most it grew, filters and input included.
    """
    wholes = [each for each in networks_of(results) if each.threads == min(results.threads)]
    footprints = results.about.get("footprints", {})
    names = [name for name in ENGINES if name in footprints and any(name in each.facts for each in wholes)]
    rows = [
        {
            "engine": ENGINES[name].title,
            "footprint": footprints[name],
            "grown": [each.facts.get(name, {}).get("grown") for each in wholes],
        }
        for name in names
    ]
    return {"networks": [each.title for each in wholes], "rows": rows}


def tuner_figures(results: Results) -> list[dict[str, Any]]:
    """What the scripts of ``benchmarks/`` found out about the tuner on this CPU, where they left it: [{"name", "date", "figures"}]."""
    found = []
    here = results.path.parent
    for file in sorted([*here.glob("tuner/*.json"), *here.glob("tuner_*.json")]):
        try:
            value = json.loads(file.read_text())
            figures = {str(key): _figure(each) for key, each in value["figures"].items()}
            found.append({"name": file.stem.removeprefix("tuner_").replace("_", " "), "date": str(value["date"]), "figures": figures})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
