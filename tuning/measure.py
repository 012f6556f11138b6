"""Measuring: which candidate is right, and which is fastest, on the arrays of a request.

Only here and in the other files of that name is a clock looked at.

First every candidate computes its result once, which is checked (see ``check``): a wrong or overrunning one is never
timed. Then the others race: in rounds, each once per round in random order, so that whatever disturbs the machine
disturbs all alike; those far behind drop out, the sooner the more they were timed. Every other round and the rounds between
are two races of their own: while these would choose differently, so would another day, and the race goes on. At the end every
result is checked once more.

Before and after each round a canary runs: always the same small convolution, whose time is known. Where it takes longer than
it does otherwise, something else had the machine, and the round is thrown away; nor does it count towards the time limit. A machine
that is never quiet is not waited for for ever: then all rounds count, and the records say that they are noisy.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from convopt.errors import WorkspaceError
from convopt.plan import ConvPlan
from convopt.shape import ConvShape

from .candidates import Candidate, Request
from .candidates import candidates as candidates_of
from .check import Trial, comparing_seconds
from .measure_canary import Canary
from .measure_steps import Steps, all_of
from .records import TIE, Record

#: Seconds of racing per problem.
LIMIT = 1.0
#: Seconds of the shortest sample: shorter calls are repeated within it.
SAMPLE = 2e-4
#: A candidate is dropped once its best time is so many times that of the best candidate ...
DROP = 1.5
#: ... after so many samples: any single one may have met a time slice of another process. After n times as many clean ones, an
#: nth of that lead is enough: the more they are, the less the next may still gain.
SAMPLES_TO_DROP = 3
#: Those whose first times are so many times the best one's do not start. These are times of different moments: hence more than DROP.
ABSENT = 2.0
#: Rounds of a race at least, and in how many successive ones its two halves must have chosen alike.
ROUNDS, SETTLED = 16, 5
#: Seconds of a call from which on it matters little that the others had the caches; a shorter one is called once untimed before.
WARM = 5e-3
#: Errors beyond the expected one times this are not rounding.
WRONG = 100.0
#: Seconds that random arguments and the right result take, for layers as they usually are; and making each candidate's plan.
CHECKS, EACH_CHECK = 0.005, 0.001
#: Disturbed rounds end a race once all rounds are so many times those that clean ones would have been, or take so long.
PATIENCE = 3.0
#: Why a candidate is rejected that wrote beside its output.
OVERRUN = "writes outside its output"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure. limit: seconds of racing per problem. rounds: of a race, at least."""

    limit: float
    rounds: int


