"""The process of one engine: started, asked, stopped while others have their turn, and taken down."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from convopt.bench.engines import Engine

WORKER = Path(__file__).with_name("engines") / "worker.py"
#: Seconds an engine may take to start, or to answer; JAX compiles some layers for long.
PATIENCE = 120.0


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
        self.rss: int | None = answer.get("rss")
        if self.missing:
            self.end()
        else:
            self._signal(signal.SIGSTOP)

    def ask(self, question: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a question; {"failed": why} where the engine ended or took too long."""
        self.tell(question, **arguments)
        return self.hear()

    def tell(self, question: str, **arguments: Any) -> None:
        """Let the process go and ask it something; ``hear`` gives the answer."""
        assert self.process.stdin is not None
        try:
            self._signal(signal.SIGCONT)
            self.process.stdin.write(json.dumps({"ask": question, "arguments": arguments}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, as ``hear`` will find

    def hear(self) -> dict[str, Any]:
        """The answer to what was asked last; the process is stopped then."""
        answer = self._read()
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
