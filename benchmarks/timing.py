"""Timing calls in turn, so that whatever slows the machine slows all of them alike."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

LEAST_CALLS = 5


def alternate(calls: Sequence[Callable[[], Any]], seconds: float) -> list[list[float]]:
    """Seconds that each of these calls took, every time, while they were repeated in turn."""
    times: list[list[float]] = [[] for _ in calls]
    end = perf_counter() + seconds
    while len(times[0]) < LEAST_CALLS or perf_counter() < end:
        for call, taken in zip(calls, times, strict=True):
            start = perf_counter()
            call()
            taken.append(perf_counter() - start)
    return times
