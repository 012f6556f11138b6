"""TensorFlow, only when asked for: the GPU road, and the reference that convopt is checked against.

``import convopt`` never gets here. Two things live in this module:

* ``conv2d``, where ``convopt.conv2d(..., device="gpu")`` and tensors that live on a GPU go: tf.nn.conv2d on that device;
* ``Reference``, tf.nn.conv2d in a process of its own, asked case by case. A process of its own, because TensorFlow's
  default CPU path (oneDNN) is wrong at the edges of the definition (a kernel larger than the input, empty batches) and may
  even abort; it must be switched off before TensorFlow is imported, and the caller's process should not import it at all.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convopt.errors import ConvoptError, DTypeError, ShapeError, UnsupportedError
from convopt.plan import array_of, checked_bias, limits_of
from convopt.shape import DTYPES, ConvShape


def is_gpu_tensor(value: Any) -> bool:
    """Whether value is a tf.Tensor whose memory is a GPU's; never imports TensorFlow."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and tensorflow.is_tensor(value) and "GPU" in (getattr(value, "device", None) or "")


def conv2d(
    input: Any,
    filters: Any,
    strides: Any = 1,
    padding: Any = "VALID",
    data_format: str = "NHWC",
    dilations: Any = None,
    *,
    bias: Any = None,
    activation: str | None = None,
    out: NDArray[Any] | None = None,
    device_name: str | None = None,
) -> Any:
    """tf.nn.conv2d, then bias and activation, on a TensorFlow device; arguments as in ``convopt.conv2d``.

    device_name: a TensorFlow device such as "/GPU:0"; None for the GPU that holds `input`, else the first one.
    Returns `out` where it is given, a tf.Tensor where `input` is one, otherwise a NumPy array.

    Raises:
        UnsupportedError: TensorFlow cannot be imported, or it sees no GPU; the message says which.
        ShapeError, DTypeError: as ``convopt.conv2d`` does, before TensorFlow sees the arguments.
    """
    tf = _tensorflow()
    device_name = device_name or (input.device if is_gpu_tensor(input) else _first_gpu(tf))
    given_tensor = tf.is_tensor(input)
    x, w = (_operand(tf, name, value) for name, value in (("input", input), ("filters", filters)))
    if x.dtype != w.dtype:
        raise DTypeError(f"filters has dtype {_dtype_name(w)}; input has {_dtype_name(x)}: they must be the same")
    shape = ConvShape.from_arguments(tuple(x.shape), tuple(w.shape), strides, padding, data_format, dilations, _dtype_name(x))
    limits_of(activation)
    if bias is not None and not tf.is_tensor(bias):
        bias = checked_bias(bias, shape.k, np.dtype(shape.dtype))
    if bias is not None and tuple(bias.shape) != (shape.k,):
        raise ShapeError(f"bias has shape {tuple(bias.shape)}; expected ({shape.k},), one value per output channel")
    result_shape = (*x.shape[:-3], *shape.output_shape[1:])
    if out is not None and (not isinstance(out, np.ndarray) or out.shape != result_shape or out.dtype != shape.dtype):
        raise ShapeError(f"out is {_described(out)}; expected an array of shape {result_shape} and dtype {shape.dtype}")
    pads = {"N": (0, 0), "H": shape.pads[0], "W": shape.pads[1], "C": (0, 0)}
    with tf.device(device_name):
        y = tf.nn.conv2d(
            x,
            w,
            strides=_per_axis(shape.strides, shape.data_format),
            padding=padding.upper() if isinstance(padding, str) else [pads[axis] for axis in shape.data_format],
            data_format=shape.data_format,
            dilations=_per_axis(shape.dilations, shape.data_format),
        )
        if bias is not None:
            y += tf.reshape(bias, (shape.k,) if shape.data_format == "NHWC" else (shape.k, 1, 1))
        if activation is not None:
            y = tf.nn.relu(y) if activation == "relu" else tf.nn.relu6(y)
    if out is not None:
        out[...] = y.numpy()
        return out
    return y if given_tensor else y.numpy()


def _tensorflow() -> Any:
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise UnsupportedError(
            f"device='gpu' needs TensorFlow, which cannot be imported here ({error}); pip install tensorflow, or use device='cpu'"
        ) from error


def _first_gpu(tf: Any) -> str:
    if not tf.config.list_logical_devices("GPU"):
        raise UnsupportedError(f"device='gpu' needs a GPU, and TensorFlow {tf.__version__} sees none here; use device='cpu'")
    return "/GPU:0"


