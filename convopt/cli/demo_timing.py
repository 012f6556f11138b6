"""How the demo takes its times: the shortest of several calls, which other programs disturb least."""

import time
from collections.abc import Callable
from typing import Any


def best_seconds(call: Callable[[], Any], budget: float = 0.2, most: int = 50) -> float:
    """Shortest of up to `most` calls within about `budget` seconds, after the caller's own first one."""
    best, end = float("inf"), time.perf_counter() + budget
    for _ in range(most):
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            break
    return best
