"""Which algorithm, with which parameters: the estimate-only beginnings of the planner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convopt.algorithms import ALGORITHMS, native_shape
from convopt.errors import UnsupportedError
from convopt.shape import ConvShape


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that may change the answer."""

    shape: ConvShape
    bias: bool
    activation: str | None
    threads: int
    constant_filters: bool
    accuracy: float = 1e-5
    finite_only: bool = False
    max_workspace: int | None = None
    deterministic: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and why."""

    algorithm: str
    params: dict[str, int]
    source: str
    seconds: float | None
    error: float | None
    contenders: tuple[Any, ...] = ()

    def explain(self) -> str:
        """A text for people."""
        return f"{self.algorithm} {self.params} ({self.source})"


def applicable(shape: ConvShape) -> list[str]:
    """Names of the algorithms that can serve the shape."""
    return [name for name, module in ALGORITHMS.items() if module.why_not(native_shape(module, shape)) is None]


def budget(request: Request) -> float:
    """Seconds that measuring this would cost."""
    return 1.0


def choose(request: Request, tune: str, algorithm: str = "auto") -> Choice:
    """The default parameters of the named, or of the first applicable algorithm."""
    name = applicable(request.shape)[0] if algorithm == "auto" else algorithm.partition(":")[0]
    if name not in ALGORITHMS:
        raise UnsupportedError(f"algorithm is {name!r}; known are {', '.join(ALGORITHMS)}")
    module = ALGORITHMS[name]
    native = native_shape(module, request.shape)
    return Choice(name, module.candidates(native)[0], "estimate", None, module.expected_error(native, module.candidates(native)[0]))
