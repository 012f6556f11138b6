"""OpenVINO: a compiled model of one convolution, in float32."""

from typing import Any

import numpy as np
import openvino
from openvino import opset1, opset8


def start(engine: str, threads: int) -> None:
    """Threads belong to a compiled model."""


def prepare(engine: str, threads: int, problem: Any) -> Any:
    """(call, to_numpy, facts)"""
    x, w = problem.x_nchw, problem.w_oihw
    (top, bottom), (left, right) = problem.pads
    geometry = list(problem.strides), [top, left], [bottom, right], list(problem.dilations)
    parameter = opset8.parameter(list(x.shape), np.float32)
    if problem.groups > 1:
        grouped = w.reshape(problem.groups, -1, *w.shape[1:])
        node = opset8.group_convolution(parameter, opset8.constant(grouped), *geometry)
    else:
        node = opset8.convolution(parameter, opset8.constant(w), *geometry)
    return _compiled(node, parameter, x, threads)


def forward(engine: str, threads: int, network: Any) -> Any:
    """(call, to_numpy, facts) of a whole network as one model, which the runtime fuses as it likes."""

    def convolve(step: Any, x: Any, plus: Any) -> Any:
        w = step.w_oihw
        geometry = list(step.strides), list(step.padding), list(step.padding), list(step.dilations)
        if step.groups > 1:
            y = opset8.group_convolution(x, opset8.constant(w.reshape(step.groups, -1, *w.shape[1:])), *geometry)
        else:
            y = opset8.convolution(x, opset8.constant(w), *geometry)
        y = opset8.add(y, opset8.constant(step.b.reshape(1, -1, 1, 1)))
        y = y if plus is None else opset8.add(y, plus)
        return opset8.clamp(y, 0.0, 6.0) if step.activation == "relu6" else opset8.relu(y) if step.activation else y

    def pool(step: Any, x: Any) -> Any:
        return opset1.max_pool(x, [step.stride] * 2, [step.pad] * 2, [step.pad] * 2, [step.window] * 2)

    x = network.x_nchw
    parameter = opset8.parameter(list(x.shape), np.float32)
    return _compiled(network.walk(parameter, convolve, pool), parameter, x, threads)


def _compiled(node: Any, parameter: Any, x: Any, threads: int) -> Any:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
    compiled = openvino.Core().compile_model(openvino.Model([node], [parameter]), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    # The request does not keep what it reads.
    alive = (x, compiled)
    return lambda _alive=alive: request.infer(), lambda _: request.get_output_tensor().data.transpose(0, 2, 3, 1), {}
