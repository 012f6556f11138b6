"""Seconds a candidate will take, from what it does and how fast the machine is; nothing is timed here.

An algorithm of one phase hides most of its memory traffic behind its arithmetic; one with transforms waits for memory between
its phases. Starting threads, changing layouts and, where filters are not constant, packing them come on top. The estimate
answers at once where nothing was measured, and spares the measurement candidates without hope.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from convopt.shape import ConvShape

from . import machine
from .candidates import Candidate, Request

#: Share of the shorter of arithmetic and traffic that is not hidden behind the longer, where there are no phases to wait for.
NOT_HIDDEN = 0.3
#: Speed of code that is not a GEMM (transforms, depthwise), as a share of the FMA peak.
VECTOR_SHARE = 0.2
#: The same of code that packs filters; its traffic is in short runs far apart, which hides behind nothing.
PACKING_SHARE = 0.25
#: Seconds of entering an algorithm at all.
CALL = 5e-7


@dataclass(frozen=True, slots=True)
class Speeds:
    """A machine's constants.

    peak: float32 operations per second of one core. level2, level3, memory: bytes per second of one core, by where the
    data lies; memory_all: of all cores together. wake: seconds to start and join threads once. slowness: measured time
    over estimated time by `kind`, 1 where it is not known: how far an algorithm is from what it says of itself here.
    """

    peak: float
    level2: float
    level3: float
    memory: float
    memory_all: float
    wake: float
    slowness: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Speeds | None:
        """The speeds a JSON object describes, None if it describes none."""
        try:
            slowness = {str(name): float(value) for name, value in values["slowness"].items()}
            rest = {str(name): float(value) for name, value in values.items() if name != "slowness"}
            speeds = cls(**rest, slowness=slowness)
        except (TypeError, ValueError, AttributeError, KeyError):
            return None
        return speeds if all(0 < value < 1e18 for value in (*rest.values(), *slowness.values())) else None


#: What is assumed by instruction set before a machine was measured: a server core of these years.
TYPICAL = {
    "generic": Speeds(peak=2.0e10, level2=4e10, level3=2e10, memory=1.1e10, memory_all=2e10, wake=3e-6),
    "avx2": Speeds(peak=9.0e10, level2=6e10, level3=2.5e10, memory=1.2e10, memory_all=2e10, wake=3e-6),
    "avx512": Speeds(peak=1.3e11, level2=7e10, level3=2.5e10, memory=1.2e10, memory_all=2e10, wake=3e-6),
}


def kind(algorithm: str, shape: ConvShape) -> str:
    """What slowness is known by: some algorithms have a code path of their own where channels do not mix."""
    return f"{algorithm}/depthwise" if shape.is_depthwise else algorithm


def estimate(candidate: Candidate, request: Request, speeds: Speeds) -> float:
    """Seconds of one call."""
    work, threads = candidate.work, request.threads
    busy = max(1, min(threads, work.parts))
    shares = -(-work.parts // busy) * busy / max(1, work.parts)  # the longest share, where parts do not divide evenly
    peak = speeds.peak * 4 / request.shape.itemsize * busy / shares
    arithmetic = work.gemm_flops / (peak * max(work.gemm_efficiency, 0.01)) + work.vector_flops / (peak * VECTOR_SHARE)
    traffic = (work.moved_bytes + candidate.layout_bytes) / _bandwidth(_footprint(candidate, request), busy, speeds)
    traffic += work.near_bytes / (speeds.level2 * busy)
    not_hidden = 1.0 if work.vector_flops else NOT_HIDDEN
    seconds = max(arithmetic, traffic) + not_hidden * min(arithmetic, traffic)
    seconds = CALL + seconds * speeds.slowness.get(kind(candidate.algorithm, request.shape), 1.0)
    if busy > 1:
        seconds += speeds.wake
    if not request.constant_filters:
        seconds += _packing(candidate, request, speeds)
    return seconds


def _packing(candidate: Candidate, request: Request, speeds: Speeds) -> float:
    """Seconds of packing the filters, which all threads share."""
    work, shape, threads = candidate.work, request.shape, request.threads
    filters = shape.itemsize * math.prod(shape.filters_shape)
    # A line must be fetched before it can be written.
    moved = filters + 2.0 * candidate.packed_bytes if work.packing_bytes is None else work.packing_bytes
    traffic = moved / _bandwidth(_footprint(candidate, request) + filters, threads, speeds)
    return work.packing_flops * shape.itemsize / 4 / (speeds.peak * PACKING_SHARE * threads) + traffic


def _footprint(candidate: Candidate, request: Request) -> int:
    """Bytes that one call touches, each counted once."""
    shape = request.shape
    tensors = shape.itemsize * shape.n * (shape.h * shape.w * shape.c + shape.oh * shape.ow * shape.k)
    return tensors + candidate.packed_bytes + candidate.workspace_bytes


def _bandwidth(footprint: int, busy: int, speeds: Speeds) -> float:
    """Bytes per second of so many threads together on data of which so much is in use.

    Between the sizes whose speeds were measured, the time of a byte grows with the logarithm of the size.
    """
    level2, level3, memory = measured_sizes()
    alone = (1 / speeds.level2, 1 / speeds.level3, max(1 / speeds.memory, busy / speeds.memory_all))
    level2, level3 = level2 * busy, max(level3, 2 * level2 * busy)
    sizes = (math.log(level2), math.log(level3), math.log(max(memory, 2 * level3)))
    size = min(max(math.log(max(1, footprint)), sizes[0]), sizes[2])
    segment = int(size > sizes[1])
    within = (size - sizes[segment]) / (sizes[segment + 1] - sizes[segment])
    return busy / (alone[segment] + within * (alone[segment + 1] - alone[segment]))


def measured_sizes() -> tuple[int, int, int]:
    """Bytes that lie in the second-level cache, in the third, in memory: what the speeds of a core are of."""
    level2, level3 = machine.cache_bytes(2) or 1 << 20, machine.cache_bytes(3) or 1 << 24
    return level2 // 2, min(level3 // 2, 4 * level2), max(1 << 26, 8 * level2)
