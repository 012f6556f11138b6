"""Benchmarks of whole networks: what they are made of, and that engines which run them agree."""

import sys
from collections import Counter
from types import SimpleNamespace

import pytest

pytest.importorskip("typer", reason="the command line's extras are not installed: pip install 'convopt[cli]'")

from planted import planted_results

from convopt.bench import process, race, results, run, studies
from convopt.bench.engines import ENGINES, Engine
from convopt.bench.networks import NETWORKS, Convolution, Network, Pooling
from convopt.bench.race import Effort
from convopt.bench.whole import networks_of
from convopt.tuning import networks

#: By the definition, in float64: slow, short, and of nobody else's making.
NAIVE = """
import numpy as np

def start(engine, threads):
    pass

def prepare(engine, threads, problem):
    raise NotImplementedError

def windows(x, size, strides, pads, fill):
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    found = np.lib.stride_tricks.sliding_window_view(x, size, axis=(1, 2))
    return found[:, :: strides[0], :: strides[1]]

def convolve(step, x, plus):
    seen = windows(x, step.w.shape[:2], step.strides, step.pads, 0)
    parts = [
        np.einsum("nhwcrs,rsck->nhwk", inputs, filters)
        for inputs, filters in zip(np.split(seen, step.groups, 3), np.split(step.w, step.groups, 3))
    ]
    y = np.concatenate(parts, -1) + step.b + (0 if plus is None else plus)
    return {None: y, "relu": np.maximum(y, 0), "relu6": np.clip(y, 0, 6)}[step.activation]

def pool(step, x):
    return windows(x, (step.window,) * 2, (step.stride,) * 2, ((step.pad,) * 2,) * 2, -np.inf).max((4, 5))

def forward(engine, threads, network):
    return lambda: network.walk(network.x.astype(np.float64), convolve, pool), lambda y: y, {}
"""


def small():
    """A network that has everything networks have: shortcuts, poolings with and without pads, groups, both activations."""
    network = Network("small", "Small", (2, 12, 11, 4))
    value = network.pool(network.convolve(0, 3, 8, 2, activation="relu6"), 3, 2, 1)
    shortcut = network.convolve(value, 1, 16, activation=None)
    inner = network.convolve(network.convolve(value, 1, 16), 3, 16, groups=16)
    value = network.convolve(inner, 1, 16, plus=shortcut)
    value = network.convolve(value, 1, 16, plus=value, activation=None)
    network.convolve(network.pool(value, 2, 1), 1, 5, activation=None)
    return network


@pytest.fixture
def naive(tmp_path, monkeypatch, planted):
    """Two engines that run whole networks, one of them wrongly."""
    wrong = NAIVE.replace("lambda y: y,", "lambda y: y * 1.01,")
    for name, source in {"naive": NAIVE, "wrong_naive": wrong}.items():
        (tmp_path / f"planted_{name}.py").write_text(source)
        monkeypatch.setitem(ENGINES, name, Engine(name, name.title(), f"planted_{name}", ("numpy",)))


def session(names, done=lambda count, doing: None):
    return race.Session(names, 1, sys.executable, done)


@pytest.mark.usefixtures("naive")
def test_engines_agree_on_a_whole_network():
    with session(["naive", "wrong_naive", "right"]) as engines:
        outcome = engines.forward(small(), Effort(1, 0.001))
    by_name = {each.engine: each for each in outcome.timings}
    assert set(by_name) == {"convopt", "naive"}
    assert by_name["naive"].difference < 1e-5
    assert sum(by_name["convopt"].facts["algorithms"].values()) == 7
    reasons = {each["engine"]: each.get("failed") or each["not_served"] for each in outcome.not_timed}
    assert "differs from convopt's by 1.0e-02" in reasons["wrong_naive"]
    assert reasons["right"] == "no whole networks"


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_those_of_the_lists(name):
    """The same convolutions as often; a list may pad at one side where here both are padded, which all engines can do."""

    def sizes(shape):
        return (*shape.input_shape, *shape.filters_shape, *shape.strides, shape.oh, shape.ow)

    network = NETWORKS[name]()
    counts = Counter()
    for layer in networks.network(name):
        counts[sizes(layer.shape)] += layer.count
    assert Counter(sizes(step.shape) for step in network.convolutions) == counts
    assert all(before == after for step in network.convolutions for before, after in step.shape.pads)


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_read_what_earlier_steps_made(name):
    network = NETWORKS[name]()
    for number, step in enumerate(network.steps):
        assert 0 <= step.source <= number
        if isinstance(step, Pooling):
            assert network.sizes_of(step.source) == step.sizes
            continue
        assert network.sizes_of(step.source) == step.shape.input_shape
        if step.plus is not None:
            assert network.sizes_of(step.plus) == step.shape.output_shape
    assert isinstance(network.steps[-1], Convolution)


