"""Racing: which of several calls is fastest, on a machine that others use too.

In each round every contestant is timed once, in random order. What slows the machine for a while (another process, the core's
other hardware thread, a lower clock) slows all of a round nearly alike, so only times of the same round are compared: what counts
is how many times longer than another a contestant took, at the median of the rounds. The shortest time of all, which is
what one takes on a machine of one's own, meets the machine's best moment for some contestants and misses it for others.

Those far behind drop out after a few rounds; of the others each one as soon as it is surely slower: the sign test tells from
how many of the rounds it lost, whatever the distribution of the machine's disturbances. The race goes on while one that is left
may be faster than the choice by what would be called a flip: another day would then choose differently.

Before and after each round a canary runs: always the same small convolution, whose time is known. Where it takes longer than it
did, something took part of the round away, from some contestants more than from others: the round does not count, nor does its
time. A machine that is never quiet is not waited for for ever: then all rounds count, and the records say that they are noisy.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from itertools import repeat
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .candidates import Candidate
from .measure_steps import Steps
from .records import FLIP, TIE, Record, record_of

#: Seconds of the shortest sample: shorter calls are repeated within it.
SAMPLE = 2e-4
#: Seconds of a call from which on it matters little that the others had the caches; a shorter one is called once untimed before.
WARM = 5e-3
#: A contestant is dropped once it takes so many times as long as the best one ...
DROP = 1.5
#: ... in so many rounds, that took so many seconds: a time slice of another process may meet any single one, and some short ones
#: in a row. After n times as many that count, an nth of that lead is enough, until they are so many that the sign test can tell.
ROUNDS_TO_DROP, SECONDS_TO_DROP = 3, 0.02
#: Those whose first times are so many times the best one's do not start. These are times of different moments: hence more than DROP.
ABSENT = 2.0
#: A contestant is dropped where it would lose so many rounds by chance this seldom; a race ends where what is left would.
DROPPING_DOUBT, ENDING_DOUBT = 0.001, 0.1
#: Rounds from which on the sign test can tell: one that lost all of them did so by chance less often than DROPPING_DOUBT.
TELLING = 10
#: Rounds that the last one left needs for its time to be known.
ALONE = 5
#: Seconds that a race between several takes at least: what slows a machine comes and goes in some tens of milliseconds.
SPAN = 0.1
#: Disturbed rounds end a race once all rounds are so many times those that are wanted, or take so many times as long as they may.
PATIENCE = 3.0


class Watch(Protocol):
    """What tells whether something disturbs the machine now: a ``Canary``, or a stand-in of the tests."""

    def is_quiet(self) -> bool: ...


class Contestant:
    """A candidate in a race.

    call: what is timed. error: of its result. overran: whether something beside the output was written to since last asked.
    first: seconds of a call before the race. times: seconds of a call, in each round from the first on.
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
            self._repeat()
            self.first = self._run()  # a call alone says too little
        self._repeat()

    def logs(self, rounds: Sequence[int]) -> NDArray[np.float64]:
        """Logarithms of its times in these rounds."""
        return np.log([self.times[number] for number in rounds])

    def confirm(self, best: float) -> None:
        """If the first time is far behind the best one, try again: it may have met a time slice of another process."""
        for _ in range(ROUNDS_TO_DROP - 1):
            if self.first > DROP * best:
                self.first = min(self.first, self._run())
                self._repeat()

    def sample(self) -> None:
        """Time it once more, with the caches as they are where one layer is called again and again."""
        if self.first < WARM:
            self.call()
        self.times.append(self._run())

    def _repeat(self) -> None:
        """Call it as often in a sample as its first time asks for."""
        self.repeats = max(1, math.ceil(SAMPLE / max(self.first, 1e-7)))

    def _run(self) -> float:
        call = self.call
        start = perf_counter()
        for _ in repeat(None, self.repeats):
            call()
        seconds = (perf_counter() - start) / self.repeats
        self.overrunning |= self.overran()
        return seconds


def to_beat(contestants: Sequence[Contestant], accuracy: float) -> float:
    """The best first time of those that are accurate enough, of all if none is; infinite without any."""
    accurate = [each.first for each in contestants if each.error <= accuracy]
    return min(accurate or (each.first for each in contestants), default=math.inf)


