"""Measuring a machine: the constants that the cost model needs, once per machine."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from convopt.algorithms.parallel import usable_cores
from convopt.plan import ConvPlan
from convopt.shape import ConvShape

from .candidates import Candidate, Request, applicable
from .cost_model import Speeds, estimate, kind, measured_sizes
from .measure import default_of
from .measure_steps import undisturbed

#: Layers that show how far an algorithm is from what it says of itself: dense and depthwise ones, within the caches and beyond.
TYPICAL_SHAPES = (
    ConvShape(1, 28, 28, 96, 96, 3, 3, pads=((1, 1), (1, 1))),
    ConvShape(1, 14, 14, 256, 256, 3, 3, pads=((1, 1), (1, 1))),
    ConvShape(1, 28, 28, 128, 256, 1, 1),
    ConvShape(1, 28, 28, 96, 96, 3, 3, pads=((1, 1), (1, 1)), groups=96),
    ConvShape(1, 56, 56, 96, 96, 7, 7, pads=((3, 3), (3, 3)), groups=96),
)
#: A candidate is timed by so many calls, or for so many seconds, but a few times at least.
CALLS, SECONDS, LEAST_CALLS = 20, 0.01, 4
#: What ``speeds`` takes, roughly.
SECONDS_OF_ALL = 0.7


def speeds() -> Speeds:
    """This machine's constants for the cost model, measured in some tenths of a second."""
    with undisturbed():
        cores = min(usable_cores(), 8)
        level2, level3, beyond = measured_sizes()
        direct, tiny = (default_of("direct", shape) for shape in (TYPICAL_SHAPES[0], ConvShape(1, 8, 8, 16, 16, 3, 3)))
        alone, together = (_fastest_call(*tiny, threads) for threads in (1, min(2, cores)))
        memory = _pass_speed(beyond, 1)
        found = Speeds(
            peak=direct[1].work.gemm_flops / direct[1].work.gemm_efficiency / _fastest_call(*direct, 1),
            level2=_pass_speed(level2, 1),
            level3=_pass_speed(level3, 1),
            memory=memory,
            memory_all=max(memory, _pass_speed(beyond // cores, cores)) if cores > 1 else memory,
            wake=min(max(together - alone / 2, 5e-7), 1e-4),
        )
        ratios: dict[str, list[float]] = {}
        for shape in TYPICAL_SHAPES:
            for name in applicable(shape):
                request, candidate = default_of(name, shape)
                ratio = _fastest_call(request, candidate, 1) / estimate(candidate, request, found)
                ratios.setdefault(kind(name, shape), []).append(min(max(ratio, 0.25), 4.0))
        return replace(found, slowness={name: median(of_kind) for name, of_kind in ratios.items()})


def _fastest_call(request: Request, candidate: Candidate, threads: int) -> float:
    shape = request.shape
    draw = np.random.default_rng(1)  # spectra of what is all the same are zeros and the smallest of numbers: slow ones
    x, filters = (draw.standard_normal(size, dtype=np.float32) for size in (shape.input_shape, shape.filters_shape))
    plan = ConvPlan(shape, candidate.algorithm, dict(candidate.params), filters, threads=threads)
    times: list[float] = []
    while len(times) < LEAST_CALLS or (len(times) < CALLS and sum(times) < SECONDS):
        start = perf_counter()
        plan(x)
        times.append(perf_counter() - start)
    return min(times)


def _pass_speed(nbytes: int, threads: int) -> float:
    """Bytes per second, read plus written, of passes whose source and target together have `nbytes` per thread.

    Each negates what it reads: a plain copy may be the CPU's own string instruction, which on some takes ten times as long
    for certain addresses (Zen 3: 4 GB/s from L2).
    """
    from concurrent.futures import ThreadPoolExecutor  # takes long to import, and most processes never measure

    arrays = [(np.ones(nbytes // 8, np.float32), np.ones(nbytes // 8, np.float32)) for _ in range(threads)]
    repeats = max(1, (1 << 21) // nbytes)

    def negate(pair: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
        for _ in repeat(None, repeats):
            np.negative(pair[0], out=pair[1])

    times = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(4):
            start = perf_counter()
            if threads == 1:
                negate(arrays[0])
            else:
                list(pool.map(negate, arrays))
            times.append(perf_counter() - start)
    return nbytes * repeats * threads / min(times)
