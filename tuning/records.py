"""What measuring leaves behind, and how a choice follows from it.

An entry of the cache holds one record per candidate that was considered, so a changed limit chooses again among the
same records, without timing anything; see ``select``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from .candidates import Candidate, Identity, Params, Request, label

#: Times this close count as equal; the lower error decides, then the smaller workspace.
TIE = 1.01
#: Another choice with a time beyond this one's is a flip. More than a tie: were they the same, what lies at the limit of a tie
#: would be chosen one day and be called a flip on another.
FLIP = 1.02
#: An expected error is a typical one: only candidates far beyond the limit are not worth measuring for it.
EXPECTED_SLACK = 3.0


@dataclass(frozen=True, slots=True)
class Record:
    """One candidate as it was seen. Times in seconds per call, sizes in bytes; None where it was not timed.

    seconds: lower quartile, which a busy machine disturbs less than the median. fastest: in the best moment of the race, which is
    what choices compare; see ``measure_race``. spread: interquartile range over the lower quartile.
    error: max|y - y64| / max|y64|, measured. noisy: how often in succession something disturbed the machine all the while.
    rejected: why it must never be chosen, "" where nothing is wrong with it.
    """

    algorithm: str
    params: Params
    revision: int
    workspace_bytes: int
    packed_bytes: int
    spreads_nonfinite: bool = False
    seconds: float | None = None
    fastest: float | None = None
    spread: float | None = None
    error: float | None = None
    samples: int = 0
    noisy: int = 0
    rejected: str = ""

    @property
    def label(self) -> str:
        """As users write it: ``winograd:t=6``."""
        return label(self.algorithm, self.params)

    @property
    def identity(self) -> Identity:
        """What a measurement is of: one revision of one candidate."""
        return (self.algorithm, self.params, self.revision)

    def to_json(self) -> dict[str, Any]:
        """A JSON object of what is known; ``from_json`` is its inverse."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) != field.default}
        return {**values, "params": dict(self.params)}

    @classmethod
    def from_json(cls, values: Any) -> Record:
        """The record a JSON object describes. Raises ValueError, TypeError or KeyError if it describes none."""
        params = values["params"]
        if not all(isinstance(name, str) and type(value) is int for name, value in params.items()):
            raise ValueError(f"params is {params!r}")
        record = cls(**{**values, "params": tuple(sorted(params.items()))})
        integers = (record.revision, record.workspace_bytes, record.packed_bytes, record.samples, record.noisy)
        reals = [value for value in (record.seconds, record.fastest, record.spread, record.error) if value is not None]
        if not all(type(value) is int and value >= 0 for value in integers):
            raise ValueError(f"not counts: {integers}")
        if not all(isinstance(value, (int, float)) and math.isfinite(value) and value >= 0 for value in reals):
            raise ValueError(f"not measurements: {reals}")
        if (type(record.algorithm), type(record.rejected), type(record.spreads_nonfinite)) != (str, str, bool):
            raise TypeError(f"not a record: {values}")
        return record


def record_of(candidate: Candidate, **measured: Any) -> Record:
    """The record of a candidate with what was measured."""
    return Record(
        candidate.algorithm,
        candidate.params,
        candidate.revision,
        candidate.workspace_bytes,
        candidate.packed_bytes,
        candidate.spreads_nonfinite,
        **measured,
    )


def to_json(records: Iterable[Record]) -> dict[str, Any]:
    """The cache's value for one entry."""
    return {"records": [record.to_json() for record in records]}


def from_json(value: Any) -> tuple[Record, ...]:
    """The records of a cache's value; none where the value is absent or is not such an entry."""
    try:
        return tuple(Record.from_json(item) for item in value["records"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()


def merge(old: Iterable[Record], new: Iterable[Record]) -> tuple[Record, ...]:
    """All records, the new one where both have the same candidate; earlier revisions are forgotten."""
    merged = {(record.algorithm, record.params): record for record in (*old, *new)}
    return tuple(merged.values())


def counted(old: Iterable[Record], new: Iterable[Record]) -> list[Record]:
    """The new records, those that are noisy telling how often in succession they have been."""
    before = {record.identity: record.noisy for record in old}
    return [replace(record, noisy=1 + before.get(record.identity, 0)) if record.noisy else record for record in new]


def alive(records: Iterable[Record], candidates: Iterable[Candidate]) -> tuple[Record, ...]:
    """The records of candidates that still exist, in the revision they were measured in."""
    present = {each.identity for each in candidates}
    return tuple(record for record in records if record.identity in present)


def admissible(candidates: Sequence[Candidate], request: Request) -> tuple[list[Candidate], dict[Candidate, str]]:
    """The candidates within the request's limits as far as is known without measuring, and why each other one is not.

    Accuracy never leaves nothing: where no candidate is as accurate as asked, the most accurate ones stay.
    """
    refused: dict[Candidate, str] = {}
    finite = [each for each in candidates if not (request.finite_only and each.spreads_nonfinite)]
    limit = max(request.accuracy, min((each.expected_error for each in finite), default=0.0))
    for each in candidates:
        if request.finite_only and each.spreads_nonfinite:
            refused[each] = "spreads NaN and Inf"
        elif each.expected_error > limit * EXPECTED_SLACK:
            refused[each] = f"expected error {each.expected_error:.1e} is above {limit:.1e}"
        elif request.max_workspace is not None and each.workspace_bytes > request.max_workspace:
            refused[each] = f"workspace of {each.workspace_bytes} bytes is above {request.max_workspace}"
    return [each for each in candidates if each not in refused], refused


def select(records: Iterable[Record], request: Request) -> Record | None:
    """The record to use under the request's limits, None if there is none: a pure function of its arguments.

    Of the records within the limits, the fastest; of those within 1 % of it, the one of the lowest error, then the
    smallest workspace. As with ``admissible``, the most accurate ones stay where none is as accurate as asked.
    """
    timed = [
        record
        for record in records
        if record.fastest is not None and not record.rejected and not (request.finite_only and record.spreads_nonfinite)
    ]
    limit = max(request.accuracy, min(map(_error, timed), default=0.0))
    room = math.inf if request.max_workspace is None else request.max_workspace
    accurate = [record for record in timed if _error(record) <= limit and record.workspace_bytes <= room]
    if not accurate:
        return None
    best = min(_fastest(record) for record in accurate)
    tied = [record for record in accurate if _fastest(record) <= best * TIE]
    return min(tied, key=lambda record: (_error(record), record.workspace_bytes, _fastest(record)))


def _error(record: Record) -> float:
    return math.inf if record.error is None else record.error


def _fastest(record: Record) -> float:
    return math.inf if record.fastest is None else record.fastest