class Race:
    """Contestants against each other.

    accuracy: a contestant with a larger error runs along, but the others need not keep up with it unless there are none.
    quiet: by round, whether nothing disturbed it. running: who is still in it. noisy: whether disturbed rounds had to do.
    """

    def __init__(self, contestants: Sequence[Contestant], accuracy: float = math.inf) -> None:
        best = to_beat(contestants, accuracy)
        for contestant in contestants:
            contestant.confirm(best)
        # The most promising one always starts: a machine that is busy while it is first called says nothing against it.
        self.running = [each for each in contestants if each.first <= ABSENT * best or each is contestants[0]]
        self.accuracy = accuracy
        self.quiet: list[bool] = []
        self.noisy = False

    def steps(self, limit: float, canary: Watch | None, least: int) -> Steps[None]:
        """Run until it is clear who is fastest, for `limit` seconds of quiet rounds at most (and a round), in `least` of them at least."""
        order = random.Random()
        clean = spent = 0.0
        quiet = canary is None or canary.is_quiet()
        while self.running and (self.quiet.count(True) < least or clean < min(SPAN, limit) or not self._is_settled()):
            shuffled = order.sample(self.running, len(self.running))
            start = perf_counter()
            for contestant in shuffled:
                contestant.sample()
            seconds = perf_counter() - start
            was_quiet, quiet = quiet, canary is None or canary.is_quiet()
            self.quiet.append(was_quiet and quiet)
            spent += seconds
            if spent >= SECONDS_TO_DROP:
                self._drop()
            if self.quiet[-1]:
                clean += seconds
            rounds = self.quiet.count(True)
            if clean > limit or (len(self.running) == 1 and rounds >= ALONE):
                break
            if spent > PATIENCE * limit or (len(self.quiet) >= PATIENCE * least and rounds < len(self.quiet) / PATIENCE):
                break
            yield
        self.noisy = self.quiet.count(True) < min(ALONE, len(self.quiet)) and clean <= limit

    def record(self, contestant: Contestant) -> Record:
        """What is known of a contestant at the end."""
        rounds = self._counting(contestant)
        times = [contestant.times[each] for each in rounds] or [contestant.first]
        fastest = min(times)
        if rounds and contestant not in self.running[:1]:
            # Beside one and the same of those that ran to the end: its best time, and the ratio of both in the same rounds.
            pacemaker = self.running[0]
            pace = min(pacemaker.times[each] for each in self._counting(pacemaker))
            own, others = (self._ratio(each, rounds) for each in (contestant, pacemaker))
            fastest = pace * own / others
        low, high = np.quantile(times, [0.25, 0.75])
        return record_of(
            contestant.candidate,
            seconds=float(f"{low:.4g}"),
            fastest=float(f"{fastest:.4g}"),
            spread=float(f"{high / low - 1:.3g}"),
            error=float(f"{contestant.error:.3g}"),
            samples=len(times),
            noisy=int(self.noisy and bool(rounds)),
        )

    @property
    def _accurate(self) -> list[Contestant]:
        """Of those running the accurate ones; all if none is."""
        return [each for each in self.running if each.error <= self.accuracy] or self.running

    @property
    def _quiet_rounds(self) -> list[int]:
        return [number for number, quiet in enumerate(self.quiet) if quiet]

    def _counting(self, contestant: Contestant) -> list[int]:
        """The rounds of a contestant that count: the quiet ones, all where these do not suffice."""
        rounds = range(len(contestant.times))
        quiet = [number for number in self._quiet_rounds if number in rounds]
        return quiet if quiet and not self.noisy else list(rounds)

    def _ratio(self, contestant: Contestant, rounds: Sequence[int]) -> float:
        """How many times longer it took than the middle one of those still running, at the median of these rounds."""
        others = np.median([each.logs(rounds) for each in self.running], axis=0)
        return float(np.exp(np.median(contestant.logs(rounds) - others)))

    def _drop(self) -> None:
        """Let those go that are far behind, or surely behind."""
        rounds = self._quiet_rounds
        lead = (DROP - 1) * ROUNDS_TO_DROP / max(ROUNDS_TO_DROP, len(rounds))
        if len(rounds) < ROUNDS_TO_DROP:
            rounds = list(range(len(self.quiet)))
            if len(rounds) < PATIENCE * ROUNDS_TO_DROP:
                return
        ratios = {each: self._ratio(each, rounds) for each in self.running}
        best = min(self._accurate, key=lambda each: ratios[each])
        if len(rounds) < TELLING:
            self.running = [each for each in self.running if ratios[each] <= ratios[best] * (1 + lead)]
        else:
            self.running = [each for each in self.running if self._least_ratio(each, best, rounds, DROPPING_DOUBT) <= TIE]

    def _is_settled(self) -> bool:
        """Whether, by the quiet rounds, none that is left may be faster than the choice by a flip."""
        rounds = self._quiet_rounds
        accurate = self._accurate
        choice = preferred(accurate, [self._ratio(each, rounds) for each in accurate])
        return all(each is choice or self._least_ratio(each, choice, rounds, ENDING_DOUBT) >= 1 / FLIP for each in accurate)

    @staticmethod
    def _least_ratio(one: Contestant, other: Contestant, rounds: Sequence[int], doubt: float) -> float:
        """How many times longer than the other it takes at least, but for such a doubt; 0 where the rounds are too few to tell."""
        rank = sign_rank(len(rounds), doubt)
        return float(np.exp(np.sort(one.logs(rounds) - other.logs(rounds))[rank - 1])) if rank else 0.0


@functools.cache
def sign_rank(count: int, doubt: float) -> int:
    """The largest k for which the median lies below the k-th smallest of `count` samples with no more than such a probability.

    That is so where fewer than k of them are below the median, each of which has an even chance to be (sign test): sum over
    i < k of binomial(count, i) / 2**count <= doubt. 0 if there is no such k.
    """
    below, rank = 0, 0
    while (below := below + math.comb(count, rank)) / 2**count <= doubt:
        rank += 1
    return rank


def preferred(contestants: Sequence[Contestant], times: Sequence[float]) -> Contestant:
    """What ``records.select`` would choose by these times."""
    best = min(times)
    tied = [
        (each.error, each.candidate.workspace_bytes, time, each)
        for each, time in zip(contestants, times, strict=True)
        if time <= TIE * best
    ]
    return min(tied, key=lambda each: each[:3])[3]
