"""Libraries that filter images, one filter per channel: SciPy's fftconvolve and OpenCV's filter2D."""

import importlib
from typing import Any

import numpy as np
from problem import NotServedError  # type: ignore[import-not-found]

_MODULES = {"scipy": "scipy.signal", "opencv": "cv2"}


def start(engine: str, threads: int) -> None:
    """Import the library that `engine` stands for."""
    importlib.import_module(_MODULES[engine])
    if engine == "opencv":
        importlib.import_module(_MODULES[engine]).setNumThreads(threads)


def prepare(engine: str, threads: int, problem: Any) -> Any:
    """(call, to_numpy, facts)"""
    if not problem.filters_each_channel:
        raise NotServedError("only one filter of odd size per channel, stride 1, no batch")
    return _scipy(problem) if engine == "scipy" else _opencv(problem)


def _scipy(problem: Any) -> Any:
    signal = importlib.import_module(_MODULES["scipy"])
    x, flipped = problem.x[0], np.ascontiguousarray(problem.w[::-1, ::-1, 0, :])
    mode = "same" if problem.padding == "SAME" else "valid"
    return lambda: signal.fftconvolve(x, flipped, mode, axes=(0, 1)), lambda y: y[None], {}


def _opencv(problem: Any) -> Any:
    cv2 = importlib.import_module(_MODULES["opencv"])
    channels = range(problem.x.shape[3])
    pairs = [(np.ascontiguousarray(problem.x[0, :, :, c]), np.ascontiguousarray(problem.w[:, :, 0, c])) for c in channels]
    top, left = (0, 0) if problem.padding == "SAME" else (problem.w.shape[0] // 2, problem.w.shape[1] // 2)

    def call() -> Any:
        return [cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_CONSTANT) for image, kernel in pairs]

    def to_numpy(planes: Any) -> Any:
        return np.stack([plane[top : plane.shape[0] - top, left : plane.shape[1] - left] for plane in planes], -1)[None]

    return call, to_numpy, {}
