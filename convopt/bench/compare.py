"""Two results files: what became slower, taking into account how noisy either run was."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from convopt.bench.engines import ENGINES
from convopt.bench.results import Results, ResultsError, Row, geomean

#: A layer is slower when its time grew by more than this, and by more than so many times the doubt of both runs together,
#: and by more than so many times what the peers, which have not changed, vary by on this very layer: three times, because of
#: the 76 layers of a full run two or three are beyond twice by chance.
THRESHOLD = 0.07
DOUBTS, VARIATIONS = 3.0, 3.0
#: An algorithm is slower when the geometric mean over its layers grew by more than this, and by more than so many times its own
#: standard error: noise that hides a tenth of one layer's time does not hide it in ten; so many layers at least.
THRESHOLD_OF_ALL, STANDARD_ERRORS, ENOUGH_LAYERS = 0.04, 3.0, 4
#: Of the drift of the machine, taken from the peers, which have not changed: so many timings of them at least, and so many timings
#: of an engine, and engines, to tell how far it is the same for all.
ENOUGH_PEERS, ENOUGH_TIMINGS, ENOUGH_ENGINES = 5, 4, 3
#: What is slower is so by more than so many times what the drift differs by between engines: convopt is one more of them.
SPREADS = 2.0

#: One engine on one layer, in the old run and in the new one.
Pair = tuple[Row, Row]


class Judged:
    """What has a ratio, new time over old, and a limit: what is too much."""

    ratio: float
    limit: float

    @property
    def verdict(self) -> str:
        """ "slower", "faster", or "" within the noise."""
        if self.ratio > self.limit:
            return "slower"
        return "faster" if self.ratio < 1 / self.limit else ""


@dataclass(frozen=True)
class Change(Judged):
    """One layer of convopt in both runs. ratio: new time over old, the machine's drift taken out; limit: what is too much."""

    layer: str
    threads: int
    old: Row
    new: Row
    ratio: float
    limit: float


@dataclass(frozen=True)
class Trend(Judged):
    """All layers that one algorithm serves in both runs. ratio: geometric mean of theirs; limit: what is too much."""

    algorithm: str
    threads: int
    layers: int
    ratio: float
    limit: float


@dataclass(frozen=True)
class Drift:
    """What the machine did to programs that have not changed: ratio, new time over old, and how far that is another for each of them."""

    ratio: float = 1.0
    spread: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """All changes and trends, and by number of threads: the geometric mean of new over old, and the drift that was taken out."""

    changes: list[Change]
    trends: list[Trend]
    geomeans: dict[int, float]
    drifts: dict[int, float]

    @property
    def slower(self) -> list[Change]:
        """The layers that became slower, worst first."""
        return sorted((each for each in self.changes if each.verdict == "slower"), key=lambda each: -each.ratio)

    @property
    def regressions(self) -> int:
        """How many layers and algorithms became slower."""
        judged: list[Judged] = [*self.changes, *self.trends]
        return sum(each.verdict == "slower" for each in judged)


def compare(old: Results, new: Results) -> Comparison:
    """convopt's times in two runs. Raises ResultsError where they have no layer in common, or other versions of a machine."""
    for what, one, other in (("CPU", _cpu(old), _cpu(new)), ("instruction set", old.about["isa"], new.about["isa"])):
        if one != other:
            raise ResultsError(f"{new.path}: {what} is {other}; in {old.path} it is {one}: times do not compare")
    changes, drifts = [], {}
    for threads in sorted(set(old.threads) & set(new.threads)):
        peers = _peers(old, new, threads)
        before, after = old.of("convopt", threads), new.of("convopt", threads)
        drift = drifts[threads] = _drift(peers, before, after)
        # The doubt of one layer comes from few rounds: a small one may be chance where the run's is large.
        typical = max(statistics.median(row.doubt for row in rows.values()) for rows in (before, after))
        for layer in before.keys() & after.keys():
            one, other = before[layer], after[layer]
            if one.shape == other.shape:
                ratio = other.seconds / one.seconds / drift.ratio
                doubt = max(one.doubt, typical) + max(other.doubt, typical)
                variation = _variation([rows[layer] for rows in peers.values() if layer in rows], drift.ratio)
                limit = 1 + max(THRESHOLD, DOUBTS * doubt, VARIATIONS * variation) + SPREADS * drift.spread
                changes.append(Change(layer, threads, one, other, ratio, limit))
    if not changes:
        raise ResultsError(f"{new.path}: has no layer in common with {old.path}")
    changes.sort(key=lambda each: (each.threads, each.layer))
    geomeans = {threads: geomean([each.ratio for each in changes if each.threads == threads]) for threads in drifts}
    return Comparison(changes, _trends(changes, drifts), geomeans, {threads: drift.ratio for threads, drift in drifts.items()})


