"""Running engines against each other: one process each, one layer at a time, in interleaved rounds.

While one engine is timed the others are stopped, so that no thread of theirs, spinning for work as thread pools do, takes
part. A slow moment of the machine meets all engines alike, because each has its turn in every round. Rounds go on, for the
engines in front, until two of each agree; a canary, the same multiply-adds each time, says whether the machine was slow.
"""

from __future__ import annotations

import math
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from convopt.bench.canary import Canary
from convopt.bench.engines import ENGINES
from convopt.bench.networks import Network
from convopt.bench.process import Process
from convopt.errors import ShapeError
from convopt.shape import ConvShape
from convopt.tuning.networks import Layer

#: Largest accepted max|y - convopt's| / max|convopt's|: what two float32 algorithms of different order may differ by.
AGREE = 1e-4
#: The same after some fifty layers.
AGREE_NETWORK = 1e-3
#: A peer so many times slower than the fastest engine is asked no more, once two rounds agree on it, or one of calls so many
#: seconds long: a shorter one may only have met the time slice of another process.
HOPELESS, LONG = 10.0, 0.05
#: Those behind this are asked in every other round, unless they are close to the fastest peer: nothing is compared with their time.
BEHIND = 1.5
#: Two rounds agree within this; until they do, engines up to CLOSE times slower than the fastest have more turns.
SETTLED, CLOSE = 0.01, 1.2
#: The machine is slow, and no clock of it that wavers, while the canary is so many times later than typically.
SLOW = 1.15


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds per layer, and seconds per engine and round.

    most: of rounds where they do not agree, so many times as many; 1: they are not asked to.
    thorough: convopt chooses as by `convopt tune --effort thorough`, for choices that do not depend on one noisy moment.
    """

    rounds: int = 5
    seconds: float = 0.03
    most: int = 2
    thorough: bool = False


@dataclass
class Timing:
    """What one engine did on one layer, or on a whole network: samples in seconds, round by round.

    canary: by round, how many times later than typically the canary was.
    """

    layer: str
    engine: str
    threads: int
    rounds: list[list[float]]
    difference: float
    facts: dict[str, Any] = field(default_factory=dict)
    peak_rss: int | None = None
    canary: list[float] = field(default_factory=list)

    @property
    def fastest(self) -> float:
        """The fastest sample so far; infinite before the first round."""
        return min((min(samples) for samples in self.rounds), default=math.inf)

    @property
    def settled(self) -> bool:
        """Whether two rounds agree, of those in which the machine was not slow."""
        good = sorted(min(samples) for samples, late in zip(self.rounds, self.canary, strict=True) if late <= SLOW)
        return len(good) > 1 and good[1] <= good[0] * (1 + SETTLED)


@dataclass
class Outcome:
    """All that racing left: timings, and why the others are missing, by (layer, engine, threads) or by engine.

    footprints: bytes each engine's process takes before it computes anything.
    """

    timings: list[Timing] = field(default_factory=list)
    not_timed: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    footprints: dict[str, int] = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        """Everything of another outcome as well."""
        self.timings += other.timings
        self.not_timed += other.not_timed
        self.missing |= other.missing
        self.footprints |= other.footprints


Progress = Callable[[float, str], None]
#: What workers are asked to prepare: the verb, its arguments, and how far results may differ.
Question = tuple[str, dict[str, Any], float]


class Session:
    """The processes of engines with one number of threads, for as many races as one likes; a context manager.

    python: the interpreter that has the peers installed. progress: called with (steps done now, what is being done).
    """

    def __init__(self, engines: Sequence[str], threads: int, python: str, progress: Progress) -> None:
        check(engines)
        self.threads, self.progress = threads, progress
        self.canary = Canary(threads)
        self.outcome = Outcome()
        self.running: list[Process] = []
        self.folder = Path(tempfile.mkdtemp(prefix="convopt-bench-"))
        try:
            # convopt comes first: its result is what the others are compared with.
            for name in sorted(dict.fromkeys(("convopt", *engines)), key=lambda name: not ENGINES[name].is_own):
                progress(1, f"starting {ENGINES[name].title}")
                process = Process(ENGINES[name], threads, python, self.folder)
                self.running.append(process)
                if process.missing:
                    self.outcome.missing[name] = process.missing
                elif process.rss:
                    self.outcome.footprints[name] = process.rss
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take all processes down."""
        for process in self.running:
            process.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def race(self, layers: Sequence[Layer], effort: Effort, engines: Iterable[str] | None = None, step: float = 1) -> Outcome:
        """Race engines, all unless some are named, on layers. step: of progress, per engine and layer."""
        outcome = Outcome()
        for layer in layers:
            write_arguments(layer.shape, self.folder)
            question = ("prepare", {"folder": str(self.folder), "thorough": effort.thorough, **problem(layer.shape)}, AGREE)
            self._race(layer.name, question, effort, engines, outcome, step)
        return outcome

    def forward(self, network: Network, effort: Effort, engines: Iterable[str] | None = None, step: float = 1) -> Outcome:
        """Race engines on all convolutions of a network in a row, and what lies between them."""
        outcome = Outcome()
        network.write(self.folder)
        question = ("forward", {"folder": str(self.folder), "steps": network.describe()}, AGREE_NETWORK)
        self._race(network.name, question, effort, engines, outcome, step)
        (self.folder / "network.npz").unlink()
        return outcome

    def _race(self, name: str, question: Question, effort: Effort, engines: Iterable[str] | None, outcome: Outcome, step: float) -> None:
        wanted = None if engines is None else {"convopt", *engines}
        asked = [process for process in self.running if wanted is None or process.engine.name in wanted]
        (self.folder / "y.npy").unlink(missing_ok=True)
        ready = []
        # convopt alone: it tunes, and writes what the others compare with. Its peers together: nothing of theirs is timed yet.
        own = [[process] for process in asked if process.engine.is_own]
        for together in [*own, [process for process in asked if not process.engine.is_own]]:
            for process in together:
                self._tell(process, question)
            for process in together:
                missing = process.engine.name in self.outcome.missing
                self.progress(step, name if missing else f"{name} {process.engine.title}")
                timing = None if missing else self._hear(process, name, question, outcome)
                if timing is not None:
                    ready.append((process, timing))
        failures = self._rounds(ready, effort, name, question)
        outcome.timings += [timing for _, timing in ready if timing.engine not in failures]
        outcome.not_timed += [{"layer": name, "engine": engine, "threads": self.threads, "failed": why} for engine, why in failures.items()]

    def _tell(self, process: Process, question: Question) -> None:
        """Ask a process to prepare, unless its engine is not installed."""
        if process.engine.name in self.outcome.missing:
            return
        if not process.alive:  # the layer before was too much for it
            process.start()
        if not process.missing:
            process.tell(question[0], write=process.engine.name == "convopt", **question[1])

    def _hear(self, process: Process, name: str, question: Question, outcome: Outcome) -> Timing | None:
        """What came of it."""
        engine, agree = process.engine.name, question[2]
        answer: dict[str, Any] = {"failed": process.missing} if process.missing else process.hear()
        if "difference" in answer and not answer["difference"] <= agree:
            answer = {"failed": f"its result differs from convopt's by {answer['difference']:.1e} of the largest value"}
        if "difference" not in answer:
            outcome.not_timed.append({"layer": name, "engine": engine, "threads": self.threads, **answer})
            return None
        return Timing(name, engine, self.threads, [], answer["difference"], answer["facts"], answer["peak_rss"])

    def _rounds(self, ready: list[tuple[Process, Timing]], effort: Effort, name: str, question: Question) -> dict[str, str]:
        """Time all in turns; {engine: why} of those that failed."""
        failures: dict[str, str] = {}
        order = random.Random(name)
        for number in range(effort.rounds * effort.most):
            turns = [(process, timing) for process, timing in ready if timing.engine not in failures]
            if number >= effort.rounds and all(timing.settled for _, timing in _front(turns)):
                break
            if number >= effort.rounds:
                turns = _front(turns)
            if number == effort.rounds // 2 > 0 and effort.most > 1:
                # Where in memory arrays happen to lie makes a difference: those in front have another throw.
                for process, _ in _front(turns):
                    process.ask(question[0], write=process.engine.name == "convopt", **question[1])
            front = {timing.engine for _, timing in _front(turns)}
            order.shuffle(turns)
            for process, timing in turns:
                if timing.rounds and timing.engine not in front and _is_left_out(timing, min(each.fastest for _, each in ready), number):
                    continue
                before = self.canary.lateness()
                answer = process.ask("time", seconds=effort.seconds)
                if "times" in answer:
                    timing.rounds.append(answer["times"])
                    timing.canary.append(max(before, self.canary.lateness()))
                else:
                    failures[timing.engine] = answer["failed"]
        return failures


