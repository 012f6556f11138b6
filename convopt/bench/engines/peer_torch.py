"""PyTorch in its four ways: plain NCHW, channels_last, and with filters (and input) reordered for oneDNN beforehand."""

from typing import Any

import torch
import torch.nn.functional as functional


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