def suspects(old: Results, times: Mapping[str, Mapping[str, float]], threads: int) -> set[str]:
    """Layers on which convopt looks slower than in an earlier run, by {layer: {engine: seconds}}: worth another look."""
    before = {name: old.of(name, threads) for name in old.engines}
    drift = _median(
        [
            seconds / before[name][layer].seconds
            for layer, engines in times.items()
            for name, seconds in engines.items()
            if name in before and layer in before[name] and not ENGINES[name].is_own
        ]
    )
    return {
        layer
        for layer, engines in times.items()
        if "convopt" in engines
        and layer in before.get("convopt", {})
        and engines["convopt"] > before["convopt"][layer].seconds * drift * (1 + THRESHOLD / 2)
    }


def _trends(changes: list[Change], drifts: Mapping[int, Drift]) -> list[Trend]:
    """Of each algorithm that serves enough layers as before."""
    found: dict[tuple[int, str], list[float]] = {}
    for each in changes:
        algorithm = each.new.facts.get("algorithm")
        if algorithm is not None and algorithm == each.old.facts.get("algorithm"):
            found.setdefault((each.threads, algorithm), []).append(each.ratio)
    trends = []
    for (threads, algorithm), ratios in sorted(found.items()):
        if len(ratios) >= ENOUGH_LAYERS:
            error = statistics.stdev(map(math.log, ratios)) / math.sqrt(len(ratios))
            limit = 1 + max(THRESHOLD_OF_ALL, STANDARD_ERRORS * error) + SPREADS * drifts[threads].spread
            trends.append(Trend(algorithm, threads, len(ratios), geomean(ratios), limit))
    return trends


def _peers(old: Results, new: Results, threads: int) -> dict[str, dict[str, Pair]]:
    """By engine of the same version, and layer: its rows of both runs."""
    found: dict[str, dict[str, Pair]] = {}
    for name in set(old.engines) & set(new.engines):
        engine = ENGINES[name]
        versions = [{package: run.about["versions"].get(package) for package in engine.packages} for run in (old, new)]
        if not engine.is_own and versions[0] == versions[1]:
            before, after = old.of(name, threads), new.of(name, threads)
            found[name] = {layer: (before[layer], after[layer]) for layer in before.keys() & after.keys()}
    return found


def _drift(peers: Mapping[str, Mapping[str, Pair]], before: Mapping[str, Row], after: Mapping[str, Row]) -> Drift:
    """The machine's drift, from peers that were timed in as many rounds as convopt was; none if these are too few.

    Those far behind have fewer rounds: their fastest one says less about their best, and about the machine.
    """
    logs = []
    for rows in peers.values():
        often = [
            _log(pair)
            for layer, pair in rows.items()
            if all(layer in own and _rounds(row) >= _rounds(own[layer]) for row, own in zip(pair, (before, after), strict=True))
        ]
        logs.append(often)
    together = [each for often in logs for each in often]
    if len(together) < ENOUGH_PEERS:
        return Drift()
    spread = statistics.stdev(together) / math.sqrt(len(together))
    engines = [statistics.fmean(often) for often in logs if len(often) >= ENOUGH_TIMINGS]
    if len(engines) >= ENOUGH_ENGINES:
        spread = max(spread, statistics.stdev(engines))
    return Drift(math.exp(statistics.median(together)), spread)


def _rounds(row: Row) -> int:
    return len(row.facts.get("rounds", []))


def _log(pair: Pair) -> float:
    """Of new time over old."""
    return math.log(pair[1].seconds / pair[0].seconds)


def _median(ratios: list[float]) -> float:
    """The machine's drift; 1 if unknown."""
    return statistics.median(ratios) if len(ratios) >= ENOUGH_PEERS else 1.0


def _variation(pairs: list[Pair], drift: float) -> float:
    """The typical departure from the drift, as a fraction; 0 if unknown."""
    return math.sqrt(statistics.fmean((_log(pair) - math.log(drift)) ** 2 for pair in pairs)) if pairs else 0.0


def _cpu(run: Results) -> str:
    return str(run.machine["cpu"]["brand_raw"])
