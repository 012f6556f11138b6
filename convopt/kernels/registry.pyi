from typing import Any

from numpy.typing import NDArray

LINE_BYTES: int

def isas() -> tuple[str, ...]: ...
def isa() -> str: ...
def select(name: str) -> None: ...
def tile(itemsize: int = 4) -> tuple[int, list[int]]: ...
def igemm(
    isa_name: str,
    rows: NDArray[Any],
    b: NDArray[Any],
    out: NDArray[Any],
    nr: int,
    bias: NDArray[Any] | None = None,
    row_bias: NDArray[Any] | None = None,
    lo: float = ...,
    hi: float = ...,
    accumulate: bool = False,
) -> None: ...
def igemm32(
    isa_name: str,
    rows: NDArray[Any],
    b: NDArray[Any],
    out: NDArray[Any],
    nr: int,
    bias: NDArray[Any] | None = None,
    row_bias: NDArray[Any] | None = None,
    lo: float = ...,
    hi: float = ...,
    accumulate: bool = False,
) -> None: ...
