"""TensorFlow as reference (1,200 forward cases) and as the road to a GPU (here on its CPU device, by name)."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import convopt
from convopt import tensorflow as road
from convopt.cli import check

CASES = check.grid(check.FULL)


def test_grid_holds_every_kind():
    assert len(CASES) >= 1000
    assert {case.kind for case in CASES} == {"ordinary", "1x1", "strided", "dilated", "grouped", "depthwise"}
    assert {case.data_format for case in CASES} == {"NHWC", "NCHW"}
    assert {case.dtype for case in CASES} == {"float32", "float64"}
    assert {len(case.input_shape) for case in CASES} == {4, 5}


@pytest.mark.parametrize("part", range(4))
def test_agrees_with_tensorflow(tensorflow, part):
    complaints = []
    for case in CASES[part::4]:
        x, w = case.arrays()
        arguments = (case.strides, case.padding, case.data_format, case.dilations)
        expected = tensorflow.conv2d(x.astype("f8"), w.astype("f8"), *arguments)
        for algorithm in ("auto", *convopt.algorithms(x.shape, w.shape, *arguments, dtype=case.dtype)):
            _, complaint = check.compare(case, algorithm, expected)
            if complaint:
                complaints.append(f"{algorithm}, {case}: {complaint}")
    assert not complaints, f"{len(complaints)} mismatches\n" + "\n".join(complaints[:10])


def test_reference_reports_what_tensorflow_dislikes_and_goes_on(tensorflow):
    x, w = np.ones((1, 5, 5, 1)), np.ones((3, 3, 1, 1))
    with pytest.raises(convopt.ConvoptError, match=r"tf\.nn\.conv2d: InvalidArgumentError"):
        tensorflow.conv2d(x, w, padding="FULL")
    assert tensorflow.conv2d(x, w, padding="VALID").tolist() == np.full((1, 3, 3, 1), 9.0).tolist()


def test_import_convopt_leaves_tensorflow_alone():
    code = "import sys, convopt, convopt.tensorflow; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_reference_without_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no such thing here')")
    code = """
        import numpy as np, convopt
        from convopt.tensorflow import Reference
        with Reference() as reference:
            try:
                reference.conv2d(np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1)))
            except convopt.UnsupportedError as error:
                print(error)
        try:
            convopt.conv2d(np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1)), device="gpu")
        except convopt.UnsupportedError as error:
            print(error)
    """
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    first, second = done.stdout.splitlines()
    assert "needs TensorFlow, which cannot be imported here (no such thing here)" in first
    assert "pip install 'convopt[tensorflow]'" in first
    assert "device='gpu' needs TensorFlow, which cannot be imported here (no such thing here)" in second


# The GPU road is tested in a process of its own: the suite's own process never imports TensorFlow.
ROAD = """
    import numpy as np, pytest
    tf = pytest.importorskip("tensorflow")
    import convopt
    from convopt import tensorflow as road
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 9, 8, 4)), rng.standard_normal((3, 3, 2, 6))
    bias = rng.standard_normal(6)
    DEVICE = "/CPU:0"
"""
ROAD_CHECKS = {
    "numpy in, numpy out": """
        for arguments in ({}, {"strides": (1, 2)}, {"padding": "same"}, {"padding": ((1, 2), (0, 3)), "dilations": [1, 2, 1, 1]}):
            y = road.conv2d(x, w, **arguments, bias=bias, activation="relu", device_name=DEVICE)
            assert type(y) is np.ndarray
            np.testing.assert_allclose(y, convopt.conv2d(x, w, **arguments, bias=bias, activation="relu"), rtol=1e-10, atol=1e-10)
    """,
    "tensor in, tensor out": """
        y = road.conv2d(tf.constant(x), tf.constant(w), bias=tf.constant(bias), activation="relu6", device_name=DEVICE)
        assert tf.is_tensor(y)
        assert y.device.endswith("CPU:0")
        np.testing.assert_allclose(y.numpy(), convopt.conv2d(x, w, bias=bias, activation="relu6"), rtol=1e-10, atol=1e-10)
    """,
    "out": """
        out = np.full((2, 3, 7, 6, 6), np.nan)
        assert road.conv2d(x, w, out=out, device_name=DEVICE) is out
        np.testing.assert_allclose(out, convopt.conv2d(x, w), rtol=1e-10, atol=1e-10)
        with pytest.raises(convopt.ShapeError, match="out is of shape"):
            road.conv2d(x, w, out=out[1:], device_name=DEVICE)
    """,
    "no GPU": """
        if not tf.config.list_physical_devices("GPU"):
            for call in (lambda: road.conv2d(x, w), lambda: convopt.conv2d(x, w, device="gpu")):
                with pytest.raises(convopt.UnsupportedError, match="sees none here"):
                    call()
    """,
    "mistakes are named as on the CPU": """
        def refused(kind, text, *arguments, **options):
            with pytest.raises(kind, match=text):
                road.conv2d(*arguments, **options, device_name=DEVICE)
        refused(convopt.ShapeError, "bias", x, w, bias=bias[:5])
        refused(convopt.ShapeError, "bias has shape", x, w, bias=tf.constant(bias[:5]))
        refused(convopt.ShapeError, "activation is 'tanh'", x, w, activation="tanh")
        refused(convopt.ShapeError, "strides", x, w, strides=1.5)
        refused(convopt.ShapeError, "padding", x, w, padding="FULL")
        refused(convopt.DTypeError, "input", None, w)
        refused(convopt.DTypeError, "filters has dtype float32", x, w.astype("f4"))
        refused(convopt.DTypeError, "input has dtype int32", tf.constant([[[[1]]]]), w)
    """,
    "a GPU's tensor goes to its device by itself": """
        class Elsewhere:  # what tf.Tensor says of one that lives on a GPU
            device = "/job:localhost/replica:0/task:0/device:GPU:0"
        assert not road.is_gpu_tensor(tf.constant(x))
        assert not road.is_gpu_tensor(x)
        original, tf.is_tensor = tf.is_tensor, lambda value: isinstance(value, Elsewhere) or original(value)
        assert road.is_gpu_tensor(Elsewhere())
    """,
}


@pytest.fixture(scope="module")
def road_results():
    """What each of ROAD_CHECKS ended with, "" for success: all in one process, since TensorFlow takes long to load."""
    lines = [textwrap.dedent(ROAD), "import json, traceback", "results = {}"]
    for name, body in ROAD_CHECKS.items():
        lines += ["try:", textwrap.indent(textwrap.dedent(body), "    "), f"    results[{name!r}] = ''"]
        lines += ["except BaseException:", f"    results[{name!r}] = traceback.format_exc()"]
    lines.append("print(json.dumps(results))")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment, capture_output=True, text=True)
    if "could not import 'tensorflow'" in done.stderr:
        pytest.skip("TensorFlow is not installed: pip install 'convopt[tensorflow]'")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ROAD_CHECKS)
def test_gpu_road(road_results, name):
    assert not road_results[name], road_results[name]


def test_is_gpu_tensor_without_tensorflow():
    assert not road.is_gpu_tensor(np.ones(3))
    assert "tensorflow" not in sys.modules
