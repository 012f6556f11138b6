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
    return _session([node], x, [numpy_helper.from_array(w, "w")], threads)


def forward(engine: str, threads: int, network: Any) -> Any:
    """(call, to_numpy, facts) of a whole network as one model, which the runtime fuses as it likes."""
    nodes = []
    arrays = [numpy_helper.from_array(np.float32(limit), f"limit{limit}") for limit in (0, 6)]

    def convolve(step: Any, x: str, plus: str | None) -> str:
        names = [f"w{step.number}", f"b{step.number}"]
        arrays.extend(map(numpy_helper.from_array, (step.w_oihw, step.b), names))
        geometry = {"strides": step.strides, "dilations": step.dilations, "pads": [*step.padding, *step.padding], "group": step.groups}
        last = f"conv{step.number}"
        nodes.append(helper.make_node("Conv", [x, *names], [last], **geometry))
        if plus is not None:
            last = add("Add", [last, plus], f"sum{step.number}")
        if step.activation == "relu6":
            return add("Clip", [last, "limit0", "limit6"], f"value{step.number}")
        return add("Relu" if step.activation else "Identity", [last], f"value{step.number}")

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def pool(step: Any, x: str) -> str:
        sizes = {"kernel_shape": [step.window] * 2, "strides": [step.stride] * 2, "pads": [step.pad] * 4}
        return add("MaxPool", [x], f"value{step.number}", **sizes)

    add("Identity", [network.walk("x", convolve, pool)], "y")
    return _session(nodes, network.x_nchw, arrays, threads)


def _session(nodes: list[Any], x: Any, arrays: list[Any], threads: int) -> Any:
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        arrays,
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
