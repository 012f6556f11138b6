"""The convolutions of a model's file: ``.keras`` (read without Keras: it is a zip of JSON), ``.onnx`` (with the onnx package)."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from convopt.errors import ConvoptError, ShapeError, UnsupportedError
from convopt.shape import ConvShape

from .networks import Layer

SUFFIXES = (".keras", ".onnx")


def read_model(file: Path) -> list[Layer]:
    """The distinct convolutions of a model, for a batch of one where the model leaves that open; see ``Layer``.

    Raises ShapeError where the file is not what its name says or a size is unknown, UnsupportedError without the onnx
    package, OSError where it cannot be read.
    """
    found = _keras(file) if file.suffix == ".keras" else _onnx(file)
    counts: dict[ConvShape, Layer] = {}
    try:
        for name, shape in found:
            known = counts.get(shape)
            counts[shape] = Layer(name, shape) if known is None else replace(known, count=known.count + 1)
    except ConvoptError as error:
        raise type(error)(f"{file}: {error}") from None
    return list(counts.values())


def _keras(file: Path) -> Iterator[tuple[str, ConvShape]]:
    try:
        with zipfile.ZipFile(file) as archive:
            config = json.loads(archive.read("config.json"))
        yield from list(_keras_layers(config))
    except ConvoptError:
        raise
    except (zipfile.BadZipFile, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ShapeError(f"no file that Keras 3 saved: {error!r}") from None


def _keras_layers(entry: Any) -> Iterator[tuple[str, ConvShape]]:
    """Of a layer, or of all layers within a model, and models within it."""
    config = entry.get("config") or {}
    for inner in config.get("layers", ()):
        yield from _keras_layers(inner)
    if entry.get("class_name") in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D"):
        yield from _keras_layer(entry["class_name"], config, (entry.get("build_config") or {}).get("input_shape"))


def _keras_layer(kind: str, config: dict[str, Any], sizes: list[int | None] | None) -> Iterator[tuple[str, ConvShape]]:
    name = str(config.get("name"))
    data_format = "NCHW" if config.get("data_format") == "channels_first" else "NHWC"
    given = _known_sizes(name, sizes)
    channels = given[data_format.index("C")]
    kernel = config["kernel_size"]
    if kind == "Conv2D":
        filters = [*kernel, channels // config.get("groups", 1), config["filters"]]
    else:
        filters = [*kernel, 1, channels * config.get("depth_multiplier", 1)]
    shape = ConvShape.from_arguments(given, filters, config["strides"], config["padding"], data_format, config["dilation_rate"])
    yield name, shape
    if kind == "SeparableConv2D":
        yield name, ConvShape.from_arguments(shape.output_shape, [1, 1, filters[3], config["filters"]], data_format=data_format)


def _onnx(file: Path) -> Iterator[tuple[str, ConvShape]]:
    try:
        import onnx
    except ImportError as error:
        raise UnsupportedError(f"ONNX models need the onnx package (pip install 'convopt[onnx]'): {error}") from None
    if not file.is_file():
        raise FileNotFoundError(2, "No such file", str(file))
    try:
        graph = onnx.shape_inference.infer_shapes(onnx.load(str(file), load_external_data=False)).graph
    except OSError:
        raise
    except Exception as error:  # protobuf's own kinds, which are none of ours
        raise ShapeError(f"no ONNX model: {error}") from None
    shapes = {each.name: [size.dim_value or None for size in each.type.tensor_type.shape.dim] for each in (*graph.input, *graph.value_info)}
    shapes |= {each.name: list(each.dims) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and len(shapes.get(node.input[1], ())) == 4:
            values = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
            name = node.name or node.output[0]
            yield name, _onnx_layer(name, shapes.get(node.input[0]), _known_sizes(name, shapes[node.input[1]]), values)


def _onnx_layer(name: str, sizes: list[int | None] | None, filters: list[int], values: dict[str, Any]) -> ConvShape:
    given = _known_sizes(name, sizes)
    k, group_c, r, s = filters
    automatic = values.get("auto_pad", b"NOTSET").decode()
    top, left, bottom, right = values.get("pads", [0] * 4)
    padding: Any = [(top, bottom), (left, right)] if automatic == "NOTSET" else automatic.partition("_")[0]
    shape = ConvShape.from_arguments(given, [r, s, group_c, k], values.get("strides", 1), padding, "NCHW", values.get("dilations", 1))
    if automatic == "SAME_LOWER":  # the odd one before
        shape = replace(shape, pads=(shape.pads[0][::-1], shape.pads[1][::-1]))
    return shape


def _known_sizes(name: str, sizes: list[int | None] | None) -> list[int]:
    """With 1 for an open batch; every other size must be known."""
    if not sizes or len(sizes) != 4 or None in sizes[1:]:
        raise ShapeError(f"layer {name!r} has input {sizes}; all sizes but the batch's must be fixed numbers")
    return [1 if size is None else size for size in sizes]
