"""Whole networks: how the convolutions of LeNet-5, VGG-16, ResNet-50 and MobileNetV2 hang together.

Which convolutions there are is said by the lists of ``convopt tune --network``; here is what lies between them: pooling, and
values added across. Weights are made up: times do not depend on them. Batch normalisation is part of filters and bias, as
every engine has it in inference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convopt.shape import ConvShape
from convopt.tuning import networks as lists


@dataclass(frozen=True)
class Convolution:
    """One step: value `source` (0 is the input, step i makes value i + 1) by filters of `shape`, plus value `plus`, activated."""

    shape: ConvShape
    source: int
    plus: int | None
    activation: str | None


@dataclass(frozen=True)
class Pooling:
    """One step: the largest of each window of value `source`, whose sizes are (n, h, w, c)."""

    sizes: tuple[int, int, int, int]
    source: int
    window: int
    stride: int
    pad: int


@dataclass
class Network:
    """Steps from the input to the last convolution's result."""

    name: str
    title: str
    sizes: tuple[int, int, int, int]
    steps: list[Convolution | Pooling] = field(default_factory=list)

    @property
    def convolutions(self) -> list[Convolution]:
        """The steps that are convolutions."""
        return [step for step in self.steps if isinstance(step, Convolution)]

    @property
    def flops(self) -> int:
        """Operations of all convolutions, counted as the direct algorithm's."""
        return sum(step.shape.flops for step in self.convolutions)

    def sizes_of(self, value: int) -> tuple[int, int, int, int]:
        """(n, h, w, c) of a value."""
        if value == 0:
            return self.sizes
        step = self.steps[value - 1]
        if isinstance(step, Convolution):
            return step.shape.output_shape
        n, h, w, c = step.sizes
        return (n, *((size + 2 * step.pad - step.window) // step.stride + 1 for size in (h, w)), c)  # type: ignore[return-value]

    def convolve(
        self, source: int, kernel: int, channels: int, stride: int = 1, groups: int = 1, activation: str | None = "relu", **more: Any
    ) -> int:
        """Add a square convolution, padded by as much on every side as keeps the size at stride 1; returns its value's number."""
        sizes = self.sizes_of(source)
        pads = more.get("pads", (((kernel - 1) // 2,) * 2,) * 2)
        shape = ConvShape.from_arguments(sizes, (kernel, kernel, sizes[3] // groups, channels), stride, pads)
        self.steps.append(Convolution(shape, source, more.get("plus"), activation))
        return len(self.steps)

    def pool(self, source: int, window: int = 2, stride: int = 2, pad: int = 0) -> int:
        """Add a pooling; returns its value's number."""
        self.steps.append(Pooling(self.sizes_of(source), source, window, stride, pad))
        return len(self.steps)

    def describe(self) -> list[dict[str, Any]]:
        """The steps as the workers take them; their arrays are in the file that ``write`` leaves."""
        described: list[dict[str, Any]] = []
        for step in self.steps:
            if isinstance(step, Pooling):
                described.append({"source": step.source, "window": step.window, "stride": step.stride, "pad": step.pad})
            else:
                shape = step.shape
                geometry = {"strides": shape.strides, "dilations": shape.dilations, "pads": shape.pads, "groups": shape.groups}
                described.append({"source": step.source, "plus": step.plus, "activation": step.activation, **geometry})
        return described

    def write(self, folder: Path) -> None:
        """Leave input, filters and bias where the workers look for them, the same in every run."""
        draw = np.random.default_rng(1)
        arrays = {"x": draw.standard_normal(self.sizes, dtype=np.float32)}
        for number, step in enumerate(self.steps):
            if isinstance(step, Convolution):
                # Half of what comes out of a ReLU is zero, and what is added across must not grow from block to block.
                scale = (2 / step.shape.depth) ** 0.5 * (0.3 if step.plus is not None else 1)
                arrays[f"w{number}"] = draw.standard_normal(step.shape.filters_shape, dtype=np.float32) * np.float32(scale)
                arrays[f"b{number}"] = draw.standard_normal(step.shape.k, dtype=np.float32) * np.float32(0.1)
        np.savez(folder / "network.npz", **arrays)  # type: ignore[arg-type]


def _chain(name: str, title: str) -> Network:
    """A list's convolutions in order, with poolings of 2 x 2 wherever the next one takes a smaller image."""
    layers = lists.network(name)
    first = layers[0].shape
    network = Network(name, title, (first.n, first.h, first.w, first.c))
    value = 0
    for layer in layers:
        for _ in range(layer.count):
            shape = layer.shape
            if network.sizes_of(value)[1] == 2 * shape.h:
                value = network.pool(value)
            value = network.convolve(value, shape.r, shape.k, pads=shape.pads)
    return network


def lenet5() -> Network:
    """Three convolutions with two poolings between, one digit."""
    return _chain("lenet5", "LeNet-5")


def vgg16() -> Network:
    """Thirteen convolutions of 3 x 3 with four poolings between."""
    return _chain("vgg16", "VGG-16")


def resnet50() -> Network:
    """Version 1.5: stride in the 3 x 3 layers; sixteen blocks whose input is added to their output."""
    network = Network("resnet50", "ResNet-50", (1, 224, 224, 3))
    value = network.pool(network.convolve(0, 7, 64, 2), 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            shortcut = value if block else network.convolve(value, 1, 4 * width, stride, activation=None)
            inner = network.convolve(network.convolve(value, 1, width), 3, width, stride)
            value = network.convolve(inner, 1, 4 * width, plus=shortcut)
    return network


def mobilenetv2() -> Network:
    """Blocks of 1 x 1, depthwise 3 x 3 and 1 x 1; ReLU6; the input added where sizes agree."""
    network = Network("mobilenetv2", "MobileNetV2", (1, 224, 224, 3))
    value, c = network.convolve(0, 3, 32, 2, activation="relu6"), 32
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, channels, blocks, first_stride in rows:
        for block in range(blocks):
            stride, inner = (1 if block else first_stride), value
            if expansion > 1:
                inner = network.convolve(inner, 1, c * expansion, activation="relu6")
            inner = network.convolve(inner, 3, c * expansion, stride, groups=c * expansion, activation="relu6")
            plus = value if stride == 1 and c == channels else None
            value, c = network.convolve(inner, 1, channels, activation=None, plus=plus), channels
    network.convolve(value, 1, 1280, activation="relu6")
    return network


#: The networks that are run as a whole, by the names of their lists.
NETWORKS: dict[str, Callable[[], Network]] = {
    "lenet5": lenet5,
    "mobilenetv2": mobilenetv2,
    "resnet50": resnet50,
    "vgg16": vgg16,
}