def _is_left_out(timing: Timing, fastest: float, number: int) -> bool:
    """Whether an engine that is not in front has no turn in this round, for the sake of those whose times are compared."""
    behind = timing.fastest / fastest
    surely = len(timing.rounds) > 1 or timing.fastest > LONG
    return (behind > HOPELESS and surely) or (behind > BEHIND and number % 2 == 1)


def _front(turns: list[tuple[Process, Timing]]) -> list[tuple[Process, Timing]]:
    """convopt and the fastest peers."""
    peers = [timing.fastest for process, timing in turns if not process.engine.is_own]
    return [
        (process, timing)
        for process, timing in turns
        if process.engine.name == "convopt" or (not process.engine.is_own and timing.fastest <= CLOSE * min(peers))
    ]


def race(
    layers: Sequence[Layer], engines: Sequence[str], threads: Sequence[int], effort: Effort, python: str, progress: Progress
) -> Outcome:
    """Race engines (names, convopt's own among them) on layers, for each number of threads; ``steps(...)`` of progress."""
    outcome = Outcome()
    for count in threads:
        with Session(engines, count, python, progress) as session:
            outcome.add(session.race(layers, effort))
            outcome.add(session.outcome)
    return outcome


def steps(layers: Sequence[Layer], engines: Sequence[str], threads: Sequence[int]) -> int:
    """How many steps ``race`` reports: one per engine start, and one per engine, layer and number of threads."""
    return len(threads) * len(engines) * (1 + len(layers))


