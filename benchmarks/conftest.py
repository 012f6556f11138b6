"""Questions about convopt's own kernels, answered by pytest-benchmark; not tests, so only `pytest benchmarks/` runs them.

    pytest benchmarks/ --benchmark-save=before        # change something, build, and then
    pytest benchmarks/ --benchmark-compare --benchmark-compare-fail=min:10%
    pytest benchmarks/test_growth.py -k kernel --threads 2

How convopt fares against other engines is another question: `convopt bench` answers that one.
"""

import numpy as np
import pytest

import convopt


def pytest_addoption(parser):
    """--threads N, for all of them."""
    parser.addoption("--threads", type=int, default=1, help="threads to run on")


@pytest.fixture(scope="session")
def threads(request):
    """Threads to run on."""
    return request.config.getoption("--threads")


@pytest.fixture
def run(benchmark, threads):
    """Benchmarks a plan for a ConvShape; notes in extra_info what pytest-benchmark does not know of convolutions."""

    def measure(shape, algorithm="auto", tune="measure", threads=threads):
        x, filters = arguments(shape)
        options = {"dilations": shape.dilations, "algorithm": algorithm, "tune": tune, "threads": threads}
        plan = convopt.plan(x.shape, filters, shape.strides, shape.pads, **options)
        y = plan(x)
        benchmark(plan, x, out=y)
        benchmark.extra_info |= {
            "choice": plan.algorithm + str(plan.params),
            "workspace_bytes": plan.workspace_bytes,
            "packed_bytes": plan.packed_bytes,
            "im2col_bytes": shape.n * shape.oh * shape.ow * shape.depth * shape.groups * shape.itemsize,
        }
        if benchmark.stats is not None:  # --benchmark-disable
            benchmark.extra_info["gflops"] = round(shape.flops / benchmark.stats.stats.min / 1e9, 1)
        return plan

    return measure


def arguments(shape):
    """Input and filters of a ConvShape, the same each time."""
    draw = np.random.default_rng(7)
    x = draw.standard_normal(shape.input_shape, dtype=np.float32)
    return x, draw.standard_normal(shape.filters_shape, dtype=np.float32) / np.float32(shape.depth**0.5)
