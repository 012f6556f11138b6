"""What tests of benchmarks share: sources of engines, results of made-up times."""

import sys

import numpy as np

from convopt.bench import race, results
from convopt.bench.engines import PEERS
from convopt.bench.race import Effort, Outcome, Timing
from convopt.cli import info
from convopt.tuning import networks

LAYERS = networks.read_shapes(["small 1x9x8x4 3x3x4x8 pad=SAME stride=2", "tiny_dw 1x6x6x4 3x3x1x4 x3"])
BRIEF = Effort(rounds=2, seconds=0.001)

#: An engine that is right, in a few lines; the others below break it in one way each.
RIGHT = """
import numpy as np

def start(engine, threads):
    print("engines print what they like")

def prepare(engine, threads, problem):
    x = np.pad(problem.x, ((0, 0), *problem.pads, (0, 0)))
    r, s, group_c, k = problem.w.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (r, s), axis=(1, 2))
    windows = windows[:, :: problem.strides[0], :: problem.strides[1]]
    def call():
        parts = []
        for g in range(problem.groups):
            inputs, outputs = slice(g * group_c, (g + 1) * group_c), slice(g * k // problem.groups, (g + 1) * k // problem.groups)
            parts.append(np.einsum("nhwcrs,rsck->nhwk", windows[..., inputs, :, :], problem.w[..., outputs]))
        return np.concatenate(parts, -1)
    return call, lambda y: y, {"seen": engine}
"""
PLANTED = {
    "right": RIGHT,
    "wrong": RIGHT.replace("lambda y: y,", "lambda y: y * 1.01,"),
    "cropped": RIGHT.replace("lambda y: y,", "lambda y: y[:, 1:],"),
    "raising": RIGHT.replace("def call():", "def call():\n        raise RuntimeError('no such kernel')"),
    "crashing": RIGHT.replace("def call():", "def call():\n        import os; os.kill(os.getpid(), 11)"),
    "hanging": RIGHT.replace("def call():", "def call():\n        import time; time.sleep(60)"),
    "slow": RIGHT.replace("def call():", "def call():\n        import time; time.sleep(0.05)"),
    "hungry": RIGHT.replace("    x = np", "    held = np.ones(16 << 20, np.float32)\n    x = np", 1),
    "absent": "import a_package_nobody_has",
    "picky": RIGHT.replace(
        "    x = np", "    from problem import NotServedError\n    if problem.groups > 1: raise NotServedError('no groups')\n    x = np"
    ),
}


def raced(names, layers=LAYERS, threads=(1,), effort=BRIEF):
    doing = []
    outcome = race.race(layers, names, threads, effort, sys.executable, lambda count, what: doing.extend([what] * count))
    assert len(doing) == race.steps(layers, list(dict.fromkeys(("convopt", *names))), threads)
    return outcome


def planted_results(tmp_path, name="run", factor=1.0, noise=0.0, slow=(), threads=(1, 2), peers=PEERS[:3], seed=0):
    """A results file of made-up times: `factor` times slower in all, 10 % slower on the layers in `slow`."""
    draw = np.random.default_rng(seed)
    layers = networks.network("public")[:12]
    timings = []
    for count in threads:
        for layer in layers:
            for engine in ("convopt", *peers):
                base = layer.shape.flops / (60e9 if engine == "convopt" else 40e9) / count * factor
                base *= 1.1 if engine == "convopt" and layer.name in slow else 1.0
                rounds = [[base * (1 + noise * draw.random()) for _ in range(4)] for _ in range(5)]
                facts = {}
                if engine == "convopt":
                    contenders = [
                        {"label": "direct:nv=3", "algorithm": "direct", "seconds": base, "error": 2e-7, "estimate": 2e-3},
                        {"label": "winograd:t=6", "algorithm": "winograd", "seconds": base * 1.3, "error": 5e-6, "estimate": 1e-3},
                    ]
                    facts = {"choice": "direct:nv=3", "algorithm": "direct", "error": 2e-7, "contenders": contenders}
                    facts |= {"tuning_seconds": 0.25, "workspace_bytes": 4096, "packed_bytes": 1 << 16, "packing_seconds": base * 0.2}
                timings.append(Timing(layer.name, engine, count, rounds, 1e-7, facts, 1 << 26))
    outcome = Outcome(timings, [{"layer": layers[0].name, "engine": "ncnn", "threads": 1, "failed": "broke <down>"}], {"jax": "No module"})
    cells = [
        {"kernel": k, "channels": c, "size": 56, "algorithm": "fft" if k > 3 else "direct", "label": "x", "seconds": 1e-3, "gflops": 9.0,
         "second": "direct", "second_seconds": 2e-3 if k > 1 else None}
        for k in (1, 3, 7) for c in (1, 16)
    ]  # fmt: skip
    level = [{"level": "L1", "bytes": 1, "gbps": 200.0}, {"level": "memory", "bytes": 1, "gbps": 12.0}]
    extra = {"limits": {str(count): {"gflops": 100.0 * count, "bandwidth": level} for count in threads}}
    extra["sweep"] = {"threads": 1, "cells": cells}
    extra |= planted_studies(threads, ("convopt", *peers))
    settings = {"rounds": 5, "seconds": 0.04, "remembered": False, "quick": False}
    versions = {"torch": "1.0", "convopt": "0.1"}
    value = results.document(outcome, layers, "public", info.gather(), versions, settings, **extra)
    return results.save(value, to=tmp_path / f"{name}.json")


def planted_studies(threads, names):
    """What the studies leave, of made-up times."""
    seconds = {name: 2e-3 * (1 + number) for number, name in enumerate(names)}
    forward = {name: {"seconds": value, "median": value, "noise": 0.0, "grown": 1 << 25} for name, value in seconds.items()}
    entry = {"title": "VGG-16", "flops": 10**9, "sums": {}, "forward": {str(count): forward for count in threads}}
    points = [
        {"value": value, "flops": 1, "algorithm": "direct", "seconds": {n: s * value for n, s in seconds.items()}} for value in (1, 2, 4)
    ]
    return {
        "networks": {"vgg16": entry | {"sums": {str(count): seconds for count in threads}}},
        "growth": {"threads": 1, "curves": dict.fromkeys(("batch", "channels", "image", "kernel"), points)},
        "calls": {str(count): dict.fromkeys(names, 1e-06) for count in threads},
        "footprints": dict.fromkeys(names, 1 << 25),
        "took": 90.0,
    }