def _operand(tf: Any, name: str, value: Any) -> Any:
    """A tensor as it is, anything else as an array, checked as everywhere: TensorFlow's own complaints name no argument."""
    if not tf.is_tensor(value):
        array = array_of(name, value)
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if _dtype_name(value) not in DTYPES:
        raise DTypeError(f"{name} has dtype {_dtype_name(value)}; expected one of {', '.join(DTYPES)}")
    return value


def _dtype_name(operand: Any) -> str:
    return str(operand.dtype.name)


def _described(value: Any) -> str:
    return f"of shape {value.shape} and dtype {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _per_axis(pair: tuple[int, int], data_format: str) -> list[int]:
    """(height, width) as the four entries TensorFlow wants, batch and channels being 1."""
    return [1, *pair, 1] if data_format == "NHWC" else [1, 1, *pair]


class Reference:
    """tf.nn.conv2d on TensorFlow's CPU with oneDNN off, in a process that this object owns.

    TensorFlow loads (some 4 seconds) while the caller goes on; the first call waits for it. ::

        with Reference() as reference:
            y = reference.conv2d(x, filters, strides=2, padding="SAME")

    Raises UnsupportedError, from the first call, where TensorFlow cannot be imported, and ConvoptError if the process dies.
    """

    def __init__(self) -> None:
        environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        # -P: the caller's working directory must not shadow what is imported.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "convopt.tensorflow"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._version: str | None = None

    def conv2d(
        self,
        x: ArrayLike,
        filters: ArrayLike,
        strides: Any = 1,
        padding: Any = "VALID",
        data_format: str = "NHWC",
        dilations: Any = 1,
    ) -> NDArray[Any]:
        """What tf.nn.conv2d gives; NCHW, which its CPU refuses, goes through NHWC (int or pair arguments, 2 pairs of pads)."""
        if self._version is None:
            self._version = str(self._receive()[0]["version"])
        x, filters = np.asarray(x), np.asarray(filters)
        if data_format == "NCHW":
            x = np.moveaxis(x, -3, -1)
        if not isinstance(padding, str):
            padding = [[0, 0], *padding, [0, 0]] if len(padding) == 2 else padding
            padding = np.asarray(padding).tolist()
        request = {"strides": strides, "padding": padding, "dilations": dilations}
        try:
            assert self._process.stdin is not None
            _send(self._process.stdin, request, x, filters)
        except BrokenPipeError:
            raise ConvoptError("the TensorFlow process died") from None
        y = self._receive()[1][0]
        return y if data_format == "NHWC" else np.moveaxis(y, -1, -3)

    @property
    def version(self) -> str:
        """TensorFlow's version, known after the first call."""
        return self._version or "unknown"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _receive(self) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        assert self._process.stdout is not None
        message = _receive(self._process.stdout)
        if message is None:
            raise ConvoptError(f"the TensorFlow process died (exit status {self._process.wait()})")
        if "missing" in message[0]:
            raise UnsupportedError(
                f"this check needs TensorFlow, which cannot be imported here ({message[0]['missing']}); pip install 'convopt[tensorflow]'"
            )
        if "error" in message[0]:
            raise ConvoptError(f"tf.nn.conv2d: {message[0]['error']}")
        return message


def _send(stream: IO[bytes], header: dict[str, Any], *arrays: NDArray[Any]) -> None:
    """One line of JSON, which lists the arrays, then their bytes in C order."""
    listing = [{"shape": array.shape, "dtype": array.dtype.str} for array in arrays]
    stream.write(json.dumps({**header, "arrays": listing}).encode() + b"\n")
    for array in arrays:
        stream.write(array.tobytes())
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[NDArray[Any]]] | None:
    """The next message of `_send`; None at the end of the stream."""
    line = stream.readline()
    if not line:
        return None
    header = json.loads(line)
    arrays = []
    for listing in header["arrays"]:
        dtype = np.dtype(listing["dtype"])
        data = stream.read(int(np.prod(listing["shape"], dtype=np.int64)) * dtype.itemsize)
        arrays.append(np.frombuffer(data, dtype).reshape(listing["shape"]))
    return header, arrays


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer `Reference` until its end of the pipe closes."""
    try:
        import tensorflow as tf
    except ImportError as error:
        _send(replies, {"missing": str(error)})
        return
    _send(replies, {"version": tf.__version__})
    while (message := _receive(requests)) is not None:
        header, (x, filters) = message
        try:
            y = tf.nn.conv2d(x, filters, header["strides"], header["padding"], dilations=header["dilations"]).numpy()
        except Exception as error:  # whatever TensorFlow dislikes is an answer, not the end of the server
            _send(replies, {"error": f"{type(error).__name__}: {error}".splitlines()[0]})
        else:
            _send(replies, {}, y)


if __name__ == "__main__":
    # Whatever TensorFlow prints must not get between the replies.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, channel)
