"""Measuring: which candidate is right, and which is fastest, on the arrays of a request. The only module that looks at a clock.

First every candidate computes its result once, which is checked (see ``check``): a wrong or overrunning one is never
timed. Then the others race: in rounds, each once per round in random order, so that whatever disturbs the machine
disturbs all alike; those far behind drop out; the race ends when the leaders have not changed for some rounds. At the
end every result is checked once more.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from convopt.algorithms.parallel import usable_cores
from convopt.errors import WorkspaceError
from convopt.plan import ConvPlan
from convopt.shape import ConvShape

from . import machine
from .candidates import Candidate, Request, applicable
from .candidates import candidates as candidates_of
from .check import Trial
from .cost_model import Speeds, estimate, kind
from .records import TIE, Record

#: Seconds of racing per problem.
LIMIT = 0.5
#: Seconds of the shortest sample: shorter calls are repeated within it.
SAMPLE = 2e-4
#: A candidate is dropped once its best time is so many times that of the best candidate ...
DROP = 1.5
#: ... after so many samples: any single one may have met a time slice of another process.
SAMPLES_TO_DROP = 3
#: Rounds of a race at least, and how many of them the leaders must have been the same.
ROUNDS, SETTLED = 10, 5
#: Errors beyond the expected one times this are not rounding.
WRONG = 100.0
#: Layers, dense and depthwise, that show how fast a machine is.
TYPICAL_SHAPES = (
    ConvShape(1, 28, 28, 96, 96, 3, 3, pads=((1, 1), (1, 1))),
    ConvShape(1, 28, 28, 96, 96, 3, 3, pads=((1, 1), (1, 1)), groups=96),
)
#: Why a candidate is rejected that wrote beside its output.
OVERRUN = "writes outside its output"


class Runnable(Protocol):
    """What is timed: ConvPlan, or a stand-in of the tests."""

    def __call__(self, x: NDArray[np.floating], out: NDArray[np.floating]) -> object: ...
    def call_once(
        self, x: NDArray[np.floating], filters: NDArray[np.floating], bias: NDArray[np.floating] | None, out: NDArray[np.floating]
    ) -> object: ...


Make = Callable[[Request, Candidate, Trial], Runnable]


def make_plan(request: Request, candidate: Candidate, trial: Trial) -> Runnable:
    """The plan of a candidate."""
    return ConvPlan(
        request.shape,
        candidate.algorithm,
        dict(candidate.params),
        trial.filters,
        bias=trial.bias,
        activation=request.activation,
        threads=request.threads,
    )


class Contestant:
    """A candidate in a race and the times of its calls so far, seconds.

    call: what is timed. error: of its result. overran: whether something beside the output was written to since last asked.
    """

    def __init__(self, candidate: Candidate, call: Callable[[], object], error: float, overran: Callable[[], bool]) -> None:
        self.candidate = candidate
        self.call = call
        self.error = error
        self.overran = overran
        self.overrunning = False
        self.times: list[float] = []
        self.repeats = 1
        self.first = self._run()
        if self.first < SAMPLE:
            self.repeats = math.ceil(SAMPLE / max(self.first, 1e-7))
            self.first = self._run()  # a call alone says too little
            self.repeats = max(1, math.ceil(SAMPLE / self.first))

    def confirm(self, best: float) -> None:
        """If the first time is far behind the best candidate's, try again: it may have met a time slice of another process."""
        for _ in range(SAMPLES_TO_DROP - 1):
            if self.first > DROP * best:
                self.first = min(self.first, self._run())

    def _run(self) -> float:
        call = self.call
        start = perf_counter()
        for _ in repeat(None, self.repeats):
            call()
        seconds = (perf_counter() - start) / self.repeats
        self.overrunning |= self.overran()
        return seconds

    def sample(self) -> None:
        """Time it once more."""
        self.times.append(self._run())

    @property
    def fastest(self) -> float:
        """Smallest time so far."""
        return min(self.times, default=self.first)

    @property
    def hopeless_beyond(self) -> float:
        """The best candidate's time below which this one need not run on."""
        return self.fastest / DROP if len(self.times) >= SAMPLES_TO_DROP else 0.0

    def record(self) -> Record:
        """What is known at the end."""
        times = self.times or [self.first]
        low, high = np.quantile(times, [0.25, 0.75])
        return record_of(
            self.candidate,
            seconds=float(f"{low:.4g}"),
            fastest=float(f"{min(times):.4g}"),
            spread=float(f"{high / low - 1:.3g}"),
            error=float(f"{self.error:.3g}"),
            samples=len(times),
        )


def record_of(candidate: Candidate, **measured: object) -> Record:
    """The record of a candidate with what was measured."""
    return Record(
        candidate.algorithm,
        candidate.params,
        candidate.revision,
        candidate.workspace_bytes,
        candidate.packed_bytes,
        candidate.spreads_nonfinite,
        **measured,  # type: ignore[arg-type]
    )


