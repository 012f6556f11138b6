"""Whole networks in a results file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from convopt.bench.engines import ENGINES
from convopt.bench.results import Results


@dataclass(frozen=True)
class Whole:
    """A whole network with one number of threads: seconds of convopt and of the best peer, None without peers."""

    name: str
    title: str
    threads: int
    seconds: float
    peer: str | None
    peer_seconds: float
    of_engines: dict[str, float]
    facts: dict[str, dict[str, Any]]

    @property
    def ratio(self) -> float:
        """The best peer's time over convopt's."""
        return self.peer_seconds / self.seconds


def networks_of(results: Results, what: str = "forward") -> list[Whole]:
    """Whole networks, by threads; what: "forward", all convolutions in a row, or "sums" of them one by one."""
    found = []
    for threads in results.threads:
        for name, entry in results.about.get("networks", {}).items():
            facts = entry[what].get(str(threads), {})
            if what == "sums":
                facts = {engine: {"seconds": seconds} for engine, seconds in facts.items()}
            seconds = {engine: each["seconds"] for engine, each in facts.items()}
            if "convopt" in seconds:
                peer = min((engine for engine in seconds if not ENGINES[engine].is_own), key=seconds.__getitem__, default=None)
                best = math.nan if peer is None else seconds[peer]
                found.append(Whole(name, entry["title"], threads, seconds["convopt"], peer, best, seconds, facts))
    return found
