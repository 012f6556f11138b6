"""convopt itself: as a plan whose filters are packed once, and as calls that get their filters anew."""

import time
from typing import Any

import convopt


def start(engine: str, threads: int) -> None:
    """Nothing to set up: the number of threads is an argument."""


def prepare(engine: str, threads: int, problem: Any) -> Any:
    """(call, to_numpy, facts)"""
    x, w = problem.x, problem.w
    options: dict[str, Any] = {"strides": problem.strides, "padding": problem.pads, "dilations": problem.dilations, "threads": threads}
    if engine == "convopt":
        start = time.perf_counter()
        plan = convopt.plan(x.shape, w, tune="measure", **options)
        facts = {
            "tuning_seconds": time.perf_counter() - start,
            "choice": plan.choice.contenders[0].label,
            "algorithm": plan.algorithm,
            "error": plan.measured_error,
            "workspace_bytes": plan.workspace_bytes,
            "packed_bytes": plan.packed_bytes,
            "contenders": [
                {"label": each.label, "algorithm": each.algorithm, "seconds": each.seconds, "error": each.error, "estimate": each.estimate}
                for each in plan.choice.contenders
                if each.seconds is not None
            ],
        }
        y = plan(x)  # as the runtimes with bound outputs do, a plan may write where it wrote before
        return lambda: plan(x, out=y), lambda y: y, facts
    return lambda: convopt.conv2d(x, w, tune="measure", **options), lambda y: y, {}
