"""A large filter on a large picture: convopt.filter2d beside SciPy's and OpenCV's, time and memory.

    python benchmarks/large_filter.py [--size 4096] [--kernel 63] [--threads 1] [--repeats 5]

Each method runs in a process of its own: the best time of its calls, and by how much the process grew beyond picture and
kernel at its largest, result included. A method whose package is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

METHODS = ("convopt", "cv2.filter2D", "scipy.oaconvolve", "scipy.fftconvolve")
LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def method(name: str, threads: int) -> Callable[[Any, Any], Any]:
    """The correlation of a picture with a kernel, "same" size, zeros beyond the edges. Raises ImportError."""
    if name == "convopt":
        import convopt

        return lambda image, kernel: convopt.filter2d(image, kernel, tune="estimate", threads=threads)
    if name == "cv2.filter2D":
        import cv2

        cv2.setNumThreads(threads)
        return lambda image, kernel: cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    from scipy import fft, signal

    convolve = getattr(signal, name.partition(".")[2])

    def correlate(image: Any, kernel: Any) -> Any:
        with fft.set_workers(threads):
            return convolve(image, kernel[::-1, ::-1], "same")

    return correlate


def peak_bytes() -> int:
    """The most memory this process had at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(name: str, size: int, kernel: int, threads: int, repeats: int) -> dict[str, Any]:
    """Time, memory and error of one method, in this process."""
    import numpy as np

    rng = np.random.default_rng(0)
    image, taps = rng.random((size, size), dtype="f4"), rng.random((kernel, kernel), dtype="f4") - 0.5
    call = method(name, threads)
    call(image[:100, :100], taps[:1, :1])  # loads what is loaded lazily
    before = peak_bytes()
    result = call(image, taps)
    memory = peak_bytes() - before
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call(image, taps)
        seconds.append(time.perf_counter() - started)
    half = kernel // 2
    errors, scale = [], 0.0
    for y, x in rng.integers(half, size - half, (50, 2)):
        exact = (image[y - half : y - half + kernel, x - half : x - half + kernel].astype("f8") * taps).sum()
        errors.append(abs(result[y, x] - exact))
        scale = max(scale, abs(exact))
    return {"seconds": min(seconds), "bytes": memory, "error": max(errors) / scale}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("size", 4096), ("kernel", 63), ("threads", 1), ("repeats", 5)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    options = vars(parser.parse_args())
    name = options.pop("method")
    if name:
        print(json.dumps(measure(name, **options)))
        return
    print(
        f"{options['size']} x {options['size']} float32, {options['kernel']} x {options['kernel']} filter, {options['threads']} thread(s)"
    )
    environment = {**os.environ, **dict.fromkeys(LIMITS, str(options["threads"]))}
    arguments = [f"--{option}={value}" for option, value in options.items()]
    base = None
    for name in METHODS:
        done = subprocess.run([sys.executable, __file__, *arguments, "--method", name], env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:18} left out: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
            continue
        found = json.loads(done.stdout)
        base = base or found["seconds"]
        print(
            f"{name:18} {1e3 * found['seconds']:9.1f} ms  {found['seconds'] / base:5.1f} x  "
            f"{found['bytes'] / 2**20:7.0f} MiB  error {found['error']:.1e}"
        )


if __name__ == "__main__":
    main()
