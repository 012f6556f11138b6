"""ncnn: a network of one layer, in float32."""

import tempfile
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
from problem import NotServedError  # type: ignore[import-not-found]

_MAGIC = 7767517
#: As numbered parameters of a convolution; a number below -23300 begins an array.
_ACTIVATIONS: dict[str | None, dict[int, Any]] = {None: {}, "relu": {9: 1}, "relu6": {9: 3, -23310: "2,0.0,6.0"}}


def start(engine: str, threads: int) -> None:
    """Threads belong to a network."""


def prepare(engine: str, threads: int, problem: Any) -> Any:
    """(call, to_numpy, facts)"""
    if problem.x.shape[0] != 1:
        raise NotServedError("ncnn has no batches")
    x, w = problem.x_nchw[0], problem.w_oihw
    layer = _convolution_numbers(problem, problem.w.shape, problem.pads) | {5: 0}
    lines = ["Input data 0 1 data", _line(_kind(problem.groups), "layer", ["data"], ["out"], layer)]
    return _network(lines, 2, [w], x, threads)


def forward(engine: str, threads: int, network: Any) -> Any:
    """(call, to_numpy, facts) of a whole network; what several layers read is split beforehand, as ncnn wants it."""
    uses, copies = network.uses(), {}
    lines, arrays, blobs = ["Input data 0 1 data"], [], 1

    def finish(value: str, index: int) -> str:
        """The name by which layers find value `index`: each time another one, where there are several."""
        nonlocal blobs
        blobs += 1
        count = uses.get(index, 0)
        if count > 1:
            copies[value] = [f"{value}_{number}" for number in range(count)]
            lines.append(_line("Split", f"split_{value}", [value], copies[value], {}))
            blobs += count
        return value

    def source(value: str) -> str:
        return copies[value].pop() if value in copies else value

    def convolve(step: Any, x: str, plus: str | None) -> str:
        nonlocal blobs
        numbers = _convolution_numbers(step, step.w.shape, step.pads) | {5: 1}
        name = f"v{step.number + 1}"
        if plus is None:
            numbers |= _ACTIVATIONS[step.activation]
        inner = name if plus is None else f"{name}_inner"
        lines.append(_line(_kind(step.groups), f"conv{step.number}", [source(x)], [inner], numbers))
        arrays.append(step.w_oihw)
        arrays.append(step.b)
        if plus is not None:
            summed = f"{name}_sum" if step.activation else name
            lines.append(_line("BinaryOp", f"add{step.number}", [inner, source(plus)], [summed], {0: 0}))
            blobs += 1
            if step.activation:
                lines.append(_line("ReLU", f"relu{step.number}", [summed], [name], {}))
                blobs += 1
        return finish(name, step.number + 1)

    def pool(step: Any, x: str) -> str:
        sizes = {0: 0, 1: step.window, 2: step.stride, 3: step.pad, 5: 1}
        name = f"v{step.number + 1}"
        lines.append(_line("Pooling", f"pool{step.number}", [source(x)], [name], sizes))
        return finish(name, step.number + 1)

    last = network.walk(finish("data", 0), convolve, pool)
    lines.append(_line("Noop", "last", [last], ["out"], {}))
    return _network(lines, blobs + 1, arrays, network.x_nchw[0], threads)


def _network(lines: list[str], blobs: int, arrays: list[Any], x: Any, threads: int) -> Any:
    """(call, to_numpy, facts) of layers in ncnn's own text format; arrays: filters and bias in turn."""
    net = ncnn.Net()
    options = net.opt
    options.num_threads = threads
    options.use_vulkan_compute = options.use_bf16_storage = False
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
    net.opt = options
    with tempfile.TemporaryDirectory() as folder:
        param, weights = Path(folder) / "layer.param", Path(folder) / "layer.bin"
        param.write_text(f"{_MAGIC}\n{len(lines)} {blobs}\n" + "\n".join(lines) + "\n")
        # Before filters, which have four dimensions here, a zero says: float32 follows.
        weights.write_bytes(b"".join(np.zeros(int(each.ndim == 4), np.int32).tobytes() + each.tobytes() for each in arrays))
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise NotServedError("ncnn cannot load this")
    held = x.copy()
    data = ncnn.Mat(held)

    def call(_held: Any = held) -> Any:
        extractor = net.create_extractor()
        extractor.input("data", data)
        return extractor.extract("out")[1]

    return call, lambda y: np.array(y).transpose(1, 2, 0)[None], {}


def _kind(groups: int) -> str:
    return "Convolution" if groups == 1 else "ConvolutionDepthWise"


def _convolution_numbers(problem: Any, filters_shape: Any, pads: Any) -> dict[int, Any]:
    """A convolution's numbered parameters."""
    r, s, group_c, k = filters_shape
    (top, bottom), (left, right) = pads
    numbers = {0: k, 1: s, 11: r, 3: problem.strides[1], 13: problem.strides[0], 2: problem.dilations[1], 12: problem.dilations[0]}
    numbers |= {4: left, 14: top, 15: right, 16: bottom, 6: r * s * group_c * k}
    return numbers if problem.groups == 1 else numbers | {7: problem.groups}


def _line(kind: str, name: str, inputs: list[str], outputs: list[str], numbers: dict[int, Any]) -> str:
    """A layer in ncnn's own text format."""
    values = [f"{number}={value}" for number, value in numbers.items()]
    return " ".join([kind, name, str(len(inputs)), str(len(outputs)), *inputs, *outputs, *values])
