"""The cost model: what its estimates grow with, and the speeds it is fed with."""

from dataclasses import replace

import pytest
from made_up import REQUEST, SHAPE, candidate

from convopt.algorithms.contract import Work
from convopt.tuning import cost_model


def estimate(request=REQUEST, speeds=cost_model.TYPICAL["avx2"], **more):
    return cost_model.estimate(candidate(1, **more), request, speeds)


def test_estimates_grow_with_what_there_is_to_do():
    base = estimate()
    assert estimate(megaflops=20) > base
    assert estimate(layout_bytes=10**6) > base
    assert estimate(work=Work(1e7, 0.45, 0.0, 0.0, 100)) > base
    assert estimate(work=Work(1e7, 0.9, 1e7, 0.0, 100)) > base
    assert estimate(work=Work(1e7, 0.9, 0.0, 1e7, 100)) > base
    assert estimate(replace(REQUEST, constant_filters=False), packed_bytes=10**6) > estimate(packed_bytes=10**6)
    assert estimate(replace(REQUEST, shape=replace(SHAPE, dtype="float64"))) > base
    assert estimate(speeds=cost_model.TYPICAL["generic"]) > base > estimate(speeds=cost_model.TYPICAL["avx512"])


def test_an_algorithm_known_to_be_slower_than_it_says_is_estimated_so():
    slow = replace(cost_model.TYPICAL["avx2"], slowness={"direct": 2.0})
    assert estimate(speeds=slow) == pytest.approx(2 * estimate(), rel=0.02)
    assert estimate(replace(REQUEST, shape=replace(SHAPE, groups=32)), speeds=slow) == estimate()


def test_threads_help_where_there_is_work_for_them():
    two = replace(REQUEST, threads=2)
    assert estimate(two, megaflops=100) < 0.6 * estimate(megaflops=100)
    assert estimate(two, work=Work(1e7, 0.9, 0.0, 0.0, 1)) == estimate(work=Work(1e7, 0.9, 0.0, 0.0, 1))
    assert estimate(two, megaflops=0.01) > estimate(megaflops=0.01)
    three_parts = Work(1e8, 0.9, 0.0, 0.0, 3)
    assert estimate(two, work=three_parts) > 0.6 * estimate(work=three_parts)


def test_speeds_survive_json_and_nonsense_is_refused():
    speeds = cost_model.TYPICAL["avx512"]
    assert cost_model.Speeds.from_json(speeds.to_json()) == speeds
    assert cost_model.Speeds.from_json(replace(speeds, slowness={"fft": 2.0}).to_json()).slowness == {"fft": 2.0}
    for bad in (
        None,
        1,
        {},
        {**speeds.to_json(), "peak": "x"},
        {**speeds.to_json(), "peak": 0},
        {**speeds.to_json(), "more": 1},
        {**speeds.to_json(), "slowness": {"fft": -1}},
    ):
        assert cost_model.Speeds.from_json(bad) is None


@pytest.mark.parametrize("level2", [1 << 18, 1 << 21])
def test_more_threads_never_read_slower_nor_faster_than_all_of_memory(monkeypatch, level2):
    monkeypatch.setattr(cost_model.machine, "cache_bytes", {2: level2, 3: 32 << 20}.get)
    speeds = cost_model.TYPICAL["avx2"]
    for footprint in (1 << 20, 1 << 26, 1 << 34):
        found = [cost_model._bandwidth(footprint, busy, speeds) for busy in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
        assert found == sorted(found)
        assert found[-1] > 0
    assert found == pytest.approx([min(busy * speeds.memory, speeds.memory_all) for busy in (1, 2, 4, 8, 16, 32, 64, 128, 256)])
