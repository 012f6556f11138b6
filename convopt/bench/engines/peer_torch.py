"""PyTorch in its four ways: plain NCHW, channels_last, and with filters (and input) reordered for oneDNN beforehand."""

from typing import Any

import torch
import torch.nn.functional as functional
from problem import NotServedError  # type: ignore[import-not-found]


def start(engine: str, threads: int) -> None:
    """Inference on so many threads."""
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)


def prepare(engine: str, threads: int, problem: Any) -> Any:
    """(call, to_numpy, facts)"""
    x, w = torch.from_numpy(problem.x_nchw), torch.from_numpy(problem.w_oihw)
    (top, bottom), (left, right) = problem.pads
    pads = [top, left]
    if not problem.symmetric:  # PyTorch pads both sides alike; what it lacks is done beforehand, untimed
        x, pads = functional.pad(x, (left, right, top, bottom)), [0, 0]
    strides, dilations, groups = list(problem.strides), list(problem.dilations), problem.groups
    if engine == "torch_nchw":
        return lambda: functional.conv2d(x, w, None, strides, pads, dilations, groups), _nhwc, {}
    last = x.contiguous(memory_format=torch.channels_last)
    if engine == "torch_nhwc":
        w_last = w.contiguous(memory_format=torch.channels_last)
        return lambda: functional.conv2d(last, w_last, None, strides, pads, dilations, groups), _nhwc, {}
    packed = torch._C._nn.mkldnn_reorder_conv2d_weight(w.to_mkldnn(), pads, strides, dilations, groups, list(x.shape))
    if engine == "torch_prepacked":
        convolve = torch.ops.mkldnn._convolution_pointwise
        return lambda: convolve(last, packed, None, pads, strides, dilations, groups, "none", [], ""), _nhwc, {}
    blocked = x.to_mkldnn()
    return lambda: torch.mkldnn_convolution(blocked, packed, None, pads, strides, dilations, groups), lambda y: _nhwc(y.to_dense()), {}


def _nhwc(y: Any) -> Any:
    return y.permute(0, 2, 3, 1).numpy()


def forward(engine: str, threads: int, network: Any) -> Any:
    """(call, to_numpy, facts) of a whole network; prepacked: with activations and additions fused, as torch.compile does it."""
    if engine == "torch_blocked":
        raise NotServedError("not a way in which whole networks are run")
    layout = torch.contiguous_format if engine == "torch_nchw" else torch.channels_last
    x = torch.from_numpy(network.x_nchw).contiguous(memory_format=layout)
    weights: dict[int, Any] = {}

    def convolve(step: Any, x: Any, plus: Any) -> Any:
        geometry = list(step.strides), list(step.padding), list(step.dilations), step.groups
        if engine == "torch_prepacked":
            return _fused(step, x, plus, weights, geometry)
        if step.number not in weights:
            w = torch.from_numpy(step.w_oihw).contiguous(memory_format=layout)
            weights[step.number] = w, torch.from_numpy(step.b)
        y = functional.conv2d(x, *weights[step.number], *geometry)
        if plus is not None:
            y.add_(plus)
        return y.clamp_(0, 6) if step.activation == "relu6" else y.relu_() if step.activation else y

    def pool(step: Any, x: Any) -> Any:
        return functional.max_pool2d(x, step.window, step.stride, step.pad)

    return lambda: network.walk(x, convolve, pool), _nhwc, {}


def _fused(step: Any, x: Any, plus: Any, weights: dict[int, Any], geometry: Any) -> Any:
    strides, pads, dilations, groups = geometry
    if step.number not in weights:
        w = torch.from_numpy(step.w_oihw).to_mkldnn()
        packed = torch._C._nn.mkldnn_reorder_conv2d_weight(w, pads, strides, dilations, groups, list(x.shape))
        weights[step.number] = packed, torch.from_numpy(step.b)
    operation, arguments = torch.ops.mkldnn._convolution_pointwise, (pads, strides, dilations, groups)
    if plus is not None:
        return operation.binary(x, plus, *weights[step.number], *arguments, "add", 1.0, step.activation, [], None)
    name, limits = {None: ("none", []), "relu": ("relu", []), "relu6": ("hardtanh", [0.0, 6.0])}[step.activation]
    return operation(x, *weights[step.number], *arguments, name, limits, "")
