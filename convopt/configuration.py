"""What conv2d keeps for each combination of shapes and options: the choice made for it, and plans to serve it with.

The table is bounded by the bytes that its plans hold, not by their number: one plan may hold a kilobyte or half a gigabyte.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convopt.errors import DTypeError, ShapeError, WorkspaceError
from convopt.plan import ConvPlan
from convopt.tuning import planner, recording

if TYPE_CHECKING:
    from convopt.tuning.choice import Choice
    from convopt.tuning.planner import Request

#: Bytes of packed filters and workspaces that are kept, unless CONVOPT_PLAN_MEMORY says otherwise, and the most configurations.
MOST_BYTES = 1 << 30
MOST = 4096
#: What a configuration takes besides, roughly: a plan's own fields, what its choice was made among.
OVERHEAD = 1 << 14
#: Measuring is never expected to take longer than so many times what was foreseen: one bad hour must not end it.
MOST_PACE = 8.0


class Configuration:
    """One combination of shapes and options of conv2d: the choice made for it, and idle plans to serve it with.

    Level "auto" is ski rental: run with the estimate until the time spent equals what measuring would cost, then measure
    once; whatever the number of calls, the total stays within about twice the best that hindsight could do.
    """

    def __init__(self, request: Request, input_shape: tuple[int, ...], algorithm: str, level: str) -> None:
        self.request, self.input_shape, self.algorithm = request, input_shape, algorithm
        self.level = "estimate" if level == "auto" else level
        self.idle: list[ConvPlan] = []
        self.spent, self.budget, self.allowance = 0.0, 0.0, float("inf")
        self.nbytes = 0
        self.used = False
        first = self.new_plan(self.level)
        if level == "auto" and algorithm == "auto" and not request.deterministic and first.choice.source == "estimate":
            self.budget = planner.budget(request)
            self.allowance = self.budget * _pace
        self.idle.append(first)

    def new_plan(self, level: str) -> ConvPlan:
        """One more plan, without filters."""
        bias = np.zeros(self.request.shape.k, self.request.shape.dtype) if self.request.bias else None
        plan = build(self.request, self.algorithm, level, None, bias, self.input_shape)
        self.nbytes += plan.packed_bytes + plan.workspace_bytes + OVERHEAD
        return plan

    def __call__(self, x: NDArray[Any], w: NDArray[Any], bias: Any, out: NDArray[Any] | None) -> NDArray[Any]:
        self.used = self.spent > 0  # not by its first call: that alone is no reason to keep it
        idle = self.idle  # measuring may replace the list: a plan goes back to where it came from
        try:
            serving = idle.pop()
        except IndexError:
            serving = self.new_plan(self.level)
            configurations.shrink(self)
        started = time.perf_counter()
        try:
            result = serving.call_once(x, w, bias, out)
        finally:
            idle.append(serving)
        self.spent += time.perf_counter() - started
        if self.spent > self.allowance:
            self.measure()
        return result

    def measure(self) -> None:
        """Let the tuner have its turn, once; other threads, and other configurations, go on with the plans there are."""
        global _pace
        if not planner.is_free() or not _tuning.acquire(blocking=False):
            return
        try:
            if self.spent > self.allowance and self.spent > self.budget * _pace:
                self.allowance = float("inf")
                started = time.perf_counter()
                before, self.nbytes = self.nbytes, 0
                try:
                    self.idle = [self.new_plan("measure")]
                    self.level = "measure"
                    # A busy machine, or one unlike others, takes longer than foreseen: so the others wait longer, too.
                    taken = (time.perf_counter() - started) / max(self.budget, 1e-3)
                    _pace = min(max((_pace + taken) / 2, 1.0), MOST_PACE)
                except BaseException:
                    self.nbytes += before
                    raise
        finally:
            _tuning.release()


class Configurations:
    """The table of configurations, bounded by bytes: those not used since they were last looked at are forgotten first."""

    def __init__(self) -> None:
        self._table: dict[Any, Configuration] = {}
        self._guard = threading.Lock()
        self.get = self._table.get

    def add(self, key: Any, configuration: Configuration) -> None:
        """Keep a configuration under a key, and others only while there is room."""
        self._table[key] = configuration
        self.shrink(configuration)

    def shrink(self, keep: Configuration) -> None:
        """Forget configurations until the others, and `keep`, are within the limits."""
        limit = most_bytes()
        with self._guard:
            nbytes = self.nbytes
            for _ in range(2 * len(self._table)):  # each may be spared once
                if (nbytes <= limit and len(self._table) <= MOST) or len(self._table) == 1:
                    return
                key = next(iter(self._table))
                oldest = self._table.pop(key)
                if oldest is keep or oldest.used:
                    oldest.used = False
                    self._table[key] = oldest
                else:
                    nbytes -= oldest.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes that all plans hold, roughly."""
        return sum(each.nbytes for each in list(self._table.values()))

    def __len__(self) -> int:
        return len(self._table)

    def clear(self) -> None:
        """Forget all."""
        self._table.clear()


def most_bytes() -> int:
    """The limit. Raises ShapeError where CONVOPT_PLAN_MEMORY is no number of bytes."""
    text = os.environ.get("CONVOPT_PLAN_MEMORY") or str(MOST_BYTES)
    if not text.isdecimal():
        raise ShapeError(f"CONVOPT_PLAN_MEMORY is {text!r}; expected a number of bytes, at least 0")
    return int(text)


configurations = Configurations()
# Seconds that measuring takes over those foreseen, as seen so far; a little more than none to begin with.
_pace = 1.25
#: Held by the one thread that measures for conv2d.
_tuning = threading.Lock()


def _after_fork_in_child() -> None:
    global _tuning
    _tuning = threading.Lock()  # whoever held it is not here to release it
    configurations._guard = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def build(
    request: Request, algorithm: str, level: str, w: NDArray[Any] | None, bias: ArrayLike | None, input_shape: tuple[int, ...],
    follows_default: bool = False,
) -> ConvPlan:  # fmt: skip
    """Choose and prepare; where memory does not suffice, again with an algorithm that needs less.

    follows_default: the plan's calls use as many threads as the default is then, not always those of the request.
    """
    if not isinstance(algorithm, str):
        raise DTypeError(f"algorithm is {algorithm!r}; expected 'auto' or a name such as 'direct'")
    recording.note(request)
    while True:
        choice: Choice = planner.choose(request, level, algorithm)
        try:
            return ConvPlan(
                request.shape, choice.algorithm, dict(choice.params), w, bias=bias, activation=request.activation,
                threads=None if follows_default else request.threads, input_shape=input_shape, choice=choice,
            )  # fmt: skip
        except WorkspaceError as error:
            if algorithm != "auto" or not error.needed:
                raise
            request = replace(request, max_workspace=error.needed - 1)
