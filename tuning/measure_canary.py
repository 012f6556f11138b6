"""The canary: always the same small convolution, whose time tells whether something else has the machine."""

from __future__ import annotations

import bisect
import math
from itertools import repeat
from time import perf_counter
from typing import ClassVar

import numpy as np

from convopt.kernels import registry
from convopt.plan import ConvPlan
from convopt.shape import ConvShape

from .candidates import Request, candidates

#: What the canary computes, some tens of microseconds; so many calls in a row are one look at it.
SHAPE, CALLS = ConvShape(1, 14, 14, 32, 32, 3, 3, pads=((1, 1), (1, 1))), 4
#: A round is disturbed where the canary takes so many times its usual time in this race: the median of its looks there, for a core
#: that has worked hard, or whose other thread works for somebody else, is slower than a rested one, up to about 1.6 times, and all
#: contestants meet that alike; but no more than SLOWED times its shortest time ever, which is forgotten by a hundredth per race: what
#: takes the machine away all the while must show as well. So rounds that were only slowed count, since the median of many sees
#: through that; those in which somebody took turns with us on a core do not.
DISTURBED, SLOWED, FORGOTTEN = 1.5, 1.3, 1.01
#: Looks that only bring it to its usual speed.
WARMING = 5


class Canary:
    """Tells whether something disturbs the machine: a small convolution on so many threads, its time against its usual time."""

    _usual: ClassVar[dict[tuple[str, int], float]] = {}

    @classmethod
    def recall(cls, remembered: object) -> None:
        """Take over what ``usual`` told in another process; what is no such thing is passed over."""
        if not isinstance(remembered, dict):
            return
        for name, seconds in remembered.items():
            isa, _, threads = str(name).partition("/")
            if threads.isdecimal() and isinstance(seconds, float) and 0 < seconds < 1:
                cls._usual.setdefault((isa, int(threads)), seconds)

    @classmethod
    def usual(cls) -> dict[str, float]:
        """Its shortest times, seconds, by instruction set and number of threads."""
        return {f"{isa}/{threads}": float(f"{seconds:.2g}") for (isa, threads), seconds in sorted(cls._usual.items())}

    def __init__(self, threads: int) -> None:
        filters = np.ones(SHAPE.filters_shape, np.float32)
        self._x, self._out = np.ones(SHAPE.input_shape, np.float32), np.empty(SHAPE.output_shape, np.float32)
        self._plan = ConvPlan(
            SHAPE, "direct", dict(candidates(Request(SHAPE, False, None, 1, True), "direct")[0].params), filters, threads=threads
        )
        self._place = registry.isa(), threads
        self._usual[self._place] = self._usual.get(self._place, math.inf) * FORGOTTEN
        self._looks: list[float] = []
        for _ in range(WARMING):
            self.is_quiet()
        self._looks.clear()

    def is_quiet(self) -> bool:
        """Whether nothing disturbs the machine now."""
        plan, x, out = self._plan, self._x, self._out
        plan(x, out=out)  # the contestants had the caches for themselves
        start = perf_counter()
        for _ in repeat(None, CALLS):
            plan(x, out=out)
        seconds = perf_counter() - start
        usual = self._usual[self._place] = min(seconds, self._usual[self._place])
        bisect.insort(self._looks, seconds)
        here = self._looks[len(self._looks) // 2]
        return seconds <= DISTURBED * max(usual, min(here, SLOWED * usual))
