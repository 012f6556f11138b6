"""The canary: always the same multiply-adds, on as many cores as are measured; late where the machine is slow or shared."""

from __future__ import annotations

import statistics
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from convopt.kernels import limits

#: Seconds of one sample, and how many are taken each time: the best counts.
SAMPLE, SAMPLES = 0.0002, 3
#: What is typical is the median of so many times.
SEEN = 501


class Canary:
    """lateness() is 1 where the machine is as fast as it mostly was while this canary lived.

    Not as it was at best: a core that has just been busy runs the canary faster than one that was waiting for an engine.
    No parallel region: its threads would go on spinning while an engine is timed.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.rounds = 1
        while self._seconds() < SAMPLE:
            self.rounds *= 2
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self.seen: deque[float] = deque(maxlen=SEEN)

    def lateness(self) -> float:
        """How many times later than typically it is now, on the core that is slowest."""
        now = self._slowest()
        self.seen.append(now)
        return now / statistics.median(self.seen)

    def _slowest(self) -> float:
        if self.pool is None:
            return self._fastest_of(0)
        return max(self.pool.map(self._fastest_of, range(self.threads)))

    def _fastest_of(self, _: int) -> float:
        return min(self._seconds() for _ in range(SAMPLES))

    def _seconds(self) -> float:
        start = time.perf_counter()
        limits.multiply_add(self.rounds, 1)
        return time.perf_counter() - start
