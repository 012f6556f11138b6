"""The public calls: arguments -> ConvShape -> chosen algorithm -> ConvPlan -> result.

``conv2d`` keeps what it worked out for a combination of shapes and options in a table, so that a repeated call costs
one look-up besides its plan's own call. ``plan`` does that work once and hands the plan out.
"""

from __future__ import annotations

import operator
import os
import re
import sys
from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convopt.algorithms import parallel
from convopt.configuration import Configuration, build, configurations
from convopt.errors import DTypeError, ShapeError
from convopt.plan import ConvPlan, array_of, checked_bias, limits_of
from convopt.shape import DTYPES, ConvShape
from convopt.tuning import planner
from convopt.tuning.planner import Request

if TYPE_CHECKING:
    from types import TracebackType

#: Named accuracies: the largest accepted max|y - y64| / max|y64|.
ACCURACIES = MappingProxyType({"strict": 1e-6, "ieee": 1e-5})
DEFAULT_ACCURACY = 1e-5
TUNE_LEVELS = ("auto", "cached", "estimate", "exhaustive", "measure")
DEVICES = ("cpu", "gpu")

_INTEGERS = re.compile(r"[][(), 0-9-]*").fullmatch

_YES, _NO = frozenset(("1", "true", "yes", "on")), frozenset(("", "0", "false", "no", "off"))


def conv2d(
    input: ArrayLike,
    filters: ArrayLike,
    strides: int | Sequence[int] = 1,
    padding: str | Sequence[Sequence[int]] = "VALID",
    data_format: str = "NHWC",
    dilations: int | Sequence[int] | None = None,
    name: str | None = None,
    *,
    bias: ArrayLike | None = None,
    activation: str | None = None,
    out: NDArray[Any] | None = None,
    algorithm: str = "auto",
    tune: str | None = None,
    threads: int | None = None,
    accuracy: float | str | None = None,
    max_workspace: int | None = None,
    deterministic: bool | None = None,
    device: str = "cpu",
) -> Any:
    """2-D convolution with the arguments and results of ``tf.nn.conv2d``.

    Args:
        input: array ``[..., N, H, W, C]`` (``[..., N, C, H, W]`` for ``data_format="NCHW"``), float32 or float64, rank 4 or more.
        filters: array ``[R, S, C/groups, K]`` of the input's dtype. Fewer channels than the input's mean a grouped convolution;
            one means depthwise.
        strides, dilations: an int, or 1, 2 (height, width) or 4 (one per dimension of data_format) of them.
        padding: "SAME", "VALID", 2 pairs ((top, bottom), (left, right)), or 4 pairs in the order of data_format.
        name: ignored; there for TensorFlow's signature.
        bias: K values added to every pixel. activation: None, "relu" or "relu6".
        out: array of the result's shape to write to, as in NumPy; may overlap the input.
        algorithm: "auto" or a name, optionally with parameters: "winograd", "winograd:t=6". See ``convopt.algorithms``.
        tune: how "auto" chooses. "auto": at once by estimate, then measured when the time spent here has repaid it. "estimate": never
            times. "measure", "exhaustive": time the candidates now, unless remembered. "cached": only what is remembered.
        threads: most threads to use; None: the default (see ``convopt.threads``).
        accuracy: largest accepted max|y - exact| / max|exact|; "strict" is 1e-6; "ieee" also keeps NaN and Inf where they belong.
        max_workspace: most bytes of scratch memory. deterministic: True for a choice that no timing influences.
        device: "cpu", or "gpu" to hand the work to TensorFlow.

    Returns:
        An array of the input's dtype and layout with K channels (``out`` if given).

    Raises:
        ShapeError: impossible value; DTypeError: impossible type; UnsupportedError: the named algorithm or device cannot serve
        this; WorkspaceError: no algorithm fits max_workspace or memory; CacheMiss: ``tune="cached"`` and nothing remembered.
    """
    if type(input) is not np.ndarray or type(device) is not str or device != "cpu":
        elsewhere = _device_of(input, device)
        if elsewhere == "gpu":
            from convopt import tensorflow

            return tensorflow.conv2d(input, filters, strides, padding, data_format, dilations, bias=bias, activation=activation, out=out)
    x: Any = input
    w: Any = filters
    if type(x) is not np.ndarray or type(w) is not np.ndarray:
        x, w = _arrays(x, w)
    # Numbers that compare equal may not mean the same (1.0 is no stride): anything but an int is keyed by what it looks like.
    key = (
        x.shape, x.dtype, w.shape, w.dtype,
        strides if type(strides) is int else _mark(strides),
        padding if type(padding) is str else (_mark(padding),),
        data_format,
        dilations if dilations is None or type(dilations) is int else _mark(dilations),
        bias is None, activation, algorithm, tune,
        parallel.current() if threads is None else _thread_count(threads),
        accuracy, max_workspace, deterministic,
    )  # fmt: skip
    try:
        configuration = configurations.get(key)
    except TypeError:  # an option that cannot be hashed cannot be valid either: what follows says which
        configuration = None
    if configuration is None:
        request = _request(
            x, w, strides, padding, data_format, dilations, bias, activation, threads, accuracy, max_workspace, deterministic
        )
        configuration = Configuration(request, x.shape, algorithm, _tune_level(tune))
        configurations.add(key, configuration)
    return configuration(x, w, bias, out)


