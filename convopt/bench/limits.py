"""What the machine allows: multiply-adds per second, and bytes per second from each level of its memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convopt.kernels import limits
from convopt.tuning import machine

#: Seconds of one sample, and how many are taken: the best counts.
SAMPLE, SAMPLES = 0.005, 40
#: Fractions of a cache that count as being inside it.
INSIDE = 0.5
#: Bytes that are in no cache; more, if the last cache is larger.
MEMORY = 1 << 28
#: Read in steps of so many elements.
STEP = 256


def measure(threads: Sequence[int], progress: Callable[[str], None] = lambda doing: None) -> dict[str, Any]:
    """By number of threads: {"gflops": peak, "bandwidth": [{"level", "bytes", "gbps"}, ...]}; takes a second or two each."""
    found: dict[str, Any] = {}
    for count in threads:
        progress(f"limits of {count} thread{'s' * (count > 1)}")
        found[str(count)] = {"gflops": _digits(peak(count)), "bandwidth": bandwidths(count)}
    return found


def measure_again(found: dict[str, Any]) -> None:
    """Peaks of ``measure`` once more, at another time: clocks waver, and the best counts."""
    for count, limit in found.items():
        limit["gflops"] = max(limit["gflops"], _digits(peak(int(count))))


def peak(threads: int) -> float:
    """Most operations per nanosecond, of float32 multiply-adds in registers."""
    alone, together = (lambda rounds, count=count: limits.multiply_add(rounds, count) for count in (1, threads))
    return limits.multiply_add(1, threads) / _seconds_of_one(alone, together) / 1e9


def bandwidths(threads: int) -> list[dict[str, Any]]:
    """GB/s of reading arrays that fit the caches, and one that fits none; bytes: of one thread's part."""
    sizes = {f"L{level}": int(machine.cache_bytes(level) * INSIDE) for level in (1, 2) if machine.cache_bytes(level)}
    last = machine.cache_bytes(3)
    if last:
        # A virtual machine may show a last cache of which it owns but a little.
        sizes["L3"] = min(int(last * INSIDE), 4 * machine.cache_bytes(2)) // threads
    sizes["memory"] = max(MEMORY, 2 * last) // threads
    return [{"level": level, "bytes": size, "gbps": _digits(_bandwidth(size, threads))} for level, size in sizes.items()]


def _bandwidth(size: int, threads: int) -> float:
    numbers = np.ones((threads, size // 4 // STEP * STEP), np.float32)
    alone, together = (lambda repeats, part=part: limits.read(part, repeats) for part in (numbers[:1], numbers))
    return numbers.nbytes / _seconds_of_one(alone, together) / 1e9


def _seconds_of_one(alone: Callable[[int], object], together: Callable[[int], object]) -> float:
    """The least time of one repetition by all threads together, from samples long enough for the clock.

    alone(n), together(n): one thread does something n times, or every thread does. How often is found out alone: on a busy
    machine threads may wait longer for each other than anything takes.
    """
    repeats = 1
    while (seconds := min(_seconds(alone, repeats) for _ in range(3))) < SAMPLE:
        repeats *= 2
    samples = max(3, min(SAMPLES, round(SAMPLES * SAMPLE / seconds)))
    return min(_seconds(together, repeats) for _ in range(samples)) / repeats


def _seconds(call: Callable[[int], object], repeats: int) -> float:
    start = time.perf_counter()
    call(repeats)
    return time.perf_counter() - start


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
