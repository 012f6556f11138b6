"""What conv2d keeps for each combination of shapes and options: the choice made for it, and plans to serve it with.

The table is bounded by the bytes that its plans hold, not by their number: one plan may hold a kilobyte or half a gigabyte.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
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
#: Share of the seconds foreseen for measuring that calls must have taken before it begins. What is foreseen is rough: where measuring
#: takes longer, calls pay for the rest as they go on; where it is over sooner, they waited longer than they should have.
BEGIN = 0.6
#: Seconds of measuring that a second in calls pays for. With 1, all may take twice what calls did alone; where measuring does not make
#: calls ten times as fast, a little less than 1 is less in all, whenever the calls end.
PAYS = 0.8


class Configuration:
    """One combination of shapes and options of conv2d: the choice made for it, and idle plans to serve it with.

    Level "auto" is ski rental: run with the estimate until the time spent nears what measuring would cost, then measure
    once, step by step, for no longer in all than calls have taken until then; whatever the number of calls, the total stays within
    about twice the best that hindsight could do.

    spent: seconds in calls. paid: those of them that have been given for measuring. allowance: those after which it may go on.
    forgotten: whether the table has no room for it any more.
    """

    def __init__(self, request: Request, input_shape: tuple[int, ...], algorithm: str, level: str) -> None:
        self.request, self.input_shape, self.algorithm = request, input_shape, algorithm
        self.level = "estimate" if level == "auto" else level
        self.idle: list[ConvPlan] = []
        self.spent, self.paid, self.allowance = 0.0, 0.0, float("inf")
        self.nbytes = 0
        self.used = self.forgotten = False
        first = self.new_plan(self.level)
        if level == "auto" and algorithm == "auto" and not request.deterministic and first.choice.source == "estimate":
            self.allowance = BEGIN * planner.budget(request)
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
            try:
                _tuner.pay(self)
            except Exception as error:  # the result is there: whatever measuring ran into must not lose it
                warnings.warn(f"{self.request.key()} could not be measured: {error!r}", RuntimeWarning, stacklevel=2)
        return result

    def settle(self) -> None:
        """All was measured: choose anew."""
        before, self.nbytes = self.nbytes, 0
        try:
            self.idle = [self.new_plan("measure")]
            self.level = "measure"
        except BaseException:
            self.nbytes += before
            raise


class Tuner:
    """Measures for conv2d: one configuration after the other, which pay together; other threads go on with the plans there are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Configuration] = deque()
        self._tuning: planner.Tuning | None = None
        self._purse = 0.0

    def pay(self, configuration: Configuration) -> None:
        """Take what a configuration has spent since it last paid, and measure for so long."""
        if not planner.is_free() or not self._lock.acquire(blocking=False):
            return
        try:
            if configuration.spent <= configuration.allowance:
                return  # another thread was here first
            if not configuration.paid:
                self._waiting.append(configuration)
            self._purse += PAYS * (configuration.spent - configuration.paid)
            configuration.paid = configuration.allowance = configuration.spent
            self._go_on()
        finally:
            self._lock.release()

    def _go_on(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            finished = True  # should it fail, too: it is not tried again
            try:
                finished = first.forgotten or self._has_measured(first)
            finally:
                if finished:
                    first.allowance = float("inf")
                    self._waiting.popleft()
                    self._tuning = None
            if not finished:
                return
        self._purse = 0.0  # what was paid for one layer is not saved for another: it would be tuned before it had paid

    def _has_measured(self, first: Configuration) -> bool:
        if self._tuning is None:
            self._tuning = planner.Tuning(first.request)
        self._purse -= self._tuning.pay(self._purse)
        if self._tuning.done:
            first.settle()
        return self._tuning.done


class Configurations:
    """The table of configurations, bounded by bytes: those not used since they were last looked at are forgotten first."""

    def __init__(self) -> None:
        self._table: dict[Any, Configuration] = {}
        self._guard = threading.Lock()
        self.get = self._table.get

    def add(self, key: Any, configuration: Configuration) -> None:
        """Keep a configuration under a key, and others only while there is room."""
        most_bytes()  # may be no number: then nothing is kept
        with self._guard:
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
                    oldest.forgotten = True
                    nbytes -= oldest.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes that all plans hold, roughly."""
        return sum(each.nbytes for each in list(self._table.values()))

    def __len__(self) -> int:
        return len(self._table)

    def clear(self) -> None:
        """Forget all."""
        with self._guard:
            for each in self._table.values():
                each.forgotten = True
            self._table.clear()


def most_bytes() -> int:
    """The limit. Raises ShapeError where CONVOPT_PLAN_MEMORY is no number of bytes."""
    text = os.environ.get("CONVOPT_PLAN_MEMORY") or str(MOST_BYTES)
    if not text.isdecimal():
        raise ShapeError(f"CONVOPT_PLAN_MEMORY is {text!r}; expected a number of bytes, at least 0")
    return int(text)


configurations = Configurations()
_tuner = Tuner()


def _after_fork_in_child() -> None:
    global _tuner
    _tuner = Tuner()  # whoever held its lock is not here to release it
    configurations._guard = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def build(
    request: Request, algorithm: str, level: str, w: NDArray[Any] | None, bias: ArrayLike | None, input_shape: tuple[int, ...],
    follows_default: bool = False,
) -> ConvPlan:  # fmt: skip
    """Choose and prepare; where memory does not suffice, again with an algorithm that needs less scratch memory.

    follows_default: the plan's calls use as many threads as the default is then, not always those of the request.
    """
    if not isinstance(algorithm, str):
        raise DTypeError(f"algorithm is {algorithm!r}; expected 'auto' or a name such as 'direct'")
    recording.note(request)
    failed: WorkspaceError | None = None
    while True:
        try:
            choice: Choice = planner.choose(request, level, algorithm)
        except WorkspaceError:
            if failed is None:
                raise
            raise failed from None
        try:
            return ConvPlan(
                request.shape, choice.algorithm, dict(choice.params), w, bias=bias, activation=request.activation,
                threads=None if follows_default else request.threads, input_shape=input_shape, choice=choice,
            )  # fmt: skip
        except WorkspaceError as error:
            failed = failed or error
            workspace = choice.contenders[0].workspace_bytes
            if algorithm != "auto" or not workspace:
                raise failed from None
            request = replace(request, max_workspace=workspace - 1)
