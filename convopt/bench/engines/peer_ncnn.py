"""ncnn: a network of one layer, in float32."""

import tempfile
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
from problem import NotServedError  # type: ignore[import-not-found]

_MAGIC = 7767517


def start(engine: str, threads: int) -> None:
    """Threads belong to a network."""


def prepare(engine: str, threads: int, problem: Any) -> Any:
    """(call, to_numpy, facts)"""
    if problem.x.shape[0] != 1:
        raise NotServedError("ncnn has no batches")
    x, w = problem.x_nchw[0], problem.w_oihw
    net = ncnn.Net()
    options = net.opt
    options.num_threads = threads
    options.use_vulkan_compute = options.use_bf16_storage = False
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
    net.opt = options
    with tempfile.TemporaryDirectory() as folder:
        param, weights = Path(folder) / "layer.param", Path(folder) / "layer.bin"
        param.write_text(_describe(problem))
        weights.write_bytes(np.zeros(1, np.int32).tobytes() + w.tobytes())  # a zero says: float32 follows
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise NotServedError("ncnn cannot load the layer")
    held = x.copy()
    data = ncnn.Mat(held)

    def call(_held: Any = held) -> Any:
        extractor = net.create_extractor()
        extractor.input("data", data)
        return extractor.extract("out")[1]

    return call, lambda y: np.array(y).transpose(1, 2, 0)[None], {}


def _describe(problem: Any) -> str:
    """The network in ncnn's own text format: numbered parameters of the layers Input and Convolution."""
    _, h, w, c = problem.x.shape
    r, s, _, k = problem.w.shape
    (top, bottom), (left, right) = problem.pads
    numbers = {0: k, 1: s, 11: r, 3: problem.strides[1], 13: problem.strides[0], 2: problem.dilations[1], 12: problem.dilations[0]}
    numbers |= {4: left, 14: top, 15: right, 16: bottom, 5: 0, 6: problem.w.size}
    kind = "Convolution"
    if problem.groups > 1:
        kind, numbers[7] = "ConvolutionDepthWise", problem.groups
    values = " ".join(f"{number}={value}" for number, value in numbers.items())
    return f"{_MAGIC}\n2 2\nInput data 0 1 data 0={w} 1={h} 2={c}\n{kind} layer 1 1 data out {values}\n"
