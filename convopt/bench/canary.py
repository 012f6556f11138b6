"""The canary: always the same multiply-adds, on as many cores as are measured; late where the machine is slow or shared."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from convopt.kernels import limits

#: Seconds of one sample, and how many are taken each time: the best counts.
SAMPLE, SAMPLES = 0.0002, 3


class Canary:
    """lateness() is 1 where the machine is as fast as it ever was while this canary lived.

    No parallel region: its threads would go on spinning while an engine is timed.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.rounds = 1
        self.best = 0.0
        while self._seconds() < SAMPLE:
            self.rounds *= 2
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self.best = min(self._slowest() for _ in range(SAMPLES))

    def lateness(self) -> float:
        """How many times later than at its best it is now, on the core that is slowest."""
        now = self._slowest()
        self.best = min(self.best, now)
        return now / self.best

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
