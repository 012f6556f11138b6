"""One engine in a process of its own: ``worker.py ENGINE MODULE THREADS``, asked and answering in lines of JSON.

``prepare`` builds a convolution, computes it once and compares all of the result; ``forward`` does so with a whole network;
``time`` calls either for a while. Runs in any Python that has NumPy and the engine; MODULE, in this folder, has a function
``prepare(engine, threads, problem)`` that returns (call, to_numpy, facts): call() computes, to_numpy(result of a call) is
the result as N x OH x OW x K; it may have ``forward(engine, threads, network)`` that returns the same.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Where the folder is not the package that the parent knows, modules are neighbours of this script.
sys.path.insert(0, str(Path(__file__).parent))

from memory import memory, settle_memory  # type: ignore[import-not-found]
from network import Network  # type: ignore[import-not-found]
from problem import NotServedError, Problem  # type: ignore[import-not-found]

#: Samples of one `time` at most, and at least.
MOST, LEAST = 400, 2
#: Seconds of calls before those that count: the caches are others', and threads that were stopped must find a core each.
WARM = 0.015


class Worker:
    """Answers questions about one engine."""

    def __init__(self, engine: str, module: str, threads: int) -> None:
        self.engine = engine
        self.threads = threads
        self.module: Any = importlib.import_module(module)
        self.module.start(engine, threads)
        self.call: Callable[[], Any] | None = None
        self.alive: Any = None

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to one question; {"failed": why} where there is none."""
        try:
            verbs: dict[str, Callable[..., dict[str, Any]]] = {"prepare": self.prepare, "forward": self.forward, "time": self.time}
            return verbs[question["ask"]](**question["arguments"])
        except NotServedError as error:
            return {"not_served": str(error)}
        except Exception as error:  # whatever an engine throws is an answer about that engine
            return {"failed": f"{type(error).__name__}: {error}"[:300]}

    def prepare(self, folder: str, write: bool, **problem: Any) -> dict[str, Any]:
        """Build a layer, compute it once, and compare with the expected result in the folder, or `write` it."""
        at = Path(folder)
        asked = Problem(np.load(at / "x.npy"), np.load(at / "w.npy"), **_as_tuples(problem))
        return self._build(self.module.prepare, asked, at, write)

    def forward(self, folder: str, write: bool, steps: list[dict[str, Any]]) -> dict[str, Any]:
        """The same with a whole network."""
        if not hasattr(self.module, "forward"):
            raise NotServedError("no whole networks")
        at = Path(folder)
        return self._build(self.module.forward, Network.load(at, [_as_tuples(step) for step in steps]), at, write)

    def _build(self, build: Callable[..., Any], asked: Any, folder: Path, write: bool) -> dict[str, Any]:
        self.call = self.alive = None
        before = settle_memory()
        call, to_numpy, facts = build(self.engine, self.threads, asked)
        self.alive = (asked, call, to_numpy)  # some engines do not keep what they read
        y = np.asarray(to_numpy(call()))
        peak = memory("VmHWM")
        held = settle_memory() - before
        if write:
            np.save(folder / "y.npy", y)
        expected = np.load(folder / "y.npy", mmap_mode="r")
        if y.shape != expected.shape:
            return {"failed": f"result has shape {y.shape}; expected {expected.shape}"}
        difference = float(np.abs(y - expected).max() / max(float(np.abs(expected).max()), 1e-30))
        self.call = call
        return {"difference": difference, "facts": {**facts, "grown": max(0, peak - before), "held": max(0, held)}, "peak_rss": peak}

    def time(self, seconds: float) -> dict[str, Any]:
        """Times of single calls in the given time, each in seconds."""
        call = self.call
        if call is None:
            return {"failed": "nothing is prepared"}
        clock = time.perf_counter
        end = clock() + WARM
        call()
        while clock() < end:
            call()
        times: list[float] = []
        end = clock() + seconds
        while len(times) < LEAST or (clock() < end and len(times) < MOST):
            start = clock()
            call()
            times.append(clock() - start)
        return {"times": times}


def _as_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples they were."""

    def convert(value: Any) -> Any:
        return tuple(convert(each) for each in value) if isinstance(value, list) else value

    return {name: convert(value) for name, value in values.items()}


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever an engine prints is no answer
    engine, module, threads = sys.argv[1:]
    try:
        worker = Worker(engine, module, int(threads))
    except Exception as error:  # an engine may refuse to be imported in its own ways
        print(json.dumps({"missing": f"{type(error).__name__}: {error}"[:300]}), file=answers, flush=True)
        return
    print(json.dumps({"ready": engine, "rss": memory("VmRSS")}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(worker.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
