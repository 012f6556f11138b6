"""The file a benchmark leaves: JSON, a superset of pytest-benchmark's, so that its tools read it too.

Each element of ``benchmarks`` is one engine on one layer with one number of threads; what pytest-benchmark has no place for
is in its ``extra_info`` and in the object ``convopt`` beside the list.
"""

from __future__ import annotations

import json
import math
import platform
import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from convopt.bench.engines import ENGINES
from convopt.bench.race import SLOW, Outcome, Timing
from convopt.errors import ConvoptError, ShapeError
from convopt.shape import ConvShape
from convopt.tuning.networks import Layer

#: Of the object ``convopt``; a file of another format is not read.
FORMAT = 1
FOLDER = Path("results")
#: Members of that object which are absent where they were not asked for.
MAY_BE_ABSENT = ("limits", "networks", "calls", "growth", "sweep", "footprints")
#: What it holds, of which type.
ABOUT: dict[str, Any] = {
    "list": str,
    "isa": str,
    "versions": dict,
    "settings": dict,
    "noise": {"grade": str, "median": float},
    "traps": list,
    "caches": dict,
    "missing": dict,
    "not_timed": list,
    **dict.fromkeys(MAY_BE_ABSENT, dict),
}
#: Noise (see ``Row.noise``) up to which a run deserves a grade.
GRADES = (("A", 0.01), ("B", 0.03), ("C", 0.10))


class ResultsError(ConvoptError, ValueError):
    """A file that holds no results this version can read."""


@dataclass(frozen=True)
class Row:
    """One engine on one layer: seconds per call, and how far they can be trusted.

    seconds: the fastest sample. noise: how much the typical round's fastest sample is above that, as a fraction: 0 if the
    machine was quiet. choice, algorithm, error: convopt's own.
    """

    layer: str
    shape: ConvShape
    count: int
    engine: str
    threads: int
    seconds: float
    median: float
    spread: float
    noise: float
    facts: dict[str, Any]

    @property
    def gflops(self) -> float:
        """Operations of the direct algorithm per nanosecond."""
        return self.shape.flops / self.seconds / 1e9

    @property
    def doubt(self) -> float:
        """How much faster the machine may be at this than it was seen to be, as a fraction.

        The fastest round is believed as far as the second fastest agrees with it; not, where the machine was slow in each.
        """
        rounds = sorted(self.facts.get("rounds", []))
        agreement = rounds[1] / rounds[0] - 1 if len(rounds) > 1 else self.noise
        late = min(self.facts.get("canary") or [1.0])
        return float(max(agreement, late - 1 if late > SLOW else 0))


@dataclass(frozen=True)
class Results:
    """A results file: its rows, and everything else as it is in the file."""

    path: Path
    rows: list[Row]
    about: dict[str, Any]
    machine: dict[str, Any]
    commit: str
    taken: str

    def of(self, engine: str, threads: int) -> dict[str, Row]:
        """Rows of one engine by layer."""
        return {row.layer: row for row in self.rows if (row.engine, row.threads) == (engine, threads)}

    @property
    def threads(self) -> list[int]:
        """The numbers of threads that were measured."""
        return sorted({row.threads for row in self.rows})

    @property
    def engines(self) -> list[str]:
        """The engines that were measured, in the table's order."""
        seen = {row.engine for row in self.rows}
        return [name for name in ENGINES if name in seen]

    def best_peer(self, layer: str, threads: int) -> Row | None:
        """The fastest engine on a layer that is not convopt; None without peers."""
        rows = [row for row in self.rows if row.layer == layer and row.threads == threads and not ENGINES[row.engine].is_own]
        return min(rows, key=lambda row: row.seconds, default=None)

    def ratios(self, threads: int) -> dict[str, float]:
        """By layer, the best peer's time over convopt's: above 1, convopt is faster."""
        ratios = {}
        for layer, own in self.of("convopt", threads).items():
            peer = self.best_peer(layer, threads)
            if peer is not None:
                ratios[layer] = peer.seconds / own.seconds
        return ratios


def geomean(values: Sequence[float]) -> float:
    """Geometric mean; NaN of nothing."""
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def noise_grade(rows: Sequence[Row]) -> tuple[str, float]:
    """(A to D, the median noise) of convopt's own rows."""
    noise = statistics.median([row.noise for row in rows if row.engine == "convopt"] or [0.0])
    return next((grade for grade, limit in GRADES if noise <= limit), "D"), noise