def check(engines: Iterable[str]) -> None:
    """Raises ShapeError where a name is no engine's."""
    for name in engines:
        if name not in ENGINES:
            raise ShapeError(f"engine is {name!r}; known are {', '.join(ENGINES)}")


def problem(shape: ConvShape) -> dict[str, Any]:
    """A shape as the workers take it."""
    return {
        "strides": shape.strides,
        "dilations": shape.dilations,
        "pads": shape.pads,
        "padding": padding_rule(shape),
        "groups": shape.groups,
    }


def padding_rule(shape: ConvShape) -> str | None:
    """ "SAME" or "VALID" where the pads follow one of the two rules."""
    sizes = (shape.n, shape.h, shape.w, shape.c)
    for rule in ("VALID", "SAME"):
        if ConvShape.from_arguments(sizes, shape.filters_shape, shape.strides, rule, "NHWC", shape.dilations).pads == shape.pads:
            return rule
    return None


def write_arguments(shape: ConvShape, folder: Path) -> None:
    """Zero-mean input and filters, the same in every run, where the workers look for them."""
    draw = np.random.default_rng(1)
    x = draw.standard_normal((shape.n, shape.h, shape.w, shape.c), dtype=np.float32)
    w = draw.standard_normal(shape.filters_shape, dtype=np.float32) * np.float32(shape.depth**-0.5)
    np.save(folder / "x.npy", x)
    np.save(folder / "w.npy", w)
