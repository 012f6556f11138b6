"""convopt itself: as a plan whose filters are packed once, as calls that get their filters anew, and as a chain of plans."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from problem import NotServedError  # type: ignore[import-not-found]

import convopt
from convopt.shape import ConvShape
from convopt.tuning import measure, planner
from convopt.tuning.candidates import Request

#: Values that are added and clipped at a time, so that they are still in cache the second time.
PIECE = 1 << 15


def start(engine: str, threads: int) -> None:
    """Nothing to set up: the number of threads is an argument."""


def prepare(engine: str, threads: int, problem: Any) -> Any:
    """(call, to_numpy, facts)"""
    x, w = problem.x, problem.w
    options: dict[str, Any] = {"strides": problem.strides, "padding": problem.pads, "dilations": problem.dilations, "threads": threads}
    if engine == "convopt":
        shape = ConvShape.from_arguments(x.shape, w.shape, problem.strides, problem.pads, "NHWC", problem.dilations)
        request = Request(shape, bias=False, activation=None, threads=threads, constant_filters=True)
        start = time.perf_counter()
        planner.choose(request, "measure", effort=measure.THOROUGH if problem.thorough else measure.NORMAL)
        tuning_seconds = time.perf_counter() - start
        plan = convopt.plan(x.shape, w, tune="measure", **options)
        facts = {
            "tuning_seconds": tuning_seconds,
            "choice": plan.choice.contenders[0].label,
            "algorithm": plan.algorithm,
            "error": plan.measured_error,
            "workspace_bytes": plan.workspace_bytes,
            "packed_bytes": plan.packed_bytes,
            "packing_seconds": min(_seconds(lambda: plan.update_filters(w)) for _ in range(5)),
            "contenders": [
                {"label": each.label, "algorithm": each.algorithm, "seconds": each.seconds, "error": each.error, "estimate": each.estimate}
                for each in plan.choice.contenders
                if each.seconds is not None
            ],
        }
        y = plan(x)  # as the runtimes with bound outputs do, a plan may write where it wrote before
        return lambda: plan(x, out=y), lambda y: y, facts
    return lambda: convopt.conv2d(x, w, tune="measure", **options), lambda y: y, {}


def forward(engine: str, threads: int, network: Any) -> Any:
    """(call, to_numpy, facts) of a chain of plans; NumPy does what is no convolution: pooling, and adding across."""
    if engine != "convopt":
        raise NotServedError("whole networks are chains of plans")
    calls: list[Callable[[], Any]] = []
    others: list[Callable[[], Any]] = []
    algorithms: dict[str, int] = {}
    buffers = Buffers()

    def convolve(step: Any, x: Any, plus: Any) -> Any:
        plan = convopt.plan(
            x.shape,
            step.w,
            step.strides,
            step.pads,
            dilations=step.dilations,
            bias=step.b,
            activation=step.activation if plus is None else None,
            tune="measure",
            threads=threads,
        )
        y = buffers.take(plan.shape.output_shape)
        calls.append(partial(plan, x, out=y))
        if plus is not None:
            others.append(adding(y, plus, step.activation))
            calls.append(others[-1])
        algorithms[plan.algorithm] = algorithms.get(plan.algorithm, 0) + 1
        return y

    def pool(step: Any, x: Any) -> Any:
        n, h, w, c = x.shape
        y = buffers.take((n, *((size + 2 * step.pad - step.window) // step.stride + 1 for size in (h, w)), c))
        others.append(pooling(step, x, y))
        calls.append(others[-1])
        return y

    y = network.walk(network.x, convolve, pool, buffers.give)

    def call() -> None:
        for each in calls:
            each()

    call()
    beside = sum(min(_seconds(each) for _ in range(5)) for each in others)
    return call, lambda _: y, {"algorithms": algorithms, "beside_seconds": beside}


class Buffers:
    """Arrays that are used again as soon as what was in them is not needed any more."""

    def __init__(self) -> None:
        self.free: list[Any] = []

    def take(self, shape: Any) -> Any:
        """An array, contents unknown: the smallest free memory it fits in, or new memory."""
        size = int(np.prod(shape))
        fitting = [index for index, each in enumerate(self.free) if each.size >= size]
        memory = self.free.pop(min(fitting, key=lambda index: self.free[index].size)) if fitting else np.empty(size, np.float32)
        return memory[:size].reshape(shape)

    def give(self, array: Any) -> None:
        """This array's memory may be taken."""
        while array.base is not None:
            array = array.base
        self.free.append(array)


def adding(y: Any, other: Any, activation: str | None) -> Callable[[], None]:
    """y += other, then the activation, piece by piece."""
    pairs = [(y.reshape(-1)[at : at + PIECE], other.reshape(-1)[at : at + PIECE]) for at in range(0, y.size, PIECE)]

    def call() -> None:
        for piece, addend in pairs:
            np.add(piece, addend, out=piece)
            if activation is not None:
                np.maximum(piece, 0, out=piece)
            if activation == "relu6":
                np.minimum(piece, 6, out=piece)

    return call


def pooling(step: Any, x: Any, y: Any) -> Callable[[], None]:
    """y = the largest of each window of x: of its columns, then of these in each row, so that most of it is long runs of values."""
    between = np.empty((x.shape[0], y.shape[1], *x.shape[2:]), x.dtype)
    columns, rows = largest(step, x, between, 1), largest(step, between, y, 2)

    def call() -> None:
        columns()
        rows()

    return call


def largest(step: Any, x: Any, y: Any, axis: int) -> Callable[[], None]:
    """y = the largest of each window of x along one axis."""
    pairs = []
    for at in range(step.window):
        outputs, inputs = _overlap(at - step.pad, step.stride, x.shape[axis], y.shape[axis])
        pairs.append((y[(slice(None),) * axis + (outputs,)], x[(slice(None),) * axis + (inputs,)]))
    # Those that meet all outputs make the beginning: nothing need be filled in for the others to be compared with.
    whole = [values for part, values in pairs if part.shape == y.shape][:2]
    others = [(part, values) for part, values in pairs if not any(values is each for each in whole)]

    def call() -> None:
        if whole:
            np.maximum(whole[0], whole[-1], out=y)
        else:
            y.fill(-np.inf)
        for part, values in others:
            np.maximum(part, values, out=part)

    return call


def _overlap(offset: int, stride: int, size: int, out: int) -> tuple[slice, slice]:
    """(which outputs, which inputs) there are of output i from input i * stride + offset."""
    first = max(0, -(offset // stride))
    last = min(out, (size - 1 - offset) // stride + 1)
    return slice(first, last), slice(first * stride + offset, (last - 1) * stride + offset + 1, stride)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