def plan(
    input_shape: Sequence[int],
    filters: ArrayLike,
    strides: int | Sequence[int] = 1,
    padding: str | Sequence[Sequence[int]] = "VALID",
    data_format: str = "NHWC",
    dilations: int | Sequence[int] | None = None,
    *,
    bias: ArrayLike | None = None,
    activation: str | None = None,
    dtype: Any = None,
    algorithm: str = "auto",
    tune: str = "measure",
    threads: int | None = None,
    accuracy: float | str | None = None,
    max_workspace: int | None = None,
    deterministic: bool | None = None,
) -> ConvPlan:
    """A convolution prepared once: algorithm chosen (measured, unless remembered), filters packed, workspace allocated.

    Arguments as for ``conv2d``, but the input's shape instead of the input; dtype: that of input and filters, default the filters' own.
    Returns a ConvPlan: call it as ``p(x, out=None)``, from any number of threads at once.

    Raises what ``conv2d`` raises.
    """
    wanted = None if dtype is None else _dtype(dtype)
    w = array_of("filters", filters, wanted)
    if wanted is not None:
        w = w.astype(wanted, copy=False)
    x = _Like(input_shape, w.dtype)
    request = _request(
        x, w, strides, padding, data_format, dilations, bias, activation, threads, accuracy, max_workspace, deterministic, constant=True
    )
    level = _tune_level(tune)
    # A plan that was given no number of threads follows the default, and whatever limits it, from call to call.
    return build(request, algorithm, "measure" if level == "auto" else level, w, bias, tuple(input_shape), follows_default=threads is None)


