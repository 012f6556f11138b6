"""Measuring step by step, so that it can be paid for little by little: whoever takes the steps may do something else between."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator, Iterator
from time import perf_counter
from typing import TypeVar

R = TypeVar("R")
#: Measuring that stops after each step; what it returns is what it found.
Steps = Generator[None, None, R]


def all_of(steps: Steps[R]) -> R:
    """What the steps find, taken all at once."""
    with undisturbed():
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]


class Instalments:
    """Steps that are paid for little by little.

    seconds: what they have taken so far. longest: of one of them. done: whether none is left.
    """

    def __init__(self, steps: Steps[object]) -> None:
        self._steps = steps
        self.seconds, self.longest, self.done = 0.0, 0.0, False

    def pay(self, seconds: float) -> None:
        """Take steps for so long, if the next takes no longer than the longest so far; one more is never begun."""
        with undisturbed():
            started = now = perf_counter()
            while not self.done and now - started + self.longest <= seconds:
                self.done = next(self._steps, self) is self
                before, now = now, perf_counter()
                self.longest = max(self.longest, now - before)
            self.seconds += now - started


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection while timing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
