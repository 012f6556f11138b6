"""Whole networks: all convolutions in a row, plans chained, NumPy for what lies between them.

How other engines fare on them is in the report of `convopt bench`.
"""

import sys

import pytest

from convopt.bench.networks import NETWORKS
from convopt.bench.process import WORKER


@pytest.mark.parametrize("name", NETWORKS)
def test_network(benchmark, threads, name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(WORKER.parent)  # where the worker's modules are neighbours
    import network as worker_side
    import own

    benchmark.group = "whole networks"
    network = NETWORKS[name]()
    network.write(tmp_path)
    call, _, facts = own.forward("convopt", threads, worker_side.Network.load(tmp_path, network.describe()))
    benchmark(call)
    benchmark.extra_info |= facts
    if benchmark.stats is not None:
        benchmark.extra_info["gflops"] = round(network.flops / benchmark.stats.stats.min / 1e9, 1)
    sys.modules.pop("network")
