"""JAX: a compiled function with constant filters."""

import os
from typing import Any

import numpy as np


def start(engine: str, threads: int) -> None:
    """XLA reads its number of threads when it starts, and from the cores it may use."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    eigen = "true" if threads > 1 else "false"
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={threads}"
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-threads:])
    import jax  # noqa: F401


def prepare(engine: str, threads: int, problem: Any) -> Any:
    """(call, to_numpy, facts)"""
    import jax

    x, w = jax.numpy.asarray(problem.x), jax.numpy.asarray(problem.w)

    def convolve(x: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x,
            w,
            problem.strides,
            problem.pads,
            rhs_dilation=problem.dilations,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=problem.groups,
        )

    compiled = jax.jit(convolve)
    return lambda: compiled(x).block_until_ready(), np.asarray, {}


def forward(engine: str, threads: int, network: Any) -> Any:
    """(call, to_numpy, facts) of a whole network as one compiled function."""
    import jax

    def convolve(step: Any, x: Any, plus: Any) -> Any:
        geometry = {"rhs_dilation": step.dilations, "dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": step.groups}
        y = jax.lax.conv_general_dilated(x, jax.numpy.asarray(step.w), step.strides, step.pads, **geometry) + step.b
        y = y if plus is None else y + plus
        return y if step.activation is None else jax.numpy.clip(y, 0, 6 if step.activation == "relu6" else None)

    def pool(step: Any, x: Any) -> Any:
        window, strides, pads = (1, step.window, step.window, 1), (1, step.stride, step.stride, 1), (step.pad, step.pad)
        return jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, strides, ((0, 0), pads, pads, (0, 0)))

    x = jax.numpy.asarray(network.x)
    compiled = jax.jit(lambda x: network.walk(x, convolve, pool))
    return lambda: compiled(x).block_until_ready(), np.asarray, {}
