"""A whole run of ``convopt bench``: the list of layers, and the studies, with one number of threads after another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from convopt.bench import compare, limits, studies, sweep
from convopt.bench.networks import NETWORKS
from convopt.bench.race import Effort, Outcome, Progress, Session
from convopt.bench.results import Results
from convopt.errors import ShapeError
from convopt.tuning.networks import Layer

#: Steps of progress that measuring the machine, and one cell of the map, count as.
LIMITS_STEP, CELL_STEP = 15.0, 1.5


@dataclass(frozen=True)
class Plan:
    """What to measure. networks: those run as a whole; sums: whether their layers are raced one by one as well.

    against: an earlier run; what looks slower than then is raced once more before it counts.
    """

    layers: Sequence[Layer]
    engines: Sequence[str]
    threads: Sequence[int]
    effort: Effort
    python: str
    networks: Sequence[str] = ()
    sums: bool = False
    growth: bool = False
    map: bool = False
    against: Results | None = None

    def steps(self) -> float:
        """How much progress there will be."""
        engines = len(self.engines)
        each = LIMITS_STEP + engines * (1 + len(self.layers))
        each += len(self.networks) * len(studies.chaining(self.engines)) * studies.FORWARD_STEP
        if self.sums:
            each += len(studies.network_layers(self.layers)) * len(studies.summing(self.engines)) * studies.LAYER_STEP
        grown = 0.0
        if self.growth:
            grown = sum(map(len, studies.growth_layers().values())) * len(studies.growing(self.engines)) * studies.GROWTH_STEP
            each += studies.GROWTH_STEP * sum(name not in ("scipy", "opencv") for name in self.engines)
        return len(self.threads) * each + grown + self.map * CELL_STEP * len(sweep.cells())


def wanted_studies(text: str | None, default: Sequence[str]) -> list[str]:
    """'networks,map' as names. Raises ShapeError for one that is none."""
    if text is None:
        return list(default)
    names = [name for name in text.split(",") if name and name != "none"]
    for name in names:
        if name not in studies.STUDIES:
            raise ShapeError(f"study is {name!r}; known are {', '.join(studies.STUDIES)}, none")
    return names


def measure(plan: Plan, progress: Progress) -> tuple[Outcome, dict[str, Any]]:
    """(everything timed on the list, further members of the results' object ``convopt``)."""
    started = time.monotonic()
    outcome = Outcome()
    extra: dict[str, Any] = {"limits": limits.measure(plan.threads, lambda doing: progress(LIMITS_STEP, doing))}
    for count in plan.threads:
        with Session(plan.engines, count, plan.python, progress) as session:
            raced = session.race(plan.layers, plan.effort)
            if plan.against is not None:
                _repeat(session, plan, raced)
            outcome.add(raced)
            _study(session, plan, raced, extra)
            outcome.add(session.outcome)
        limits.measure_again(extra["limits"])
    if plan.map:
        extra["sweep"] = sweep.measure(min(plan.threads), lambda doing: progress(CELL_STEP, doing))
    if outcome.footprints:
        extra["footprints"] = outcome.footprints
    extra["took"] = round(time.monotonic() - started, 1)
    return outcome, extra


def _study(session: Session, plan: Plan, raced: Outcome, extra: dict[str, Any]) -> None:
    threads = str(session.threads)
    if plan.networks:
        found = extra.setdefault("networks", {})
        flops = {name: NETWORKS[name]().flops for name in plan.networks}
        sums = studies.sums(session, plan.engines, plan.layers, raced.timings) if plan.sums else {}
        forward = studies.forwards(session, plan.engines, plan.networks)
        for name in plan.networks:
            entry = found.setdefault(name, {"title": studies.titles()[name], "flops": flops[name], "sums": {}, "forward": {}})
            entry["forward"][threads] = forward[name]
            if name in sums:
                entry["sums"][threads] = sums[name]
    if plan.growth:
        extra.setdefault("calls", {})[threads] = studies.calls(session, plan.engines)
        if "growth" not in extra:
            extra["growth"] = {"threads": session.threads, "curves": studies.growth(session, plan.engines)}


def _repeat(session: Session, plan: Plan, raced: Outcome) -> None:
    """Race once more what looks slower than in the earlier run: most of it is chance."""
    assert plan.against is not None
    times = {layer.name: {} for layer in plan.layers}  # type: dict[str, dict[str, float]]
    for each in raced.timings:
        times[each.layer][each.engine] = each.fastest
    suspects = compare.suspects(plan.against, times, session.threads)
    layers = [layer for layer in plan.layers if layer.name in suspects]
    if layers:
        effort = replace(plan.effort, rounds=2 * plan.effort.rounds)
        studies.merge(raced, session.race(layers, effort, step=0))
