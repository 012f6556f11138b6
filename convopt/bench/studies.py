"""What is measured besides a list of layers: whole networks, growth of one size after another, and calls that do next to nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from convopt.bench.networks import NETWORKS
from convopt.bench.race import Effort, Outcome, Session, Timing
from convopt.shape import ConvShape
from convopt.tuning import networks as lists
from convopt.tuning.networks import Layer

#: The studies, by name, with what they answer.
STUDIES = {
    "networks": "whole networks: the sum of their convolutions, and all of them in a row",
    "growth": "how time grows with batch, channels, image and kernel, and what a call costs that does next to nothing",
    "map": "which algorithm wins for which kernel, number of channels and image",
}
#: Of all steps of progress, one is an engine on a layer of the list.
LAYER_STEP, FORWARD_STEP, GROWTH_STEP = 0.35, 3.0, 0.4

#: Engines of images' filters, and ways of the same engine that differ in a call's beginning only, sum nothing up.
LEFT_OUT = ("convopt_fresh", "scipy", "opencv")
#: The peers that are fastest on most layers, for curves.
FAST = ("torch_prepacked", "onnxruntime", "openvino", "ncnn")

#: One layer in the middle of ResNet-50, of which one size at a time grows.
BASE = {"batch": 1, "image": 28, "channels": 128, "kernel": 3}
GROWTH = {
    "batch": (1, 2, 4, 8, 16),
    "channels": (4, 8, 16, 32, 64, 128, 256, 512),
    "image": (7, 14, 28, 56, 112),
    "kernel": (1, 3, 5, 7, 9, 11, 15),
}
#: The smallest problem there is: its time is what a call costs.
NOTHING = Layer("1x1 pixel", ConvShape.from_arguments((1, 1, 1, 1), (1, 1, 1, 1)))

NETWORK_EFFORT, LAYER_EFFORT = Effort(rounds=3), Effort(rounds=2, seconds=0.015, most=1)


def growth_layers() -> dict[str, list[Layer]]:
    """By what grows, layers in rising order."""
    found: dict[str, list[Layer]] = {}
    for name, values in GROWTH.items():
        for value in values:
            n, size, c, kernel = (BASE | {name: value}).values()
            shape = ConvShape.from_arguments((n, size, size, c), (kernel, kernel, c, c), padding="SAME")
            found.setdefault(name, []).append(Layer(f"{name} {value}", shape))
    return found


def network_layers(known: Sequence[Layer] = ()) -> list[Layer]:
    """The distinct convolutions of all networks that are run as a whole, those in `known` left out."""
    seen = {layer.shape for layer in known}
    found = []
    for name in NETWORKS:
        for layer in lists.network(name):
            if layer.shape not in seen:
                seen.add(layer.shape)
                found.append(Layer(f"{name} {layer.name}", layer.shape))
    return found


def summing(engines: Sequence[str]) -> list[str]:
    """Of these engines those that compute networks' layers."""
    return [name for name in engines if name not in LEFT_OUT]


def chaining(engines: Sequence[str]) -> list[str]:
    """Of these engines those that run whole networks."""
    return [name for name in summing(engines) if name != "torch_blocked"]


def growing(engines: Sequence[str]) -> list[str]:
    """Of these engines those that curves are drawn of."""
    return [name for name in engines if name in FAST or name == "convopt"]


def sums(session: Session, engines: Sequence[str], known: Sequence[Layer], timings: Sequence[Timing]) -> dict[str, Any]:
    """By network {engine: seconds of all its convolutions, each as often as it occurs}, of engines that serve every one.

    known, timings: layers that were raced already, and their times with this session's number of threads.
    """
    outcome = session.race(network_layers(known), LAYER_EFFORT, summing(engines), LAYER_STEP)
    session.outcome.not_timed += outcome.not_timed
    shapes = {layer.name: layer.shape for layer in (*known, *network_layers(known))}
    seconds = {(each.engine, shapes[each.layer]): each.fastest for each in (*timings, *outcome.timings)}
    found: dict[str, Any] = {}
    for name in NETWORKS:
        layers = lists.network(name)
        found[name] = {
            engine: sum(seconds[engine, layer.shape] * layer.count for layer in layers)
            for engine in summing(engines)
            if all((engine, layer.shape) in seconds for layer in layers)
        }
    return found


def forwards(session: Session, engines: Sequence[str], names: Sequence[str], effort: Effort = NETWORK_EFFORT) -> dict[str, Any]:
    """By network {engine: {"seconds", "median", "noise", "difference", "held", "grown", ...}}, all convolutions in a row."""
    found: dict[str, Any] = {}
    for name in names:
        outcome = session.forward(NETWORKS[name](), effort, chaining(engines), FORWARD_STEP)
        session.outcome.not_timed += outcome.not_timed
        found[name] = {}
        for each in outcome.timings:
            samples = [seconds for samples in each.rounds for seconds in samples]
            median = statistics.median(samples)
            noise = statistics.median(min(samples) for samples in each.rounds) / each.fastest - 1
            figures = {"seconds": each.fastest, "median": median, "noise": round(noise, 6), "difference": each.difference}
            found[name][each.engine] = figures | each.facts
    return found


def growth(session: Session, engines: Sequence[str]) -> dict[str, Any]:
    """By what grows [{"value", "flops", "algorithm", "seconds": {engine: seconds}}, ...]."""
    found: dict[str, Any] = {}
    for name, layers in growth_layers().items():
        outcome = session.race(layers, LAYER_EFFORT, growing(engines), GROWTH_STEP)
        found[name] = []
        for layer, value in zip(layers, GROWTH[name], strict=True):
            timings = {each.engine: each for each in outcome.timings if each.layer == layer.name}
            if "convopt" in timings:
                point = {"value": value, "flops": layer.shape.flops, "algorithm": timings["convopt"].facts["algorithm"]}
                found[name].append(point | {"seconds": {engine: each.fastest for engine, each in timings.items()}})
    return found


def calls(session: Session, engines: Sequence[str]) -> dict[str, float]:
    """{engine: seconds} of a call that does next to nothing."""
    wanted = [name for name in engines if name not in ("scipy", "opencv")]
    return {each.engine: each.fastest for each in session.race([NOTHING], LAYER_EFFORT, wanted, GROWTH_STEP).timings}


def titles() -> dict[str, str]:
    """Networks' titles by name."""
    return {name: make().title for name, make in NETWORKS.items()}


def merge(into: Outcome, repeated: Outcome) -> None:
    """Rounds of layers that were raced once more, to those they had."""
    before = {(each.layer, each.engine, each.threads): each for each in into.timings}
    for each in repeated.timings:
        timing = before.get((each.layer, each.engine, each.threads))
        if timing is not None:
            timing.rounds += each.rounds
            timing.canary += each.canary
