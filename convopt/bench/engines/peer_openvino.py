"""OpenVINO: a compiled model of one convolution, in float32."""

from typing import Any

import numpy as np
import openvino
from openvino import opset8


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
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
    compiled = openvino.Core().compile_model(openvino.Model([node], [parameter]), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    # The request does not keep what it reads.
    alive = (x, w, compiled)
    return lambda _alive=alive: request.infer(), lambda _: request.get_output_tensor().data.transpose(0, 2, 3, 1), {}
