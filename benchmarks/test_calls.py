"""What a call costs besides the work: overhead on next to nothing, and packing filters."""

from time import perf_counter

import numpy as np
import pytest
from conftest import arguments

import convopt
from convopt.tuning import networks

LAYERS = {layer.name: layer.shape for layer in networks.network("public")}


@pytest.mark.parametrize("road", ["plan", "plan_out", "conv2d"])
def test_overhead(benchmark, threads, road):
    benchmark.group = "a call on 1x1x1x1"
    x, w = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    plan = convopt.plan(x.shape, w, threads=threads)
    y = plan(x)
    calls = {
        "plan": lambda: plan(x),
        "plan_out": lambda: plan(x, out=y),
        "conv2d": lambda: convopt.conv2d(x, w, threads=threads, tune="estimate"),
    }
    benchmark(calls[road])


@pytest.mark.parametrize("name", ["resnet50_3x3_64@56", "resnet50_3x3_512@7", "alexnet_5x5_96_256@27", "image_31x31_1@512"])
def test_packing(benchmark, threads, name):
    """extra_info: after how many calls packing has cost less than calling, which is where constant filters pay."""
    benchmark.group = "packing filters"
    shape = LAYERS[name]
    x, w = arguments(shape)
    plan = convopt.plan(x.shape, w, shape.strides, shape.pads, dilations=shape.dilations, threads=threads)
    benchmark(plan.update_filters, w)
    y = plan(x)
    calls = min(_seconds(lambda: plan(x, out=y)) for _ in range(20))
    if benchmark.stats is not None:
        benchmark.extra_info["calls_worth"] = round(benchmark.stats.stats.min / calls, 2)


def _seconds(call):
    start = perf_counter()
    call()
    return perf_counter() - start
