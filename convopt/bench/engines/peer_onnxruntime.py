"""ONNX Runtime: a model of one Conv, input and output bound beforehand so that nothing is copied."""

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def start(engine: str, threads: int) -> None:
    """Threads belong to a session."""


def prepare(engine: str, threads: int, problem: Any) -> Any:
    """(call, to_numpy, facts)"""
    x, w = problem.x_nchw, problem.w_oihw
    (top, bottom), (left, right) = problem.pads
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        strides=list(problem.strides),
        dilations=list(problem.dilations),
        pads=[top, left, bottom, right],
        group=problem.groups,
    )
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8  # so that older versions read it as well
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty_like(session.run(None, {"x": x})[0]))
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_ortvalue_output("y", y)
    return lambda: session.run_with_iobinding(binding), lambda _: y.numpy().transpose(0, 2, 3, 1), {}
