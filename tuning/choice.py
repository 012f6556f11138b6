"""What the planner answers: the choice, and the others it was made among."""

from __future__ import annotations

from dataclasses import dataclass

from .candidates import label

#: What a choice rests on, by its source.
REASONS = {
    "named": "the caller named it",
    "pinned": "pinned by",
    "estimate": "by the cost model: nothing is remembered of this problem",
    "measured": "measured just now",
    "cache": "measured earlier on this machine",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """One candidate as ``explain`` shows it. Times in seconds per call, sizes in bytes, None where it was not timed.

    seconds: in the best moment of the race, which is what choices compare. estimate: the cost model's time. error: measured
    max|y - y64| / max|y64|, else the expected one. verdict: why it was not chosen; "chosen" for the one that was.
    """

    algorithm: str
    params: dict[str, int]
    estimate: float
    seconds: float | None
    spread: float | None
    error: float
    workspace_bytes: int
    packed_bytes: int
    verdict: str

    @property
    def label(self) -> str:
        """As users write it: ``winograd:t=6``."""
        return label(self.algorithm, tuple(self.params.items()))


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen algorithm with parameters, and how it was chosen.

    source: "named" by the caller, "pinned" by a rule, "estimate", "measured" just now, or remembered from the "cache".
    seconds: of one call, as measured, else as estimated. error: measured max|y - y64| / max|y64|, None if it was not.
    note: what belongs to that besides, for people. contenders: every candidate, the chosen one first, then the faster before the slower.
    """

    algorithm: str
    params: dict[str, int]
    source: str
    seconds: float
    error: float | None
    contenders: tuple[Contender, ...]
    note: str = ""

    @property
    def reason(self) -> str:
        """What the choice rests on, in words."""
        return f"{REASONS[self.source]} {self.note}".rstrip()

    def explain(self) -> str:
        """A table of the contenders for people, and what the choice rests on."""
        lines = [f"{self.contenders[0].label}: {self.reason}"]
        rows = [("", "time", "spread", "estimate", "error", "workspace", "filters", "")]
        for each in self.contenders:
            rows.append(
                (
                    each.label,
                    "-" if each.seconds is None else _duration(each.seconds),
                    "-" if each.spread is None else f"{100 * each.spread:.0f} %",
                    _duration(each.estimate),
                    f"{each.error:.1e}",
                    _size(each.workspace_bytes),
                    _size(each.packed_bytes),
                    each.verdict,
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:-1], row[-1]]).rstrip())
        return "\n".join(lines)


def _duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _size(nbytes: int) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= scale:
            return f"{nbytes / scale:.3g} {unit}"
    return f"{nbytes} B"
