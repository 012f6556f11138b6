"""ConvShape: what a convolution *is*, as a frozen, hashable value.

Notation, used throughout the project: input N x H x W x C, filters R x S x (C/groups) x K ("HWIO"),
output N x OH x OW x K. A kernel of size k dilated by d spans ``e = (k - 1) * d + 1`` pixels.

Output size per axis (TensorFlow's rules):

* SAME:      ``o = ceil(n / s)``, total padding ``max((o - 1) * s + e - n, 0)``, the odd one after;
* VALID:     ``o = ceil((n - e + 1) / s)``;
* explicit:  ``o = floor((n + before + after - e) / s) + 1``.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from convopt.errors import DTypeError, ShapeError

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

DATA_FORMATS = ("NHWC", "NCHW")
DTYPES = {"float32": 4, "float64": 8}
#: What an activation does to a sum: the smallest and the largest value it lets through.
ACTIVATIONS: dict[str | None, tuple[float, float]] = {
    None: (-math.inf, math.inf),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
}
#: Sizes and element counts are held in signed 64-bit integers by the kernels.
INDEX_LIMIT = 2**63 - 1

_KEY = re.compile(
    r"n(?P<n>\d+)h(?P<h>\d+)w(?P<w>\d+)c(?P<c>\d+)k(?P<k>\d+)r(?P<r>\d+)s(?P<s>\d+)"
    r"_st(?P<st>\d+x\d+)_di(?P<di>\d+x\d+)_pa(?P<pa>\d+-\d+x\d+-\d+)_g(?P<g>\d+)"
    r"_(?P<fmt>nhwc|nchw)_(?P<dtype>f32|f64)"
)
_DTYPE_CODES = {"float32": "f32", "float64": "f64"}


@dataclass(frozen=True, slots=True)
class ConvShape:
    """The frozen signature of one 2-D convolution problem (sizes in elements, all non-negative)."""

    n: int
    h: int
    w: int
    c: int
    k: int
    r: int
    s: int
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Pads = ((0, 0), (0, 0))
    groups: int = 1
    data_format: str = "NHWC"
    dtype: str = "float32"

    @classmethod
    def from_arguments(
        cls,
        input_shape: Sequence[int],
        filters_shape: Sequence[int],
        strides: Any = 1,
        padding: Any = "VALID",
        data_format: str = "NHWC",
        dilations: Any = None,
        dtype: str = "float32",
    ) -> ConvShape:
        """The problem that ``conv2d`` with these arguments solves; leading batch dimensions become one N.

        Raises:
            ShapeError: a value no convolution is defined for; the message names argument, value and limit.
            DTypeError: an argument of the wrong type.
        """
        data_format = _data_format(data_format)
        sizes = _sizes("input", input_shape)
        kernel = _sizes("filters", filters_shape)
        if len(sizes) < 4:
            raise ShapeError(f"input has rank {len(sizes)} (shape {tuple(sizes)}); at least 4 is needed: batch, and {data_format[1:]}")
        if len(kernel) != 4:
            raise ShapeError(f"filters has rank {len(kernel)} (shape {tuple(kernel)}); exactly 4 is needed: R x S x C/groups x K")
        if 0 in kernel:
            raise ShapeError(f"filters has shape {tuple(kernel)}; every dimension must be at least 1")
        batch = 1
        for size in sizes[:-3]:
            batch *= size
        h, w, c = sizes[-3:] if data_format == "NHWC" else (*sizes[-2:], sizes[-3])
        r, s, group_c, k = kernel
        if c == 0 or c % group_c:
            raise ShapeError(f"input has {c} channels; with filters of shape {tuple(kernel)} it must be a positive multiple of {group_c}")
        groups = c // group_c
        if k % groups:
            raise ShapeError(
                f"filters has {k} output channels; input's {c} channels over filters' {group_c} make {groups} groups, which must divide it"
            )
        stride = _spatial_pair("strides", strides, data_format)
        dilation = _spatial_pair("dilations", 1 if dilations is None else dilations, data_format)
        pads = _pads(padding, (h, w), (r, s), stride, dilation, data_format)
        shape = cls(batch, h, w, c, k, r, s, stride, dilation, pads, groups, data_format, dtype)
        shape._check_limits()
        return shape

    def _check_limits(self) -> None:
        for axis, size, pad, extent in zip("HW", (self.h, self.w), self.pads, self.extent, strict=True):
            if size + sum(pad) < extent and size > 0:
                raise ShapeError(
                    f"filters span {extent} pixels along {axis} (dilation included); input padded has only {size + sum(pad)}: "
                    f"the kernel must not be larger than the padded input"
                )
        counts = {
            "input": self.n * self.h * self.w * self.c,
            "filters": self.r * self.s * self.group_c * self.k,
            "output": self.n * self.oh * self.ow * self.k,
        }
        for name, count in counts.items():
            if count * DTYPES[self.dtype] > INDEX_LIMIT:
                raise ShapeError(f"{name} would have {count} elements; their bytes must fit a signed 64-bit integer")

    @property
    def group_c(self) -> int:
        """Input channels of one group."""
        return self.c // self.groups

    @property
    def group_k(self) -> int:
        """Output channels of one group."""
        return self.k // self.groups

    @property
    def extent(self) -> Pair:
        """Pixels a dilated kernel spans, (height, width)."""
        return ((self.r - 1) * self.dilations[0] + 1, (self.s - 1) * self.dilations[1] + 1)

    @property
    def oh(self) -> int:
        """Output height OH; 0 where the kernel does not fit even once."""
        return _output_size(self.h, sum(self.pads[0]), self.extent[0], self.strides[0])

    @property
    def ow(self) -> int:
        """Output width OW; 0 where the kernel does not fit even once."""
        return _output_size(self.w, sum(self.pads[1]), self.extent[1], self.strides[1])

    @property
    def depth(self) -> int:
        """Q, the number of products summed into one output element."""
        return self.r * self.s * self.group_c

    @property
    def flops(self) -> int:
        """Floating-point operations of the direct algorithm: two per multiply-add."""
        return 2 * self.n * self.oh * self.ow * self.k * self.depth

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return DTYPES[self.dtype]

    @property
    def is_empty(self) -> bool:
        """Whether the output has no element."""
        return 0 in (self.n, self.oh, self.ow)

    @property
    def is_depthwise(self) -> bool:
        """One input channel per group, several groups."""
        return self.group_c == 1 and self.groups > 1

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the four-dimensional input in its own layout."""
        return (self.n, self.h, self.w, self.c) if self.data_format == "NHWC" else (self.n, self.c, self.h, self.w)

    @property
    def filters_shape(self) -> tuple[int, int, int, int]:
        """Shape of the filters, R x S x C/groups x K in either layout."""
        return (self.r, self.s, self.group_c, self.k)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the four-dimensional output in its own layout."""
        return (self.n, self.oh, self.ow, self.k) if self.data_format == "NHWC" else (self.n, self.k, self.oh, self.ow)

    def with_layout(self, data_format: str) -> ConvShape:
        """The same problem on arrays of another layout."""
        return replace(self, data_format=data_format)

    def key(self) -> str:
        """A short text that names the problem exactly; ``parse`` is its inverse."""
        (st_h, st_w), (di_h, di_w) = self.strides, self.dilations
        (top, bottom), (left, right) = self.pads
        return (
            f"n{self.n}h{self.h}w{self.w}c{self.c}k{self.k}r{self.r}s{self.s}_st{st_h}x{st_w}_di{di_h}x{di_w}"
            f"_pa{top}-{bottom}x{left}-{right}_g{self.groups}_{self.data_format.lower()}_{_DTYPE_CODES[self.dtype]}"
        )

    @classmethod
    def parse(cls, key: str) -> ConvShape:
        """The problem a ``key()`` names.

        Raises:
            ShapeError: the text is not such a key, or names an impossible problem.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise ShapeError(f"key is {key!r}; expected the form of {cls(1, 8, 8, 4, 4, 3, 3).key()!r}")
        f = match.groupdict()
        c, groups = int(f["c"]), int(f["g"])
        if groups < 1 or c % groups:
            raise ShapeError(f"key has {groups} groups; they must divide its {c} channels")
        sizes = [int(f["n"]), int(f["h"]), int(f["w"]), c]
        if f["fmt"] == "nchw":
            sizes = [sizes[0], c, *sizes[1:3]]
        return cls.from_arguments(
            sizes,
            [int(f["r"]), int(f["s"]), c // groups, int(f["k"])],
            [int(v) for v in f["st"].split("x")],
            [[int(v) for v in axis.split("-")] for axis in f["pa"].split("x")],
            f["fmt"].upper(),
            [int(v) for v in f["di"].split("x")],
            next(name for name, code in _DTYPE_CODES.items() if code == f["dtype"]),
        )


def _output_size(size: int, pad: int, extent: int, stride: int) -> int:
    return max((size + pad - extent) // stride + 1, 0)


def _data_format(value: Any) -> str:
    if not isinstance(value, str):
        raise DTypeError(f"data_format is {value!r}; expected one of {', '.join(DATA_FORMATS)}")
    if value.upper() not in DATA_FORMATS:
        raise ShapeError(f"data_format is {value!r}; expected one of {', '.join(DATA_FORMATS)}")
    return value.upper()


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise DTypeError(f"{name} contains {value!r}; expected an integer")
    try:
        return operator.index(value)
    except TypeError:
        kind = DTypeError if value is None or isinstance(value, (str, bytes, dict)) else ShapeError
        raise kind(f"{name} contains {value!r}; expected an integer") from None


def _sequence(name: str, value: Any) -> list[Any]:
    if value is None or isinstance(value, (str, bytes, dict, set, frozenset)):
        raise DTypeError(f"{name} is {value!r}; expected integers in order")
    try:
        return list(value)
    except TypeError:
        raise DTypeError(f"{name} is {value!r}; expected integers") from None


def _sizes(name: str, value: Any) -> list[int]:
    sizes = [_integer(f"{name} shape", size) for size in _sequence(f"{name} shape", value)]
    for size in sizes:
        if not 0 <= size <= INDEX_LIMIT:
            raise ShapeError(f"{name} shape contains {size}; sizes must be from 0 to {INDEX_LIMIT}")
    return sizes


def _spatial_pair(name: str, value: Any, data_format: str) -> Pair:
    """(height, width) out of an int or a sequence of 1, 2 or 4 entries; batch and channel entries must be 1."""
    entries = [_integer(name, entry) for entry in (_sequence(name, value) if hasattr(value, "__iter__") else [value])]
    if len(entries) == 1:
        pair = (entries[0], entries[0])
    elif len(entries) == 2:
        pair = (entries[0], entries[1])
    elif len(entries) == 4:
        axes = {axis: entries[data_format.index(axis)] for axis in "NHWC"}
        if axes["N"] != 1 or axes["C"] != 1:
            raise ShapeError(f"{name} is {value!r}; its entries for batch and channels must be 1 ({data_format})")
        pair = (axes["H"], axes["W"])
    else:
        raise ShapeError(f"{name} is {value!r}; expected 1, 2 or 4 integers")
    for entry in pair:
        if not 1 <= entry <= 2**31 - 1:
            raise ShapeError(f"{name} is {value!r}; each must be from 1 to {2**31 - 1}")
    return pair


def _pads(padding: Any, size: Pair, kernel: Pair, stride: Pair, dilation: Pair, data_format: str) -> Pads:
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str):
        if padding.upper() == "VALID":
            return ((0, 0), (0, 0))
        if padding.upper() == "SAME":
            pads = []
            for n, e, s in zip(size, extent, stride, strict=True):
                total = max((-(-n // s) - 1) * s + e - n, 0) if n else 0
                pads.append((total // 2, total - total // 2))
            return (pads[0], pads[1])
        raise ShapeError(f"padding is {padding!r}; expected 'SAME', 'VALID', or explicit pairs")
    rows = [_sequence("padding", row) for row in _sequence("padding", padding)]
    if len(rows) not in (2, 4) or any(len(row) != 2 for row in rows):
        raise ShapeError(f"padding is {padding!r}; expected 2 pairs ((top, bottom), (left, right)) or 4 pairs, one per dimension")
    pairs = [(_integer("padding", before), _integer("padding", after)) for before, after in rows]
    for pair in pairs:
        for entry in pair:
            if not 0 <= entry <= 2**31 - 1:
                raise ShapeError(f"padding contains {entry}; each must be from 0 to {2**31 - 1}")
    if len(pairs) == 4:
        axes = {axis: pairs[data_format.index(axis)] for axis in "NHWC"}
        if axes["N"] != (0, 0) or axes["C"] != (0, 0):
            raise ShapeError(f"padding is {padding!r}; its pairs for batch and channels must be (0, 0) ({data_format})")
        return (axes["H"], axes["W"])
    return (pairs[0], pairs[1])
