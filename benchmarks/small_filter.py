"""Small filters on pictures: convopt.filter2d beside OpenCV's filter2D, whose home ground they are.

    python benchmarks/small_filter.py [--threads 1] [--seconds 0.5]

Float and uint8 pictures of one and three channels, filters of 3x3 to 7x7, in one process, calls alternating; the shortest
of each counts. Both give float32 and take zeros beyond the edges; results are compared before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from typing import Any

import cv2
import numpy as np
from timing import alternate

import convopt

SIZES = ((480, 640), (1080, 1920))


def calls_for(image: Any, kernel: Any, threads: int) -> list[Callable[[], Any]]:
    """filter2d and OpenCV's."""
    return [
        lambda: convopt.filter2d(image, kernel, tune="measure", threads=threads),
        lambda: cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    rng = np.random.default_rng(0)
    print(f"{options.threads} thread(s); ms of filter2d and of cv2.filter2D, and how much longer the latter takes")
    for (height, width), channels, dtype, taps in product(SIZES, (1, 3), ("float32", "uint8"), (3, 5, 7)):
        shape = (height, width) if channels == 1 else (height, width, channels)
        image = (rng.random(shape) * 255).astype(dtype)
        kernel = rng.random((taps, taps), dtype="f4") / taps**2
        ours, theirs = calls_for(image, kernel, options.threads)
        np.testing.assert_allclose(ours(), theirs(), rtol=1e-4, atol=1e-2)
        a, b = map(min, alternate([ours, theirs], options.seconds))
        print(f"{height}x{width}x{channels} {dtype:7} {taps}x{taps} {1e3 * a:8.3f} {1e3 * b:8.3f}  {b / a:5.2f}")


if __name__ == "__main__":
    main()
