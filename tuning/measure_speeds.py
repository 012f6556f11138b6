"""Measuring a machine: the constants that the cost model needs, once per machine."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from convopt.algorithms.parallel import usable_cores
from convopt.plan import ConvPlan
from convopt.shape import ConvShape

from . import machine
from .candidates import Candidate, Request, applicable
from .cost_model import Speeds, estimate, kind
from .measure import default_of, undisturbed

#: Layers, dense and depthwise, that show how fast a machine is.
TYPICAL_SHAPES = (
    ConvShape(1, 28, 28, 96, 96, 3, 3, pads=((1, 1), (1, 1))),
    ConvShape(1, 28, 28, 96, 96, 3, 3, pads=((1, 1), (1, 1)), groups=96),
)


def speeds() -> Speeds:
    """This machine's constants for the cost model, measured in some tenths of a second."""
    with undisturbed():
        cores = min(usable_cores(), 8)
        level2, level3 = machine.cache_bytes(2) or 1 << 20, machine.cache_bytes(3) or 1 << 24
        direct, tiny = (default_of("direct", shape) for shape in (TYPICAL_SHAPES[0], ConvShape(1, 8, 8, 16, 16, 3, 3)))
        alone, together = (_fastest_call(*tiny, threads) for threads in (1, min(2, cores)))
        memory = _copy_speed(1 << 26, 1)
        found = Speeds(
            peak=direct[1].work.gemm_flops / direct[1].work.gemm_efficiency / _fastest_call(*direct, 1),
            level2=_copy_speed(level2 // 2, 1),
            level3=_copy_speed(min(level3 // 2, 1 << 23), 1),
            memory=memory,
            memory_all=max(memory, _copy_speed(1 << 25, cores)) if cores > 1 else memory,
            wake=min(max(together - alone / 2, 5e-7), 1e-4),
        )
        slowness = {}
        for shape in TYPICAL_SHAPES:
            for name in applicable(shape):
                request, candidate = default_of(name, shape)
                ratio = _fastest_call(request, candidate, 1) / estimate(candidate, request, found)
                slowness[kind(name, shape)] = min(max(ratio, 0.5), 4.0)
        return replace(found, slowness=slowness)


def _fastest_call(request: Request, candidate: Candidate, threads: int) -> float:
    shape = request.shape
    x, filters = np.ones(shape.input_shape, np.float32), np.ones(shape.filters_shape, np.float32)
    out = np.empty(shape.output_shape, np.float32)
    plan = ConvPlan(shape, candidate.algorithm, dict(candidate.params), filters, threads=threads)
    times = []
    for _ in range(20):
        start = perf_counter()
        plan(x, out=out)
        times.append(perf_counter() - start)
    return min(times)


def _copy_speed(nbytes: int, threads: int) -> float:
    """Bytes per second, read plus written, of copies whose source and target together have `nbytes` per thread."""
    from concurrent.futures import ThreadPoolExecutor  # takes long to import, and most processes never measure

    arrays = [(np.ones(nbytes // 2, np.uint8), np.ones(nbytes // 2, np.uint8)) for _ in range(threads)]
    repeats = max(1, (1 << 21) // nbytes)

    def copy(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
        for _ in repeat(None, repeats):
            np.copyto(pair[1], pair[0])

    times = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(4):
            start = perf_counter()
            if threads == 1:
                copy(arrays[0])
            else:
                list(pool.map(copy, arrays))
            times.append(perf_counter() - start)
    return nbytes * repeats * threads / min(times)
