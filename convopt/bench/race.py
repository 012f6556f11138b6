"""Running engines against each other: one process each, one layer at a time, in interleaved rounds.

While one engine is timed the others are stopped, so that no thread of theirs, spinning for work as thread pools do, takes
part. A slow moment of the machine meets all engines alike, because each has its turn in every round.
"""

from __future__ import annotations

import json
import math
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convopt.bench.engines import ENGINES, Engine
from convopt.errors import ShapeError
from convopt.shape import ConvShape
from convopt.tuning.networks import Layer

WORKER = Path(__file__).with_name("engines") / "worker.py"
#: Largest accepted max|y - convopt's| / max|convopt's|: what two float32 algorithms of different order may differ by.
AGREE = 1e-4
#: An engine so many times slower than the fastest one is not asked a second time.
HOPELESS = 10.0
#: Seconds an engine may take to start, or to answer; JAX compiles some layers for long.
PATIENCE = 120.0


@dataclass
class Effort:
    """How long to measure: rounds per layer, and seconds per engine and round."""

    rounds: int = 5
    seconds: float = 0.04


@dataclass
class Timing:
    """What one engine did on one layer: samples in seconds, round by round."""

    layer: str
    engine: str
    threads: int
    rounds: list[list[float]]
    difference: float
    facts: dict[str, Any] = field(default_factory=dict)
    peak_rss: int | None = None


@dataclass
class Outcome:
    """All that racing left: timings, and why the others are missing, by (layer, engine, threads) or (engine, threads)."""

    timings: list[Timing] = field(default_factory=list)
    not_timed: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


class Process:
    """The worker process of one engine; stopped whenever nothing is asked of it."""

    def __init__(self, engine: Engine, threads: int, python: str, folder: Path) -> None:
        self.engine, self.threads, self.python, self.folder = engine, threads, python, folder
        self.start()

    def start(self) -> None:
        """Start (again); ``missing`` says why that failed."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
        interpreter = sys.executable if self.engine.is_own else self.python
        command = [interpreter, str(WORKER), self.engine.name, self.engine.module, str(self.threads)]
        self.log = (self.folder / f"{self.engine.name}.log").open("wb")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self.log, env=environment, cwd=self.folder, start_new_session=True
        )
        self.unread = b""
        self.alive = True
        answer = self._read()
        self.missing: str | None = answer.get("missing") or answer.get("failed")
        if self.missing:
            self.end()
        else:
            self._signal(signal.SIGSTOP)

    def ask(self, question: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a question; {"failed": why} where the engine ended or took too long."""
        assert self.process.stdin is not None
        try:
            self._signal(signal.SIGCONT)
            self.process.stdin.write(json.dumps({"ask": question, "arguments": arguments}).encode() + b"\n")
            self.process.stdin.flush()
            answer = self._read()
        except OSError:
            answer = self._lost()
        if self.alive:
            self._signal(signal.SIGSTOP)
        return answer

    def end(self) -> None:
        """Take the process down, whatever it is doing."""
        self.alive = False
        if self.process.poll() is None:
            self._signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream is not None:
                stream.close()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self.unread:
            if not select.select([descriptor], [], [], PATIENCE)[0]:
                self.end()
                return {"failed": f"no answer within {PATIENCE:g} s"}
            piece = os.read(descriptor, 1 << 16)
            if not piece:
                return self._lost()
            self.unread += piece
        line, _, self.unread = self.unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _lost(self) -> dict[str, Any]:
        self.end()
        status = self.process.returncode
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return {"failed": f"the engine's process ended: {how}"}

    def _signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)


Progress = Callable[[int, str], None]


def race(
    layers: Sequence[Layer], engines: Sequence[str], threads: Sequence[int], effort: Effort, python: str, progress: Progress
) -> Outcome:
    """Race engines (names, convopt's own among them) on layers, for each number of threads.

    python: the interpreter that has the peers installed. progress: called with (steps done now, what is being done); there
    are ``steps(...)`` of them.
    """
    check(engines)
    outcome = Outcome()
    folder = Path(tempfile.mkdtemp(prefix="convopt-bench-"))
    try:
        for count in threads:
            _race(layers, engines, count, effort, python, progress, outcome, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def steps(layers: Sequence[Layer], engines: Sequence[str], threads: Sequence[int]) -> int:
    """How many steps ``race`` reports: one per engine start, and one per engine, layer and number of threads."""
    return len(threads) * len(engines) * (1 + len(layers))


def check(engines: Iterable[str]) -> None:
    """Raises ShapeError where a name is no engine's."""
    for name in engines:
        if name not in ENGINES:
            raise ShapeError(f"engine is {name!r}; known are {', '.join(ENGINES)}")


def _race(
    layers: Sequence[Layer],
    engines: Sequence[str],
    threads: int,
    effort: Effort,
    python: str,
    progress: Progress,
    outcome: Outcome,
    folder: Path,
) -> None:
    # convopt comes first: its result is what the others are compared with.
    ordered = sorted(dict.fromkeys(("convopt", *engines)), key=lambda name: not ENGINES[name].is_own)
    running: list[Process] = []
    try:
        for name in ordered:
            progress(1, f"starting {ENGINES[name].title}")
            process = Process(ENGINES[name], threads, python, folder)
            running.append(process)
            if process.missing:
                outcome.missing[name] = process.missing
        present = [process for process in running if process.missing is None]
        for layer in layers:
            progress(len(running) - len(present), layer.name)
            _race_layer(layer, present, effort, outcome, folder, progress)
    finally:
        for process in running:
            process.end()


def _race_layer(layer: Layer, present: Sequence[Process], effort: Effort, outcome: Outcome, folder: Path, progress: Progress) -> None:
    shape = layer.shape
    write_arguments(shape, folder)
    (folder / "y.npy").unlink(missing_ok=True)
    ready: list[tuple[Process, Timing]] = []
    for process in present:
        name = process.engine.name
        progress(1, f"{layer.name} {process.engine.title}")
        if not process.alive:  # the layer before was too much for it
            process.start()
        if process.missing:
            answer: dict[str, Any] = {"failed": process.missing}
        else:
            answer = process.ask("prepare", folder=str(folder), write=name == "convopt", **problem(shape))
        if "difference" in answer and not answer["difference"] <= AGREE:
            answer = {"failed": f"its result differs from convopt's by {answer['difference']:.1e} of the largest value"}
        if "difference" not in answer:
            outcome.not_timed.append({"layer": layer.name, "engine": name, "threads": process.threads, **answer})
            continue
        timing = Timing(layer.name, name, process.threads, [], answer["difference"], answer["facts"], answer["peak_rss"])
        ready.append((process, timing))
    failures: dict[str, str] = {}
    order = random.Random(layer.name)
    for _ in range(effort.rounds):
        order.shuffle(ready)
        for process, timing in ready:
            if timing.engine in failures or (timing.rounds and _fastest(timing) > HOPELESS * min(_fastest(each) for _, each in ready)):
                continue
            answer = process.ask("time", seconds=effort.seconds)
            if "times" in answer:
                timing.rounds.append(answer["times"])
            else:
                failures[timing.engine] = answer["failed"]
    outcome.timings += [timing for _, timing in ready if timing.engine not in failures]
    for name, why in failures.items():
        outcome.not_timed.append({"layer": layer.name, "engine": name, "threads": ready[0][0].threads, "failed": why})


def _fastest(timing: Timing) -> float:
    """The fastest sample so far; infinite before the first round."""
    return min((min(samples) for samples in timing.rounds), default=math.inf)


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
