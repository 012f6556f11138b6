"""``convopt info``: what convopt sees of this machine, and what might be in its way."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import archspec.cpu
import numpy
from rich.markup import escape
from rich.table import Table

from convopt.algorithms import ALGORITHMS, parallel
from convopt.cli.terminal import JsonOption, byte_count, console, print_json
from convopt.kernels import registry
from convopt.tuning import cache, machine

VARIABLES = (
    "CONVOPT_TUNE",
    "CONVOPT_CACHE_DIR",
    "CONVOPT_SHARED_CACHE",
    "CONVOPT_PIN",
    "CONVOPT_BLOCK",
    "CONVOPT_DETERMINISTIC",
    "CONVOPT_PLAN_MEMORY",
    "CONVOPT_RECORD",
    "CONVOPT_NUM_THREADS",
    "CONVOPT_ISA",
    "CONVOPT_ACCURACY",
    "CONVOPT_MAX_WORKSPACE",
    "OMP_NUM_THREADS",
)


def info(as_json: JsonOption = False) -> None:
    """Show version, CPU, instruction sets, caches, threads, the tuning cache, and traps."""
    facts = gather()
    if as_json:
        print_json(facts)
        return
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(style="bold cyan")
    table.add_column()
    cpu, isa, threads = facts["cpu"], facts["isa"], facts["threads"]
    table.add_row("convopt", f"{facts['version']}   (Python {facts['python']}, NumPy {facts['numpy']})")
    table.add_row("algorithms", ", ".join(facts["algorithms"]))
    table.add_row("CPU", f"{cpu['model']}   ({cpu['microarchitecture']})")
    table.add_row("instruction set", f"[bold]{isa['in_use']}[/] in use; this CPU runs {', '.join(isa['available'])}")
    table.add_row("caches", ", ".join(f"{name} {byte_count(size)}" for name, size in facts["caches"].items()) or "unknown")
    quota = "no quota" if threads["cgroup_quota"] is None else f"a cgroup quota of {threads['cgroup_quota']:g}"
    table.add_row("threads", f"{threads['default']} by default; {threads['affinity']} of {threads['cores']} cores allowed, {quota}")
    table.add_row("tuning cache", escape(facts["cache"]))
    table.add_row("environment", escape(", ".join(f"{name}={value}" for name, value in facts["environment"].items())) or "nothing set")
    console.print(table)
    for trap in facts["traps"]:
        console.print(f"[bold yellow]trap[/]  {escape(trap)}")
    if not facts["traps"]:
        console.print("[green]No traps found.[/]")


def gather() -> dict[str, Any]:
    """Everything ``info`` shows, as plain values."""
    host = archspec.cpu.host()
    facts: dict[str, Any] = {
        "version": package_version(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "algorithms": list(ALGORITHMS),
        "cpu": {
            "model": machine.cpu_fields().get("model name", host.name),
            "vendor": host.vendor,
            "microarchitecture": _microarchitecture(host.name),
        },
        "isa": {"in_use": registry.isa(), "available": list(registry.isas())},
        "caches": _caches(),
        "threads": {
            "default": parallel.current(),
            "cores": os.cpu_count() or 1,
            "affinity": len(os.sched_getaffinity(0)),
            "usable": parallel.usable_cores(),
            "cgroup_quota": parallel.cgroup_quota(),
        },
        "cache": str(cache.path()),
        "environment": {name: os.environ[name] for name in VARIABLES if os.environ.get(name)},
    }
    facts["traps"] = _traps(facts)
    return facts


#: Of AMD's families from their first model numbers on. A virtual machine may hide features, by which archspec goes.
_AMD = {23: {0x00: "zen", 0x30: "zen2"}, 25: {0x00: "zen3", 0x10: "zen4", 0x20: "zen3", 0x60: "zen4"}, 26: {0x00: "zen5"}}


def _microarchitecture(guess: str) -> str:
    """archspec's name, unless the CPU's family and model tell."""
    fields = machine.cpu_fields()
    family, model = (int(fields.get(name, -1)) for name in ("cpu family", "model"))
    if fields.get("vendor_id") != "AuthenticAMD" or family not in _AMD:
        return guess
    return next(name for first, name in reversed(_AMD[family].items()) if model >= first)


def package_version() -> str:
    """Version of the installed package; "unknown" in a bare source tree."""
    try:
        return version("convopt")
    except PackageNotFoundError:
        return "unknown"


def _traps(facts: dict[str, Any]) -> list[str]:
    """Whatever on this machine makes convopt slower, or its timings worse, than they need be."""
    traps = []
    isa, default, usable = facts["isa"], facts["threads"]["default"], facts["threads"]["usable"]
    affinity, quota = facts["threads"]["affinity"], facts["threads"]["cgroup_quota"]
    if isa["in_use"] != isa["available"][-1]:
        traps.append(f"CONVOPT_ISA holds convopt to {isa['in_use']}; this CPU runs {isa['available'][-1]} as well.")
    if isa["available"] == ["generic"]:
        traps.append("This CPU (or virtual machine) offers neither AVX2 nor AVX-512: the generic kernels are many times slower.")
    if default > usable:
        traps.append(f"{default} threads on {usable} usable cores will wait for each other. Set CONVOPT_NUM_THREADS.")
    if default < usable:
        traps.append(f"{usable} cores are usable, but only {default} are used by default (see the environment above).")
    if quota is not None and quota < affinity:
        traps.append(f"The cgroup's CPU quota ({quota:g}) is below the cores allowed ({affinity}): long bursts are throttled.")
    if _text("/sys/devices/system/cpu/smt/active") == "1":
        traps.append("Simultaneous multithreading is on: two threads of one core share its FMA units. One per core is usually fastest.")
    governor = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor not in (None, "performance"):
        traps.append(f"The frequency governor is {governor!r}: short timings may be taken at a low clock.")
    if "[never]" in (_text("/sys/kernel/mm/transparent_hugepage/enabled") or ""):
        traps.append("Transparent huge pages are off: FFT and depthwise paths run slower.")
    load = os.getloadavg()[0]
    if load > 0.7 * usable:
        traps.append(f"The machine is busy (load {load:.1f} on {usable} usable cores): what is tuned now may be chosen wrongly.")
    if not _writable(Path(facts["cache"])):
        traps.append(f"{facts['cache']} cannot be written: choices will not be remembered. Set CONVOPT_CACHE_DIR.")
    return traps


def _caches() -> dict[str, int]:
    """Bytes of the data caches that CPU 0 sees, by name: L1d, L2, L3."""
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_text(folder / name) for name in ("level", "type", "size"))
        if level and size and kind in ("Data", "Unified"):
            caches[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size.removesuffix("K")) * 1024
    return caches


def _writable(path: Path) -> bool:
    """Whether path is, or could be made, a folder this process may write to."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK)


def _text(path: str | Path) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
