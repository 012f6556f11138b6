"""A whole network as a worker is asked to compute it: convolutions and poolings in a row, with values added across."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Convolution:
    """Value `source` convolved with w (R, S, C/groups, K), plus bias b, plus value `plus` if there is one, then the activation.

    Values are counted from the input, which is 0; step i makes value i + 1. activation: None, "relu" or "relu6".
    pads: ((before, after), (before, after)), the same before as after, which is what all engines can do.
    """

    number: int
    source: int
    plus: int | None
    w: NDArray[Any]
    b: NDArray[Any]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    groups: int
    activation: str | None

    @property
    def w_oihw(self) -> NDArray[Any]:
        """The filters as most frameworks hold them: K x C/groups x R x S."""
        return np.ascontiguousarray(self.w.transpose(3, 2, 0, 1))

    @property
    def is_depthwise(self) -> bool:
        """Each group has one input channel, and there are several."""
        return self.groups > 1 and self.w.shape[2] == 1

    @property
    def padding(self) -> tuple[int, int]:
        """What is added on every side: (rows, columns)."""
        return self.pads[0][0], self.pads[1][0]


@dataclass(frozen=True)
class Pooling:
    """The largest of each window x window pixels of value `source`; what is padded never is the largest."""

    number: int
    source: int
    window: int
    stride: int
    pad: int


Step = Convolution | Pooling


@dataclass(frozen=True)
class Network:
    """x (N, H, W, C) and the steps; the last value is the result."""

    x: NDArray[Any]
    steps: Sequence[Step]

    @classmethod
    def load(cls, folder: Path, steps: Sequence[dict[str, Any]]) -> Network:
        """From what the parent process describes, and the arrays it left in a folder."""
        with np.load(folder / "network.npz") as arrays:
            made: list[Step] = []
            for number, values in enumerate(steps):
                if "window" in values:
                    made.append(Pooling(number, **values))
                else:
                    made.append(Convolution(number, w=arrays[f"w{number}"], b=arrays[f"b{number}"], **values))
            return cls(arrays["x"], made)

    @property
    def x_nchw(self) -> NDArray[Any]:
        """The input as most frameworks hold it."""
        return np.ascontiguousarray(self.x.transpose(0, 3, 1, 2))

    def uses(self) -> dict[int, int]:
        """How often each value is used."""
        counts: dict[int, int] = {}
        for step in self.steps:
            for index in sources(step):
                counts[index] = counts.get(index, 0) + 1
        return counts

    def walk(
        self,
        x: Any,
        convolve: Callable[[Convolution, Any, Any], Any],
        pool: Callable[[Pooling, Any], Any],
        release: Callable[[Any], None] = lambda value: None,
    ) -> Any:
        """The last value: convolve(step, source, plus or None) and pool(step, source) make each of them.

        release: called with a value, the input excepted, that no later step uses.
        """
        left = self.uses()
        values: dict[int, Any] = {0: x}
        for step in self.steps:
            if isinstance(step, Pooling):
                value = pool(step, values[step.source])
            else:
                value = convolve(step, values[step.source], None if step.plus is None else values[step.plus])
            values[step.number + 1] = value
            for index in sources(step):
                left[index] -= 1
                if not left[index]:
                    used = values.pop(index)
                    if index:
                        release(used)
        return values[len(self.steps)]


def sources(step: Step) -> list[int]:
    """The values that a step reads."""
    others = [] if isinstance(step, Pooling) or step.plus is None else [step.plus]
    return [step.source, *others]