def document(
    outcome: Outcome,
    layers: Sequence[Layer],
    title: str,
    facts: dict[str, Any],
    versions: dict[str, str],
    settings: dict[str, Any],
    **extra: Any,
) -> dict[str, Any]:
    """Everything measured as the JSON value of a results file.

    facts: what ``convopt info`` says of the machine; extra: further members of the object ``convopt``.
    """
    by_name = {layer.name: layer for layer in layers}
    benchmarks = [_benchmark(timing, by_name[timing.layer]) for timing in outcome.timings]
    grade, noise = noise_grade([_row(each) for each in benchmarks])
    about = {
        "format": FORMAT,
        "version": facts["version"],
        "list": title,
        "isa": facts["isa"]["in_use"],
        "threads": sorted({timing.threads for timing in outcome.timings}),
        "versions": versions,
        "settings": settings,
        "noise": {"grade": grade, "median": noise},
        "traps": facts["traps"],
        "caches": facts["caches"],
        "missing": outcome.missing,
        "not_timed": outcome.not_timed,
        **extra,
    }
    return {
        "machine_info": _machine_info(facts),
        "commit_info": commit_info(),
        "benchmarks": benchmarks,
        "datetime": datetime.now(UTC).isoformat(),
        "version": "5.0.0",  # of pytest-benchmark's format
        "convopt": about,
    }


def save(value: dict[str, Any], folder: Path = FOLDER, to: Path | None = None) -> Path:
    """Write a results file, under a name that says which CPU, when and what commit, unless `to` names it; returns its path."""
    if to is None:
        cpu = re.sub(r"[^a-z0-9]+", "-", value["machine_info"]["cpu"]["brand_raw"].lower()).strip("-") or "cpu"
        to = folder / cpu / f"{value['datetime'][:10]}-{value['commit_info']['id'][:9] or 'unknown'}.json"
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        # One line per benchmark: versions of a file can be told apart by diff.
        members = [f"{json.dumps(key)}: {_lines(each)}" for key, each in value.items()]
        to.write_text("{\n" + ",\n".join(members) + "\n}\n")
    except OSError as error:
        raise ShapeError(f"{str(to)!r} cannot be written: {error.strerror}") from None
    return to


def read(path: Path) -> Results:
    """The results in a file. Raises ResultsError, which names the file and what is wrong."""
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ResultsError(f"{path}: not JSON: {error}") from None
    try:
        about = value["convopt"]
        if about["format"] != FORMAT:
            raise ResultsError(f"{path}: written in format {about['format']!r}; this version reads {FORMAT}")
        _check(about, ABOUT, "convopt")
        _check(value["machine_info"]["cpu"], {"brand_raw": str}, "machine_info.cpu")
        rows = [_row(each) for each in value["benchmarks"]]
        if not any(row.engine == "convopt" for row in rows):
            raise ResultsError(f"{path}: convopt was not timed")
        unknown = {row.engine for row in rows} - set(ENGINES)
        if unknown:
            raise ResultsError(f"{path}: engines {', '.join(sorted(unknown))} are unknown to this version")
        return Results(path, rows, about, value["machine_info"], value["commit_info"]["id"], value["datetime"])
    except ResultsError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ResultsError(f"{path}: not results of convopt bench: {type(error).__name__}: {error}") from None


def _check(value: dict[str, Any], members: dict[str, Any], name: str) -> None:
    """Raise KeyError or TypeError where a member is absent, but for those that may be, or is not what it should be."""
    for key, kind in members.items():
        if isinstance(kind, dict):
            _check(value[key], kind, f"{name}.{key}")
        elif (key not in MAY_BE_ABSENT or key in value) and not isinstance(value[key], kind):
            raise TypeError(f"{name}.{key} is {repr(value[key])[:40]}")


def latest(folder: Path = FOLDER) -> tuple[Results | None, list[str]]:
    """(the newest readable results below a folder, why others were skipped)."""
    found, skipped = [], []
    for path in sorted(folder.glob("*/*.json")):
        if path.name.startswith("tuner"):  # figures of the tuner, no runs
            continue
        try:
            found.append(read(path))
        except ResultsError as error:
            skipped.append(str(error))
    return max(found, key=lambda each: each.taken, default=None), skipped


def _benchmark(timing: Timing, layer: Layer) -> dict[str, Any]:
    samples = sorted(seconds for each in timing.rounds for seconds in each)
    name = f"{layer.name}[{timing.engine}-{timing.threads}]"
    fastest_of_rounds = [min(each) for each in timing.rounds]
    return {
        "group": layer.name,
        "name": name,
        "fullname": f"convopt bench::{name}",
        "params": {"layer": layer.name, "engine": timing.engine, "threads": timing.threads},
        "param": f"{timing.engine}-{timing.threads}",
        "extra_info": {
            "shape": layer.shape.key(),
            "count": layer.count,
            "flops": layer.shape.flops,
            "difference": timing.difference,
            "noise": _round(statistics.median(fastest_of_rounds if len(timing.rounds) > 1 else samples) / samples[0] - 1),
            "rounds": [_round(seconds) for seconds in fastest_of_rounds],
            "canary": [round(late, 3) for late in timing.canary],
            "peak_rss": timing.peak_rss,
            **timing.facts,
        },
        "options": {"disable_gc": False, "timer": "perf_counter", "min_rounds": 1, "max_time": 0.0, "min_time": 0.0, "warmup": True},
        "stats": _statistics(samples),
    }


