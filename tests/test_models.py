"""Convolutions found in models' files, and in what programs ask for."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import convopt
from convopt.errors import ShapeError, UnsupportedError
from convopt.shape import ConvShape
from convopt.tuning import models, recording
from convopt.tuning.candidates import Request


def layer(kind, name, sizes, **config):
    values = {"name": name, "strides": [1, 1], "padding": "valid", "data_format": "channels_last", "dilation_rate": [1, 1], "groups": 1}
    return {"class_name": kind, "config": {**values, **config}, "build_config": {"input_shape": sizes}}


@pytest.fixture
def keras_file(tmp_path):
    """Writes a file as Keras saves it."""

    def write(*layers):
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"layers": layers}}))
        return tmp_path / "model.keras"

    return write


def test_layers_of_a_keras_file(keras_file):
    inner = {"class_name": "Sequential", "config": {"layers": [layer("Conv2D", "inner", [2, 9, 9, 4], filters=8, kernel_size=[1, 1])]}}
    file = keras_file(
        {"class_name": "InputLayer", "config": {"name": "input"}},
        layer("Conv2D", "conv", [None, 28, 28, 4], filters=6, kernel_size=[5, 3], padding="same", strides=[2, 1], groups=2),
        layer("Conv2D", "again", [None, 28, 28, 4], filters=6, kernel_size=[5, 3], padding="same", strides=[2, 1], groups=2),
        layer("DepthwiseConv2D", "depthwise", [None, 14, 14, 6], kernel_size=[3, 3], depth_multiplier=2, dilation_rate=[2, 2]),
        layer("SeparableConv2D", "separable", [None, 4, 9, 9], filters=5, kernel_size=[3, 3], data_format="channels_first"),
        inner,
    )
    found = models.read_model(file)
    assert [(each.name, each.count) for each in found] == [("conv", 2), ("depthwise", 1), ("separable", 1), ("separable", 1), ("inner", 1)]
    assert found[0].shape == ConvShape.from_arguments((1, 28, 28, 4), (5, 3, 2, 6), (2, 1), "SAME")
    assert found[1].shape == ConvShape.from_arguments((1, 14, 14, 6), (3, 3, 1, 12), dilations=2)
    assert found[2].shape == ConvShape.from_arguments((1, 4, 9, 9), (3, 3, 1, 4), data_format="NCHW")
    assert found[3].shape == ConvShape.from_arguments((1, 4, 7, 7), (1, 1, 4, 5), data_format="NCHW")
    assert found[4].shape.n == 2


def test_sizes_that_are_open_are_named(keras_file):
    with pytest.raises(ShapeError, match=r"model.keras: layer 'conv' has input \[None, None, 28, 4\]"):
        models.read_model(keras_file(layer("Conv2D", "conv", [None, None, 28, 4], filters=6, kernel_size=[5, 3])))


def test_what_is_no_model_is_refused(tmp_path):
    for name in ("model.keras", "model.onnx"):
        with pytest.raises(FileNotFoundError if name.endswith("keras") or _has_onnx() else UnsupportedError):
            models.read_model(tmp_path / name)
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(ShapeError, match="no file that Keras 3 saved"):
        models.read_model(tmp_path / "model.keras")
    with pytest.raises((ShapeError, UnsupportedError), match="ONNX model"):
        models.read_model(tmp_path / "model.onnx")


def _has_onnx():
    try:
        import onnx  # noqa: F401
    except ImportError:
        return False
    return True


def test_layers_of_an_onnx_file(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [
            make.make_node("Conv", ["x", "w"], ["y"], name="first", pads=[1, 1, 0, 0], strides=[2, 2]),
            make.make_node("Conv", ["y", "v"], ["z"], auto_pad="SAME_LOWER", group=4, strides=[2, 2]),
        ],
        "graph",
        [make.make_tensor_value_info("x", kind, ["batch", 3, 32, 32])],
        [make.make_tensor_value_info("z", kind, None)],
        [make.make_tensor("w", kind, [8, 3, 3, 3], [0.0] * 216), make.make_tensor("v", kind, [4, 2, 3, 3], [0.0] * 72)],
    )
    onnx.save(make.make_model(graph), str(tmp_path / "model.onnx"))
    first, second = models.read_model(tmp_path / "model.onnx")
    assert (first.name, second.name) == ("first", "z")
    assert first.shape == ConvShape.from_arguments((1, 3, 32, 32), (3, 3, 3, 8), 2, [(1, 0), (1, 0)], "NCHW")
    assert second.shape == ConvShape.from_arguments((1, 8, 16, 16), (3, 3, 2, 4), 2, [(1, 0), (1, 0)], "NCHW")


# Recording

X, W = np.ones((1, 12, 12, 8), np.float32), np.ones((3, 3, 8, 16), np.float32)
PROGRAM = """
import numpy as np, convopt
x, w = np.ones((1, 12, 12, 8), np.float32), np.ones((3, 3, 8, 16), np.float32)
for _ in range(3):
    convopt.conv2d(x, w, threads=1)
convopt.plan(x.shape, w, bias=np.zeros(16, "f4"), activation="relu", tune="estimate", threads=1)
"""


def test_what_programs_ask_for_is_written_down_once(tmp_path):
    environment = {**os.environ, "CONVOPT_RECORD": str(tmp_path / "problems")}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    assert len((tmp_path / "problems").read_text().splitlines()) == 4
    shape = ConvShape.from_arguments(X.shape, W.shape)
    assert recording.read(tmp_path / "problems") == [Request(shape, False, None, 1, False), Request(shape, True, "relu", 1, True)]


def test_nothing_is_written_down_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVOPT_RECORD", "")
    convopt.plan(X.shape, W, tune="estimate")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_one_warning(cache_folder, monkeypatch):
    monkeypatch.setenv("CONVOPT_RECORD", str(cache_folder / "absent" / "problems"))
    with pytest.warns(RuntimeWarning, match="cannot record"):
        convopt.plan(X.shape, W, tune="estimate")


def test_bad_lines_are_named(tmp_path):
    (tmp_path / "problems").write_text("conv1 1x8x8x1 3x3x1x1\n")
    with pytest.raises(ShapeError, match=r"problems, line 1: key is 'conv1"):
        recording.read(tmp_path / "problems")
