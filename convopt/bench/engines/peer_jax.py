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