def _statistics(samples: list[float]) -> dict[str, Any]:
    """What pytest-benchmark says of sorted samples."""
    q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else samples * 3
    mean, deviation = statistics.fmean(samples), statistics.pstdev(samples)
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    inside = [value for value in samples if low <= value <= high]
    far = sum(abs(value - mean) > deviation for value in samples)
    values = {
        "min": samples[0],
        "max": samples[-1],
        "mean": mean,
        "stddev": deviation,
        "median": median,
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": 1 / mean,
        "total": sum(samples),
    }
    counts = {"iqr_outliers": len(samples) - len(inside), "stddev_outliers": far}
    counts |= {"rounds": len(samples), "iterations": 1}
    return {name: _round(value) for name, value in values.items()} | counts | {"outliers": f"{far};{len(samples) - len(inside)}"}


def _row(benchmark: dict[str, Any]) -> Row:
    params, stats, facts = benchmark["params"], benchmark["stats"], benchmark["extra_info"]
    seconds = float(stats["min"])
    if not seconds > 0:
        raise ValueError(f"{benchmark['name']} took {seconds} s")
    return Row(
        layer=str(params["layer"]),
        shape=ConvShape.parse(facts["shape"]),
        count=int(facts["count"]),
        engine=str(params["engine"]),
        threads=int(params["threads"]),
        seconds=seconds,
        median=float(stats["median"]),
        spread=float(stats["iqr"]) / float(stats["median"]),
        noise=float(facts["noise"]),
        facts=facts,
    )


def _lines(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(json.dumps(each) for each in value) + "\n]"
    return json.dumps(value)


def _round(value: float) -> float:
    """Six digits: no clock has more to say."""
    return float(f"{value:.6g}")


def _machine_info(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "node": "",  # pytest-benchmark has the host's name here, which is nobody's business
        "processor": platform.processor(),
        "machine": platform.machine(),
        "system": platform.system(),
        "release": platform.release(),
        "python_implementation": platform.python_implementation(),
        "python_version": facts["python"],
        "cpu": {
            "brand_raw": cpu_name(facts),
            "vendor": facts["cpu"]["vendor"],
            "microarchitecture": facts["cpu"]["microarchitecture"],
            "count": facts["threads"]["usable"],
        },
    }


def cpu_name(facts: dict[str, Any]) -> str:
    """The CPU's model; with its microarchitecture where a virtual machine hides which model it is."""
    model, kind = str(facts["cpu"]["model"]), str(facts["cpu"]["microarchitecture"])
    return model if re.search(r"\d", model) else f"{model} ({kind})"


def commit_info() -> dict[str, Any]:
    """The commit of the source tree that convopt runs from; empty texts where it is installed."""
    tree = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", "-C", str(tree), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return ""
        return done.stdout.strip()

    # A package installed below somebody else's repository is not of that repository's commit.
    if not (tree / "pyproject.toml").exists():
        return {"id": "", "time": None, "author_time": None, "dirty": False, "project": "convopt", "branch": ""}
    return {
        "id": git("rev-parse", "HEAD"),
        "time": git("show", "-s", "--format=%cI"),
        "author_time": git("show", "-s", "--format=%aI"),
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        "project": "convopt",
        "branch": git("rev-parse", "--abbrev-ref", "HEAD"),
    }


def versions_of(engines: Sequence[str], python: str) -> dict[str, str]:
    """Versions of the packages behind the engines, as their interpreter sees them."""
    wanted = sorted({package for name in engines if not ENGINES[name].is_own for package in ENGINES[name].packages})
    code = (
        "import importlib.metadata as m, json, sys\n"
        "known = {(d.metadata['Name'] or '').lower().replace('_', '-'): d.version for d in m.distributions()}\n"
        "print(json.dumps({n: known[n] for n in sys.argv[1:] if n in known}))"
    )
    versions: dict[str, str] = {}
    try:
        done = subprocess.run([python, "-c", code, *wanted], capture_output=True, text=True, check=True)
        versions |= json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        pass
    for package in ("numpy", "convopt"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