def test_values_are_released_after_their_last_use(monkeypatch):
    monkeypatch.syspath_prepend(process.WORKER.parent)
    import network as worker_side

    steps = [SimpleNamespace(number=n, source=s, plus=p) for n, (s, p) in enumerate([(0, None), (1, None), (1, 2), (3, None)])]
    released = []
    chain = worker_side.Network(None, steps)
    last = chain.walk("0", lambda step, x, plus: f"{step.number + 1}", None, released.append)
    assert last == "4"
    assert released == ["1", "2", "3"]


@pytest.mark.usefixtures("naive")
def test_a_run_measures_what_was_planned(monkeypatch):
    """All studies at a size that says nothing about speed."""
    tiny = [networks.layer("small_1 1x6x6x4 3x3x4x4 pad=SAME x2"), networks.layer("small_2 1x6x6x4 1x1x4x8")]
    known = networks.network
    monkeypatch.setattr(networks, "network", lambda name: tiny if name == "small" else known(name))
    for module in (run, studies):
        monkeypatch.setattr(module, "NETWORKS", {"small": small})
    monkeypatch.setattr(studies, "GROWTH", {"batch": (1, 2), "kernel": (1, 3)})
    monkeypatch.setattr(studies, "BASE", {"batch": 1, "image": 5, "channels": 4, "kernel": 3})
    monkeypatch.setattr(studies, "FAST", ("right",))
    monkeypatch.setattr(studies, "LAYER_EFFORT", Effort(1, 0.001))
    monkeypatch.setattr(studies, "NETWORK_EFFORT", Effort(1, 0.001))
    monkeypatch.setattr(run.limits, "measure", lambda threads, step: [step("limits") for _ in threads] and {})
    monkeypatch.setattr(run.sweep, "cells", list)
    everything = {"networks": ["small"], "sums": True, "growth": True, "map": True}
    plan = run.Plan(tiny[:1], ["convopt", "right", "naive"], [1, 2], Effort(1, 0.001), sys.executable, **everything)
    done = []
    outcome, extra = run.measure(plan, lambda count, doing: done.append(count))
    assert sum(done) == pytest.approx(plan.steps())
    assert {(each.layer, each.threads) for each in outcome.timings} == {("small_1", 1), ("small_1", 2)}
    entry = extra["networks"]["small"]
    for threads in ("1", "2"):
        assert set(entry["sums"][threads]) == {"convopt", "right"}, "of those only that compute every layer"
        assert set(entry["forward"][threads]) == {"convopt", "naive"}
        assert set(extra["calls"][threads]) == {"convopt", "right"}
    once = {each.engine: each.fastest for each in outcome.timings if each.threads == 1}
    assert entry["sums"]["1"]["right"] > 2 * once["right"], "a layer counts as often as its network has it"
    assert [point["value"] for point in extra["growth"]["curves"]["batch"]] == [1, 2]
    assert set(extra["growth"]["curves"]["batch"][0]["seconds"]) == {"convopt", "right"}
    assert set(extra["footprints"]) == {"convopt", "right", "naive"}
    assert extra["took"] > 0


def test_networks_in_results(tmp_path):
    found = results.read(planted_results(tmp_path))
    (one, two) = networks_of(found)
    assert (one.title, one.threads, two.threads) == ("VGG-16", 1, 2)
    assert (one.peer, one.ratio) == ("torch_nchw", 2.0)
    assert networks_of(found, "sums")[0].of_engines["convopt"] == 2e-3


def test_growth_starts_from_one_layer():
    layers = studies.growth_layers()
    assert set(layers) == set(studies.BASE)
    shapes = [{layer.shape for layer in each} for each in layers.values()]
    assert len(set.intersection(*shapes)) == 1, "the curves meet in the layer that all grow from"
