"""One engine in a process of its own: ``worker.py ENGINE MODULE THREADS``, asked and answering in lines of JSON.

``prepare`` builds a convolution, computes it once and compares all of the result; ``time`` calls it for a while. Runs in
any Python that has NumPy and the engine; MODULE, in this folder, has a function ``prepare(engine, threads, problem)`` that
returns (call, to_numpy, facts): call() computes, to_numpy(result of a call) is the result as N x OH x OW x K.
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Where the folder is not the package that the parent knows, modules are neighbours of this script.
sys.path.insert(0, str(Path(__file__).parent))

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
            if question["ask"] == "prepare":
                return self.prepare(**question["arguments"])
            return self.time(**question["arguments"])
        except NotServedError as error:
            return {"not_served": str(error)}
        except Exception as error:  # whatever an engine throws is an answer about that engine
            return {"failed": f"{type(error).__name__}: {error}"[:300]}

    def prepare(self, folder: str, write: bool, **problem: Any) -> dict[str, Any]:
        """Build, compute once, and compare with the expected result in the folder, or `write` it."""
        self.call = None
        at = Path(folder)
        x, w = np.load(at / "x.npy"), np.load(at / "w.npy")
        asked = Problem(x, w, **_as_tuples(problem))
        call, to_numpy, facts = self.module.prepare(self.engine, self.threads, asked)
        self.alive = (asked, call, to_numpy)  # some engines do not keep what they read
        y = np.asarray(to_numpy(call()))
        if write:
            np.save(at / "y.npy", y)
        expected = np.load(at / "y.npy", mmap_mode="r")
        if y.shape != expected.shape:
            return {"failed": f"result has shape {y.shape}; expected {expected.shape}"}
        difference = float(np.abs(y - expected).max() / max(float(np.abs(expected).max()), 1e-30))
        self.call = call
        return {"difference": difference, "facts": facts, "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}

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
    print(json.dumps({"ready": engine}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(worker.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