QUICK, NORMAL, THOROUGH = Effort(0.1, 6), Effort(LIMIT, ROUNDS), Effort(2.0, 30)


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
    """A candidate in a race and the times of its calls so far, seconds; apart from them, those of disturbed rounds.

    call: what is timed. error: of its result. overran: whether something beside the output was written to since last asked.
    noisy: whether those of disturbed rounds had to do.
    """

    def __init__(self, candidate: Candidate, call: Callable[[], object], error: float, overran: Callable[[], bool]) -> None:
        self.candidate = candidate
        self.call = call
        self.error = error
        self.overran = overran
        self.overrunning = False
        self.times: list[float] = []
        self.disturbed: list[float] = []
        self.noisy = False
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
        """Time it once more, with the caches as they are where one layer is called again and again."""
        if self.first < WARM:
            self.call()
        self.times.append(self._run())

    def throw_away(self) -> None:
        """The last round was disturbed: its time does not count."""
        self.disturbed.append(self.times.pop())

    def make_do(self) -> None:
        """Take the disturbed rounds for want of better ones."""
        self.times, self.disturbed, self.noisy = self.times + self.disturbed, [], True

    @property
    def fastest(self) -> float:
        """Smallest time so far."""
        return min(self.times, default=self.first)

    @property
    def pace(self) -> float:
        """Smallest time in the rounds so far, disturbed or not: all that run met the same ones."""
        return min(self.times + self.disturbed)

    @property
    def hopeless_beyond(self) -> float:
        """The best candidate's pace below which this one need not run on: what is slow even at its best has lost."""
        if len(self.times) + len(self.disturbed) < SAMPLES_TO_DROP:
            return 0.0
        return self.pace / (1 + (DROP - 1) * SAMPLES_TO_DROP / max(SAMPLES_TO_DROP, len(self.times)))

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
            noisy=int(self.noisy),
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
    """Check and time the candidates, best guess first; a record of each, except those that memory does not suffice for.

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
        checking += perf_counter() - started
        yield
    yield from racing(contestants, max(limit, checking / 2), Canary(request.threads), rounds, request.accuracy)
    for contestant in contestants:
        rejected = OVERRUN if contestant.overrunning else ""
        if not rejected:
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


def race(
    contestants: Sequence[Contestant], limit: float, canary: Canary | None = None, least: int = ROUNDS, accuracy: float = math.inf
) -> None:
    """All steps of ``racing``."""
    all_of(racing(contestants, limit, canary, least, accuracy))


def racing(
    contestants: Sequence[Contestant], limit: float, canary: Canary | None = None, least: int = ROUNDS, accuracy: float = math.inf
) -> Steps[None]:
    """Time contestants against each other until it is clear which are fastest, for `limit` clean seconds at most (and a round).

    least: clean rounds, unless the time is up before. accuracy: what is less accurate runs along, but the others need not keep up
    with it unless there are none.
    """
    best = min((each.first for each in contestants if each.error <= accuracy), default=math.inf)
    for contestant in contestants:
        contestant.confirm(best)
    running = [each for each in contestants if each.first <= ABSENT * best]
    order = random.Random()
    rounds = settled = all_rounds = 0
    clean = spent = 0.0
    quiet = canary is None or canary.is_quiet()
    while running and (rounds < least or settled < SETTLED):
        order.shuffle(running)
        start = perf_counter()
        for contestant in running:
            contestant.sample()
        seconds = perf_counter() - start
        was_quiet, quiet = quiet, canary is None or canary.is_quiet()
        all_rounds, spent = all_rounds + 1, spent + seconds
        if was_quiet and quiet:
            rounds, clean = rounds + 1, clean + seconds
        else:
            for contestant in running:
                contestant.throw_away()
        accurate = [each for each in running if each.error <= accuracy] or running
        best = min(each.pace for each in accurate)
        running = [each for each in running if best >= each.hopeless_beyond]
        if was_quiet and quiet:
            settled = settled + 1 if halves_agree([each for each in accurate if each in running]) else 0
        if clean > limit or (len(running) == 1 and rounds >= SETTLED):
            break
        if spent > PATIENCE * limit or (all_rounds >= PATIENCE * least and rounds < all_rounds / PATIENCE):
            break
        yield
    if rounds < min(SETTLED, all_rounds) and clean <= limit:
        for contestant in contestants:
            contestant.make_do()


def halves_agree(running: Sequence[Contestant]) -> bool:
    """Whether either half of the rounds chooses the same, or at least what is as fast."""
    if any(len(each.times) < 2 for each in running):
        return False
    one, other = (preferred(running, [min(each.times[half::2]) for each in running]) for half in (0, 1))
    return max(one.fastest, other.fastest) <= TIE * min(one.fastest, other.fastest)


def preferred(running: Sequence[Contestant], times: Sequence[float]) -> Contestant:
    """What ``records.select`` would choose by these times."""
    best = min(times)
    tied = [
        (each.error, each.candidate.workspace_bytes, time, each) for each, time in zip(running, times, strict=True) if time <= TIE * best
    ]
    return min(tied, key=lambda each: each[:3])[3]


def cost(shape: ConvShape, estimates: Sequence[float], limit: float = LIMIT, rounds: int = ROUNDS) -> float:
    """Seconds that measuring candidates of such estimated times will take, roughly: checks, first calls, race."""
    samples = [max(SAMPLE, seconds) for seconds in estimates]
    near, absent = DROP * min(estimates), ABSENT * min(estimates)
    first = sum(5 * seconds + sample for seconds, sample in zip(estimates, samples, strict=True))
    checks = CHECKS + len(estimates) * (EACH_CHECK + 2 * comparing_seconds(shape))
    raced = (
        (sample + (seconds if seconds < WARM else 0.0)) * (rounds if seconds <= near else SAMPLES_TO_DROP if seconds <= absent else 0)
        for seconds, sample in zip(estimates, samples, strict=True)
    )
    return checks + first + min(max(limit, (checks + first) / 2), sum(raced))


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
