"""What may be chosen: a request, and the candidates (algorithm and parameters) that could serve it."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from convopt.algorithms import ALGORITHMS, native_shape, prepare
from convopt.algorithms.contract import Work
from convopt.errors import DTypeError, ShapeError, UnsupportedError
from convopt.kernels import registry
from convopt.shape import ConvShape

#: Parameters of a candidate as a hashable value, sorted by name.
Params = tuple[tuple[str, int], ...]
#: Algorithm, parameters, revision.
Identity = tuple[str, Params, int]

_KEY = re.compile(r"(?P<shape>n\d.*)_e(?P<bias>b?)(?P<activation>relu6?)?_t(?P<threads>[1-9]\d{0,3})_(?P<filters>const|fresh)")


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that may change which algorithm is best, and the limits the caller sets.

    constant_filters: filters are packed once, not in each call. accuracy: largest accepted max|y - y64| / max|y64|.
    finite_only: no algorithm that spreads NaN and Inf. max_workspace: bytes of scratch memory, None for any.
    deterministic: a fixed choice, without timing and without anything remembered.
    """

    shape: ConvShape
    bias: bool
    activation: str | None
    threads: int
    constant_filters: bool
    accuracy: float = 1e-5
    finite_only: bool = False
    max_workspace: int | None = None
    deterministic: bool = False

    def key(self) -> str:
        """The problem's name in the cache: what changes the times. The limits only filter, so they are not in it."""
        epilogue = ("b" if self.bias else "") + (self.activation or "")
        return f"{self.shape.key()}_e{epilogue}_t{self.threads}_{'const' if self.constant_filters else 'fresh'}"

    @staticmethod
    def is_key(text: str) -> bool:
        """Whether a text looks like a ``key()``, rather than like one of a shape alone."""
        return _KEY.fullmatch(text) is not None

    @classmethod
    def parse(cls, key: str) -> Request:
        """The problem a ``key()`` names, under the usual limits. Raises ShapeError for what is none."""
        match = _KEY.fullmatch(key)
        if match is None:
            raise ShapeError(f"key is {key!r}; expected that of a shape, then as in _ebrelu_t1_const")
        return cls(
            shape=ConvShape.parse(match["shape"]),
            bias=bool(match["bias"]),
            activation=match["activation"] or None,
            threads=int(match["threads"]),
            constant_filters=match["filters"] == "const",
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """One algorithm with parameters, applied to one request; sizes in bytes.

    layout_bytes: traffic of changing the layout around it. expected_error: typical max|y - y64| / max|y64|.
    """

    algorithm: str
    params: Params
    revision: int
    spreads_nonfinite: bool
    expected_error: float
    workspace_bytes: int
    packed_bytes: int
    layout_bytes: int
    work: Work

    @property
    def label(self) -> str:
        """As users write it: ``winograd:t=6``."""
        return label(self.algorithm, self.params)

    @property
    def identity(self) -> Identity:
        """What a measurement is of: one revision of one candidate."""
        return (self.algorithm, self.params, self.revision)


def label(algorithm: str, params: Params) -> str:
    """An algorithm with parameters as users write it: ``winograd:t=6``."""
    return algorithm + (":" + ",".join(f"{name}={value}" for name, value in params) if params else "")


def applicable(shape: ConvShape) -> list[str]:
    """Names of the algorithms that can serve the shape, in the table's order."""
    return [name for name, module in ALGORITHMS.items() if module.why_not(native_shape(module, shape)) is None]


def parse_algorithm(text: str) -> tuple[str, dict[str, int]]:
    """``"winograd:t=6"`` -> ("winograd", {"t": 6}); the name must exist, or be "auto" alone.

    Raises DTypeError, UnsupportedError.
    """
    if not isinstance(text, str):
        raise DTypeError(f"algorithm is {text!r}; expected a name")
    name, _, rest = text.partition(":")
    name = name.strip().lower()
    if name not in ALGORITHMS and (name != "auto" or rest):
        raise UnsupportedError(f"algorithm is {text!r}; known are auto, {', '.join(ALGORITHMS)}, these with parameters as in 'direct:nv=2'")
    params = {}
    for item in filter(None, rest.split(",")):
        key, _, value = item.partition("=")
        try:
            params[key.strip()] = int(value)
        except ValueError:
            raise UnsupportedError(f"algorithm is {text!r}; its parameters must have the form NAME=INTEGER, found {item!r}") from None
    return name, params


def candidates(request: Request, algorithm: str = "auto") -> list[Candidate]:
    """All candidates, each algorithm's default first; only those of `algorithm` (and the parameters it gives) if named.

    Raises UnsupportedError where none is left, saying why.
    """
    name, wanted = parse_algorithm(algorithm)
    if name == "auto":
        names = applicable(request.shape)
        if request.shape.is_empty:
            del names[1:]  # nothing will be computed: any of them will do
        return [candidate for each in names for candidate in _candidates_of(each, request)]
    module = ALGORITHMS[name]
    reason = module.why_not(native_shape(module, request.shape))
    if reason is not None:
        raise UnsupportedError(f"algorithm is {algorithm!r}, which cannot serve this problem: {reason}")
    found = _candidates_of(name, request)
    matching = [candidate for candidate in found if wanted.items() <= dict(candidate.params).items()]
    if not matching:
        raise UnsupportedError(f"algorithm is {algorithm!r}; for this problem there are {', '.join(each.label for each in found)}")
    return matching


def _candidates_of(name: str, request: Request) -> list[Candidate]:
    return list(_candidates(name, ALGORITHMS[name].REVISION, request.shape, request.threads, registry.isa()))


@functools.lru_cache(maxsize=1024)
def _candidates(name: str, revision: int, shape: ConvShape, threads: int, isa: str) -> tuple[Candidate, ...]:
    """The candidates of an algorithm, its default first; kept, since some algorithms think long about their parameters."""
    module = ALGORITHMS[name]
    native = native_shape(module, shape)
    tensors = shape.itemsize * shape.n * (shape.h * shape.w * shape.c + shape.oh * shape.ow * shape.k)
    found = []
    for params in module.candidates(native):
        convolver = prepare(name, shape, params)
        found.append(
            Candidate(
                algorithm=name,
                params=tuple(sorted(params.items())),
                revision=revision,
                spreads_nonfinite=module.SPREADS_NONFINITE,
                expected_error=module.expected_error(native, params),
                workspace_bytes=convolver.workspace_bytes(threads),
                packed_bytes=convolver.packed_bytes(),
                layout_bytes=0 if native == shape else 2 * tensors,
                work=module.work(native, params, threads),
            )
        )
    return tuple(found)