def output_shape(
    input_shape: Sequence[int],
    filters_shape: Sequence[int],
    strides: int | Sequence[int] = 1,
    padding: str | Sequence[Sequence[int]] = "VALID",
    data_format: str = "NHWC",
    dilations: int | Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Shape of what ``conv2d`` would return. Raises ShapeError, DTypeError as it would."""
    shape = ConvShape.from_arguments(input_shape, filters_shape, strides, padding, data_format, dilations)
    return (*tuple(input_shape)[:-3], *shape.output_shape[1:])


def algorithms(
    input_shape: Sequence[int],
    filters_shape: Sequence[int],
    strides: int | Sequence[int] = 1,
    padding: str | Sequence[Sequence[int]] = "VALID",
    data_format: str = "NHWC",
    dilations: int | Sequence[int] | None = None,
    dtype: Any = "float32",
) -> list[str]:
    """Names of the algorithms that can serve this convolution. Raises ShapeError, DTypeError as ``conv2d`` would."""
    shape = ConvShape.from_arguments(input_shape, filters_shape, strides, padding, data_format, dilations, _dtype(dtype).name)
    return planner.applicable(shape)


def explain(
    input_shape: Sequence[int],
    filters_shape: Sequence[int],
    strides: int | Sequence[int] = 1,
    padding: str | Sequence[Sequence[int]] = "VALID",
    data_format: str = "NHWC",
    dilations: int | Sequence[int] | None = None,
    *,
    bias: bool = False,
    activation: str | None = None,
    dtype: Any = "float32",
    algorithm: str = "auto",
    tune: str = "estimate",
    threads: int | None = None,
    accuracy: float | str | None = None,
    max_workspace: int | None = None,
    deterministic: bool | None = None,
) -> str:
    """What a plan would choose for this problem and why not the others, as a text. Times nothing unless ``tune`` says so."""
    like = _Like(filters_shape, _dtype(dtype))
    request = _request(
        _Like(input_shape, like.dtype), like, strides, padding, data_format, dilations, np.zeros(0) if bias else None, activation,
        threads, accuracy, max_workspace, deterministic, constant=True, check_bias=False,
    )  # fmt: skip
    level = _tune_level(tune)
    return planner.choose(request, "estimate" if level == "auto" else level, algorithm).explain()


class threads:
    """``convopt.threads(n)``: use n threads by default from now on; as a context manager, until its end.

    Raises ShapeError or DTypeError for what is no positive integer.
    """

    def __init__(self, n: int) -> None:
        self._before = parallel.set_default(_thread_count(n))

    def __enter__(self) -> threads:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        parallel.set_default(self._before)


class _Like:
    """Shape and dtype of an array nobody has made yet."""

    def __init__(self, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype


def _request(
    x: Any, w: Any, strides: Any, padding: Any, data_format: Any, dilations: Any, bias: Any, activation: Any, threads: Any,
    accuracy: Any, max_workspace: Any, deterministic: Any, constant: bool = False, check_bias: bool = True,
) -> Request:  # fmt: skip
    """The planner's view of the arguments, every one of them checked."""
    for argument, array in (("input", x), ("filters", w)):
        if isinstance(array, np.ndarray):
            array_of(argument, array)
    if x.dtype.itemsize != w.dtype.itemsize:
        raise DTypeError(f"filters has dtype {w.dtype}; input has {x.dtype}: they must be the same")
    shape = ConvShape.from_arguments(x.shape, w.shape, strides, padding, data_format, dilations, x.dtype.newbyteorder("=").name)
    if bias is not None and check_bias:
        checked_bias(bias, shape.k, np.dtype(shape.dtype))
    limits_of(activation)
    limit, finite_only = accuracy_limit(accuracy)
    return Request(
        shape=shape,
        bias=bias is not None,
        activation=activation,
        threads=_thread_count(threads),
        constant_filters=constant,
        accuracy=limit,
        finite_only=finite_only,
        max_workspace=workspace_limit(max_workspace),
        deterministic=is_deterministic() if deterministic is None else _boolean("deterministic", deterministic),
    )


def _arrays(x: Any, w: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Input and filters as arrays; a list beside an array takes its dtype."""
    of_array = next((each.dtype.newbyteorder("=") for each in (x, w) if isinstance(each, np.ndarray)), None)
    like = of_array if of_array is not None and of_array.name in DTYPES else None
    return array_of("input", x, like), array_of("filters", w, like)


def _mark(value: Any) -> str:
    """A text that tells an argument of several numbers from every other: the quick road where all of them are Python's integers."""
    text = repr(value)
    return text.replace("[", "(").replace("]", ")") if _INTEGERS(text) else _text(value)


def _text(value: Any) -> str:
    """What an argument looks like, in full: NumPy's own repr leaves out what is long."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.tolist()!r}"
    if isinstance(value, (tuple, list)):
        return f"({','.join(map(_text, value))})"
    return repr(value)


def _device_of(input: Any, device: Any) -> str:
    """Where the work goes: where the caller said, or where a TensorFlow tensor lives already."""
    if not isinstance(device, str) or device not in DEVICES:
        raise ShapeError(f"device is {device!r}; expected one of {', '.join(DEVICES)}")
    tf = sys.modules.get("tensorflow")
    on_gpu = tf is not None and isinstance(input, getattr(tf, "Tensor", ())) and "GPU" in str(getattr(input, "device", ""))
    return "gpu" if on_gpu else str(device)


def _dtype(dtype: Any) -> np.dtype[Any]:
    try:
        known: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        raise DTypeError(f"dtype is {dtype!r}; expected float32 or float64") from None
    if known.name not in DTYPES:
        raise DTypeError(f"dtype is {dtype!r}; expected float32 or float64")
    return known


def _thread_count(threads: Any) -> int:
    if threads is None:
        return parallel.current()
    try:
        count = operator.index(threads)
    except TypeError:
        raise DTypeError(f"threads is {threads!r}; expected an integer of at least 1") from None
    if not 1 <= count <= parallel.MAX_THREADS:
        raise ShapeError(f"threads is {threads!r}; it must be from 1 to {parallel.MAX_THREADS}")
    return parallel.current(count)


def is_deterministic() -> bool:
    """Whether CONVOPT_DETERMINISTIC says yes: what holds where a call does not say. Raises ShapeError where it says neither."""
    value = os.environ.get("CONVOPT_DETERMINISTIC", "")
    if value.lower() not in _YES | _NO:
        raise ShapeError(f"CONVOPT_DETERMINISTIC is {value!r}; expected 1 or 0")
    return value.lower() in _YES


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise DTypeError(f"{name} is {value!r}; expected True or False")
    return bool(value)


def _tune_level(tune: Any) -> str:
    level = os.environ.get("CONVOPT_TUNE") or "auto" if tune is None else tune
    if level not in TUNE_LEVELS:
        raise ShapeError(f"tune is {level!r}; expected one of {', '.join(TUNE_LEVELS)}")
    return str(level)


def accuracy_limit(accuracy: Any) -> tuple[float, bool]:
    """(largest accepted error, whether NaN and Inf must stay where they belong)."""
    if accuracy is None:
        accuracy = os.environ.get("CONVOPT_ACCURACY") or DEFAULT_ACCURACY
    if isinstance(accuracy, str) and accuracy in ACCURACIES:
        return ACCURACIES[accuracy], accuracy == "ieee"
    try:
        limit = float(accuracy)
    except (TypeError, ValueError):
        limit = -1.0
    if not limit > 0:
        raise ShapeError(f"accuracy is {accuracy!r}; expected a number above 0, or one of {', '.join(ACCURACIES)}")
    return limit, False


def workspace_limit(max_workspace: Any) -> int | None:
    if max_workspace is None:
        max_workspace = os.environ.get("CONVOPT_MAX_WORKSPACE") or None
    if max_workspace is None:
        return None
    if isinstance(max_workspace, float) and max_workspace == float("inf"):
        return None
    try:
        limit = int(max_workspace) if isinstance(max_workspace, str) else operator.index(max_workspace)
    except (TypeError, ValueError):
        limit = -1
    if limit < 0:
        raise ShapeError(f"max_workspace is {max_workspace!r}; expected a number of bytes, at least 0")
    return limit
