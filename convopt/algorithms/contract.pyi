from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from convopt.algorithms.memory import Buffer
from convopt.shape import ConvShape

@dataclass(frozen=True)
class Work:
    gemm_flops: float
    gemm_efficiency: float
    vector_flops: float
    moved_bytes: float
    parts: int
    near_bytes: float = ...
    packing_flops: float = ...
    packing_bytes: float | None = ...

def error_of_sums(shape: ConvShape) -> float: ...

class Convolver:
    shape: ConvShape
    params: dict[str, int]
    def __init__(self, shape: ConvShape, params: dict[str, int]) -> None: ...
    def packed_bytes(self) -> int: ...
    def workspace_bytes(self, threads: int) -> int: ...
    def pack_filters(self, filters: NDArray[Any], threads: int = 1, borrow: bool = False) -> None: ...
    def run_on(
        self,
        x: NDArray[Any],
        out: NDArray[Any],
        workspace: Buffer,
        bias: NDArray[Any] | None = None,
        lo: float = ...,
        hi: float = ...,
        threads: int = 1,
    ) -> None: ...

class Planes(Protocol):
    @property
    def Implementation(self) -> Callable[[ConvShape, dict[str, int]], Convolver]: ...
    def why_not(self, shape: ConvShape) -> str | None: ...

class Algorithm(Protocol):
    NAME: str
    REVISION: int
    LAYOUTS: tuple[str, ...]
    SPREADS_NONFINITE: bool
    @property
    def Implementation(self) -> Callable[[ConvShape, dict[str, int]], Convolver]: ...
    def why_not(self, shape: ConvShape) -> str | None: ...
    def candidates(self, shape: ConvShape) -> list[dict[str, int]]: ...
    def expected_error(self, shape: ConvShape, params: dict[str, int]) -> float: ...
    def row_step(self, shape: ConvShape, params: dict[str, int]) -> int | None: ...
    def work(self, shape: ConvShape, params: dict[str, int], threads: int) -> Work: ...
