"""Which algorithm wins where: square kernels on square images, as many channels out as in, by the tuner's own race."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import convopt
from convopt.shape import ConvShape

KERNELS = (1, 2, 3, 5, 7, 11, 15, 31)
CHANNELS = (1, 4, 16, 64, 256)
SIZES = (14, 56, 224)
#: Problems of more operations are left out: their winner is that of smaller ones, and they take long.
MOST_FLOPS = 1.5e10


def cells() -> list[ConvShape]:
    """The problems of the map."""
    shapes = []
    for size in SIZES:
        for channels in CHANNELS:
            for kernel in KERNELS:
                if kernel > size:
                    continue
                shape = ConvShape.from_arguments((1, size, size, channels), (kernel, kernel, channels, channels), padding="SAME")
                if shape.flops <= MOST_FLOPS:
                    shapes.append(shape)
    return shapes


def measure(threads: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """{"threads": so many, "cells": [...]}: of each problem the fastest candidate and the fastest of another algorithm."""
    found = []
    for shape in cells():
        progress(f"map: {shape.r}x{shape.s}, {shape.c} channels, {shape.h}x{shape.w}")
        filters = np.full(shape.filters_shape, shape.depth**-0.5, np.float32)
        plan = convopt.plan(shape.input_shape, filters, padding="SAME", tune="measure", threads=threads)
        chosen, *others = plan.choice.contenders
        rivals = [each for each in others if each.algorithm != chosen.algorithm and each.seconds is not None]
        second = min(rivals, key=lambda each: each.seconds, default=None)
        found.append(
            {
                "kernel": shape.r,
                "channels": shape.c,
                "size": shape.h,
                "algorithm": chosen.algorithm,
                "label": chosen.label,
                "seconds": chosen.seconds,
                "gflops": None if chosen.seconds is None else float(f"{shape.flops / chosen.seconds / 1e9:.4g}"),
                "second": None if second is None else second.algorithm,
                "second_seconds": None if second is None else second.seconds,
            }
        )
    return {"threads": threads, "cells": found}