def measure(
    request: Request,
    candidates: Sequence[Candidate],
    estimates: Mapping[Candidate, float] | None = None,
    limit: float = LIMIT,
    make: Make = make_plan,
) -> list[Record]:
    """Check and time the candidates, best guess first; a record of each, except those that memory does not suffice for.

    estimates: seconds, where given: an algorithm's later candidates are left out (with a record that says nothing) where
    its earlier ones show that they cannot win. limit: seconds of racing. The request's output must not be empty.
    """
    trial = Trial(request)
    records = []
    contestants: list[Contestant] = []
    with _undisturbed():
        for candidate in candidates:
            if estimates and _hopeless(candidate, contestants, estimates):
                records.append(record_of(candidate))
                continue
            try:
                call = _call(make(request, candidate, trial), request, trial)
                rejected, error = verify(call, candidate, trial)
            except WorkspaceError:
                continue
            if rejected:
                records.append(record_of(candidate, rejected=rejected))
            else:
                contestants.append(Contestant(candidate, call, error, trial.overran))
                contestants[-1].confirm(min(each.first for each in contestants))
        finalists = race(contestants, limit)
    for contestant in contestants:
        rejected = OVERRUN if contestant.overrunning else ""
        if contestant in finalists and not rejected:
            rejected, _ = verify(contestant.call, contestant.candidate, trial)
        records.append(record_of(contestant.candidate, rejected=rejected) if rejected else contestant.record())
    return records


def _hopeless(candidate: Candidate, contestants: Sequence[Contestant], estimates: Mapping[Candidate, float]) -> bool:
    """Whether it is far behind, if the estimate is as wrong for it as for the same algorithm's candidates so far."""
    wrongness = [each.first / estimates[each.candidate] for each in contestants if each.candidate.algorithm == candidate.algorithm]
    if not wrongness:
        return False
    return min(wrongness) * estimates[candidate] > DROP * min(each.first for each in contestants)


def verify(call: Callable[[], object], candidate: Candidate, trial: Trial) -> tuple[str, float]:
    """(why the candidate must never be chosen, "" if it may; its error), from one call."""
    trial.poison()
    call()
    if trial.overran():
        return OVERRUN, math.inf
    error = trial.error()
    if not error <= WRONG * candidate.expected_error:
        return f"wrong: error {error:.1e}, expected {candidate.expected_error:.1e}", error
    return "", error


def race(contestants: Sequence[Contestant], limit: float) -> list[Contestant]:
    """Time contestants against each other until it is clear which are fastest, for `limit` seconds at most (and a round).

    Returns those that were not dropped.
    """
    running = list(contestants)
    order = random.Random()
    end = perf_counter() + limit
    leaders: set[int] = set()
    rounds = settled = 0
    while running and (rounds < ROUNDS or settled < SETTLED):
        order.shuffle(running)
        for contestant in running:
            contestant.sample()
        rounds += 1
        best = min(each.fastest for each in running)
        running = [each for each in running if best >= each.hopeless_beyond]
        now = {id(each) for each in running if each.fastest <= TIE * best}
        settled = settled + 1 if now == leaders else 0
        leaders = now
        if perf_counter() > end or (len(running) == 1 and rounds >= SETTLED):
            break
    return running


def cost(estimates: Sequence[float], limit: float = LIMIT) -> float:
    """Seconds that measuring candidates of such estimated times will take, roughly: checks, first calls, race."""
    samples = [max(SAMPLE, seconds) for seconds in estimates]
    return 0.02 + sum(2 * seconds + sample for seconds, sample in zip(estimates, samples, strict=True)) + min(limit, ROUNDS * sum(samples))


def _call(plan: Runnable, request: Request, trial: Trial) -> Callable[[], object]:
    """One call as the caller will make it: with the filters packed before, or in it."""
    x, filters, bias, out = trial.x, trial.filters, trial.bias, trial.out
    if request.constant_filters:
        return lambda: plan(x, out=out)
    return lambda: plan.call_once(x, filters, bias, out)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection while timing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def speeds() -> Speeds:
    """This machine's constants for the cost model, measured in some tenths of a second."""
    with _undisturbed():
        cores = min(usable_cores(), 8)
        level2, level3 = machine.cache_bytes(2) or 1 << 20, machine.cache_bytes(3) or 1 << 24
        direct, tiny = (_default("direct", shape) for shape in (TYPICAL_SHAPES[0], ConvShape(1, 8, 8, 16, 16, 3, 3)))
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
                request, candidate = _default(name, shape)
                ratio = _fastest_call(request, candidate, 1) / estimate(candidate, request, found)
                slowness[kind(name, shape)] = min(max(ratio, 0.5), 4.0)
        return replace(found, slowness=slowness)


def _default(algorithm: str, shape: ConvShape) -> tuple[Request, Candidate]:
    request = Request(shape, bias=False, activation=None, threads=1, constant_filters=True)
    return request, candidates_of(request, algorithm)[0]


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
