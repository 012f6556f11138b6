"""Measuring: which candidate is right, and which is fastest, on the arrays of a request.

Only here and in the other files of that name is a clock looked at.

First every candidate computes its result once, which is checked (see ``check``): a wrong or overrunning one is never
timed. Then the others race (see ``measure_race``), and at the end every result is checked once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from convopt.plan import ConvPlan
from convopt.shape import ConvShape

from .candidates import Candidate, Request
from .candidates import candidates as candidates_of
from .check import Trial, comparing_seconds
from .measure_canary import Canary
from .measure_race import ABSENT, DROP, ROUNDS_TO_DROP, SAMPLE, SPAN, WARM, Contestant, Race, to_beat
from .measure_steps import Steps, all_of
from .records import Record, record_of

#: Seconds of racing per problem.
LIMIT = 1.0
#: Rounds of a race at least.
ROUNDS = 12
#: Of what an algorithm's estimates say about each other little is wrong: a candidate that should take so many times as long as the
#: best one so far, judged by how wrong the estimates of its own algorithm were, is not measured. What that loses is part of the
#: regret that benchmarks/tuner_regret.py measures, where the exhaustive search leaves nothing out.
HOPELESS = 1.3
#: Errors beyond the expected one times this are not rounding.
WRONG = 100.0
#: Seconds that random arguments and the right result take, for layers as they usually are; and making each candidate's plan.
CHECKS, EACH_CHECK = 0.005, 0.001
#: Why a candidate is rejected that wrote beside its output.
OVERRUN = "writes outside its output"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure. limit: seconds of racing per problem. rounds: of a race, at least."""

    limit: float
    rounds: int


QUICK, NORMAL, THOROUGH = Effort(0.1, 6), Effort(LIMIT, ROUNDS), Effort(2.0, 24)


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


def measure(
    request: Request,
    candidates: Sequence[Candidate],
    estimates: Mapping[Candidate, float] | None = None,
    limit: float = LIMIT,
    make: Make = make_plan,
    rounds: int = ROUNDS,
) -> list[Record]:
    """All steps of ``measuring``."""
    return all_of(measuring(request, candidates, estimates, limit, make, rounds))


def measuring(
    request: Request,
    candidates: Sequence[Candidate],
    estimates: Mapping[Candidate, float] | None = None,
    limit: float = LIMIT,
    make: Make = make_plan,
    rounds: int = ROUNDS,
) -> Steps[list[Record]]:
    """Check and time the candidates, best guess first; a record of each, one that says nothing where memory does not suffice.

    estimates: seconds, where given: an algorithm's later candidates are left out (with a record that says nothing) where
    its earlier ones show that they cannot win. limit: seconds of racing, or half as long as the checks took: of a large layer there would
    be too few rounds. rounds: at least. The request's output must not be empty.
    """
    try:
        trial = Trial(request)
    except MemoryError:  # nothing can be measured beside what the caller holds; the estimate will do
        return []
    yield
    records = []
    contestants: list[Contestant] = []
    checking = 0.0
    for candidate in candidates:
        started = perf_counter()
        if estimates and _hopeless(candidate, contestants, estimates, request.accuracy):
            records.append(record_of(candidate))
            continue
        try:
            call = _call(make(request, candidate, trial), request, trial)
            rejected, error = verify(call, candidate, trial)
        except MemoryError:  # not here and now
            records.append(record_of(candidate))
            continue
        if rejected:
            records.append(record_of(candidate, rejected=rejected))
        else:
            contestants.append(Contestant(candidate, call, error, trial.overran))
            contestants[-1].confirm(to_beat(contestants, request.accuracy))
        checking += perf_counter() - started
        yield
    race = Race(contestants, request.accuracy)
    yield from race.steps(max(limit, checking / 2), Canary(request.threads), rounds)
    for contestant in contestants:
        rejected = OVERRUN if contestant.overrunning else ""
        if not rejected:
            rejected, _ = verify(contestant.call, contestant.candidate, trial)
        records.append(record_of(contestant.candidate, rejected=rejected) if rejected else race.record(contestant))
    return records


def _hopeless(candidate: Candidate, contestants: Sequence[Contestant], estimates: Mapping[Candidate, float], accuracy: float) -> bool:
    """Whether it is far behind, if the estimate is as wrong for it as for the same algorithm's candidates so far."""
    wrongness = [each.first / estimates[each.candidate] for each in contestants if each.candidate.algorithm == candidate.algorithm]
    if not wrongness:
        return False
    return min(wrongness) * estimates[candidate] > HOPELESS * to_beat(contestants, accuracy)


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


def cost(shape: ConvShape, estimates: Sequence[float], limit: float = LIMIT, rounds: int = ROUNDS) -> float:
    """Seconds that measuring candidates of such estimated times will take, roughly: checks, first calls, race."""
    samples = [max(SAMPLE, seconds) for seconds in estimates]
    near, absent = DROP * min(estimates), ABSENT * min(estimates)
    first = sum(5 * seconds + sample for seconds, sample in zip(estimates, samples, strict=True))
    checks = CHECKS + len(estimates) * (EACH_CHECK + 2 * comparing_seconds(shape))
    raced = (
        (sample + (seconds if seconds < WARM else 0.0)) * (rounds if seconds <= near else ROUNDS_TO_DROP if seconds <= absent else 0)
        for seconds, sample in zip(estimates, samples, strict=True)
    )
    span = min(SPAN, limit) if len(estimates) > 1 else 0.0
    return checks + first + min(max(limit, (checks + first) / 2), max(span, sum(raced)))


def _call(plan: Runnable, request: Request, trial: Trial) -> Callable[[], object]:
    """One call as the caller will make it: with the filters packed before, or in it."""
    x, filters, bias, out = trial.x, trial.filters, trial.bias, trial.out
    if request.constant_filters:
        return lambda: plan(x, out=out)
    return lambda: plan.call_once(x, filters, bias, out)


def default_of(algorithm: str, shape: ConvShape) -> tuple[Request, Candidate]:
    """An algorithm's default for a shape, on one thread."""
    request = Request(shape, bias=False, activation=None, threads=1, constant_filters=True)
    return request, candidates_of(request, algorithm)[0]
