"""Two results files: what became slower, taking into account how noisy either run was."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from convopt.bench.engines import ENGINES
from convopt.bench.results import Results, ResultsError, Row, geomean

#: A layer is slower when its time grew by more than this, and by more than so many times the noise of either run.
THRESHOLD = 0.05
NOISES = 2.0
#: Of the drift of the machine, taken from the peers, which have not changed: so many timings of them at least.
ENOUGH_PEERS = 5


@dataclass(frozen=True)
class Change:
    """One layer of convopt in both runs. ratio: new time over old, the machine's drift taken out; limit: what is too much."""

    layer: str
    threads: int
    old: Row
    new: Row
    ratio: float
    limit: float

    @property
    def verdict(self) -> str:
        """ "slower", "faster", or "" within the noise."""
        if self.ratio > self.limit:
            return "slower"
        return "faster" if self.ratio < 1 / self.limit else ""


@dataclass(frozen=True)
class Comparison:
    """All changes, and by number of threads: the geometric mean of new over old, and the drift that was taken out."""

    changes: list[Change]
    geomeans: dict[int, float]
    drifts: dict[int, float]

    @property
    def slower(self) -> list[Change]:
        """The regressions, worst first."""
        return sorted((each for each in self.changes if each.verdict == "slower"), key=lambda each: -each.ratio)


def compare(old: Results, new: Results) -> Comparison:
    """convopt's times in two runs. Raises ResultsError where they have no layer in common, or other versions of a machine."""
    for what, one, other in (("CPU", _cpu(old), _cpu(new)), ("instruction set", old.about["isa"], new.about["isa"])):
        if one != other:
            raise ResultsError(f"{new.path}: {what} is {other}; in {old.path} it is {one}: times do not compare")
    changes, drifts = [], {}
    # The noise of one layer comes from few rounds: a small one may be chance where the run's is large.
    typical = max(run.about["noise"]["median"] for run in (old, new))
    for threads in sorted(set(old.threads) & set(new.threads)):
        drifts[threads] = _drift(old, new, threads)
        before, after = old.of("convopt", threads), new.of("convopt", threads)
        for layer in before.keys() & after.keys():
            one, other = before[layer], after[layer]
            if one.shape == other.shape:
                ratio = other.seconds / one.seconds / drifts[threads]
                limit = 1 + max(THRESHOLD, NOISES * max(one.noise, other.noise, typical))
                changes.append(Change(layer, threads, one, other, ratio, limit))
    if not changes:
        raise ResultsError(f"{new.path}: has no layer in common with {old.path}")
    changes.sort(key=lambda each: (each.threads, each.layer))
    geomeans = {threads: geomean([each.ratio for each in changes if each.threads == threads]) for threads in drifts}
    return Comparison(changes, geomeans, drifts)


def _drift(old: Results, new: Results, threads: int) -> float:
    """How much slower the machine was the second time, by what happened to engines of the same version; 1 if unknown."""
    ratios = []
    for name in set(old.engines) & set(new.engines):
        engine = ENGINES[name]
        versions = [{package: run.about["versions"].get(package) for package in engine.packages} for run in (old, new)]
        if not engine.is_own and versions[0] == versions[1]:
            before, after = old.of(name, threads), new.of(name, threads)
            ratios += [after[layer].seconds / before[layer].seconds for layer in before.keys() & after.keys()]
    return statistics.median(ratios) if len(ratios) >= ENOUGH_PEERS else 1.0


def _cpu(run: Results) -> str:
    return str(run.machine["cpu"]["brand_raw"])
