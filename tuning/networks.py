"""Lists of layers: text files with one convolution per line, and the networks that come with convopt.

    # name  input (N x H x W x C)  filters (R x S x C/groups x K)  options
    conv1   1x224x224x3            7x7x3x64                        stride=2 pad=3
    conv2   1x56x56x64             3x3x64x64                       pad=SAME x3

Options: ``stride=2`` or ``2,1`` (height, width); ``dilation=``, likewise; ``pad=SAME``, ``VALID`` (the default), ``1``,
``1,2`` (height, width) or ``0,1,0,1`` (top, bottom, left, right); ``format=NCHW`` (sizes stay in the order above);
``dtype=float64``; ``x3``: the layer occurs three times. Groups follow from the channels. ``#`` begins a comment.

A line may also be a shape's key (as the cache has it), or a problem of oneDNN's benchdnn (see ``onednn``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convopt.errors import ConvoptError, ShapeError
from convopt.shape import DTYPES, ConvShape

from . import onednn

FOLDER = Path(__file__).with_name("shapes")


@dataclass(frozen=True, slots=True)
class Layer:
    """One line: a convolution, its name, and how often the network has it."""

    name: str
    shape: ConvShape
    count: int = 1


def networks() -> list[str]:
    """Names of the networks that come with convopt."""
    return sorted(file.stem for file in FOLDER.glob("*.txt"))


def network(name: str) -> list[Layer]:
    """The distinct convolutions of a network that comes with convopt. Raises ShapeError for a name that is none."""
    if name not in networks():
        raise ShapeError(f"network is {name!r}; known are {', '.join(networks())}")
    return read_shapes(FOLDER / f"{name}.txt")


def read_shapes(source: str | Path | Iterable[str]) -> list[Layer]:
    """The layers of a file, or of lines.

    Raises ShapeError, which names file, line and what is wrong with it; OSError where the file cannot be read.
    """
    if isinstance(source, (str, Path)):
        name, text = str(source), Path(source).read_bytes()
        try:
            lines: Iterable[str] = text.decode().splitlines()
        except UnicodeDecodeError as error:
            raise ShapeError(f"{name}: not a text file: {error}") from None
    else:
        name, lines = "shapes", source
    layers = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                layers.append(_layer(words))
            except ConvoptError as error:
                raise ShapeError(f"{name}, line {number}: {error}") from None
    return layers


def layer(text: str) -> Layer:
    """One layer, as on a line of a list; its name may be missing. Raises ShapeError, DTypeError."""
    words = text.split()
    if words and re.fullmatch(r"\d+x[\dx]*", words[0]):
        words.insert(0, "layer")
    return _layer(words)


def is_layer(words: list[str]) -> bool:
    """Whether words begin as a layer's do, rather than as the name of a file."""
    return bool(words) and (re.match(r"\d+x\d|n\d+h\d", words[0]) is not None or onednn.is_onednn(words[0]))


def _layer(words: list[str]) -> Layer:
    if len(words) == 1 and onednn.is_onednn(words[0]):
        return Layer(*onednn.parse(words[0]))
    if len(words) == 1 and re.match(r"n\d+h\d", words[0]):
        return Layer(words[0], ConvShape.parse(words[0]))
    if len(words) < 3:
        raise ShapeError(f"found {' '.join(words)!r}; expected a name, input sizes as 1x56x56x64 and filter sizes as 3x3x64x64")
    n, h, w, c = _sizes("input", words[1])
    kernel = _sizes("filters", words[2])
    options: dict[str, Any] = {"strides": 1, "padding": "VALID", "dilations": 1, "data_format": "NHWC", "dtype": "float32"}
    count = 1
    for word in words[3:]:
        key, equals, value = word.partition("=")
        if re.fullmatch(r"x[1-9]\d{0,8}", word, re.ASCII):
            count = int(word[1:])
        elif equals and key in _OPTIONS:
            name, convert = _OPTIONS[key]
            options[name] = convert(key, value)
        else:
            raise ShapeError(f"found {word!r}; known are {', '.join(f'{each}=' for each in _OPTIONS)} and x3 for a count")
    sizes = (n, h, w, c) if options["data_format"] == "NHWC" else (n, c, h, w)
    return Layer(words[0], ConvShape.from_arguments(sizes, kernel, **options), count)


def _sizes(name: str, text: str) -> list[int]:
    if not re.fullmatch(r"\d+(x\d+){3}", text, re.ASCII):
        example = "1x56x56x64 (N x H x W x C)" if name == "input" else "3x3x64x128 (R x S x C/groups x K)"
        raise ShapeError(f"{name} is {text!r}; expected four sizes as {example}")
    return [int(size) for size in text.split("x")]


def _integers(name: str, text: str) -> list[int]:
    if not re.fullmatch(r"\d+(,\d+)*", text, re.ASCII):
        raise ShapeError(f"{name} is {text!r}; expected integers separated by commas")
    return [int(value) for value in text.split(",")]


def _pair(name: str, text: str) -> list[int]:
    values = _integers(name, text)
    if len(values) > 2:
        raise ShapeError(f"{name} is {text!r}; expected one integer, or two: height, width")
    return values


def _padding(name: str, text: str) -> str | list[tuple[int, int]]:
    if text.upper() in ("SAME", "VALID"):
        return text.upper()
    values = _integers(name, text)
    if len(values) not in (1, 2, 4):
        raise ShapeError(f"{name} is {text!r}; expected SAME, VALID, or 1, 2 or 4 integers")
    if len(values) == 4:
        return [(values[0], values[1]), (values[2], values[3])]
    return [(values[0], values[0]), (values[-1], values[-1])]


def _data_format(name: str, text: str) -> str:
    if text.upper() not in ("NHWC", "NCHW"):
        raise ShapeError(f"{name} is {text!r}; expected NHWC or NCHW")
    return text.upper()


def _dtype(name: str, text: str) -> str:
    if text not in DTYPES:
        raise ShapeError(f"{name} is {text!r}; expected one of {', '.join(DTYPES)}")
    return text


_OPTIONS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "stride": ("strides", _pair),
    "dilation": ("dilations", _pair),
    "pad": ("padding", _padding),
    "format": ("data_format", _data_format),
    "dtype": ("dtype", _dtype),
}
