"""What identifies a machine to the tuner: timings are remembered for one CPU, instruction set and number of cores."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from convopt.algorithms.parallel import usable_cores
from convopt.kernels import registry

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def fingerprint() -> str:
    """A short text without blanks that differs where timings may differ: CPU, instruction set in use, caches, cores."""
    return _fingerprint(registry.isa())


@functools.cache
def _fingerprint(isa: str) -> str:
    caches = "-".join(f"{cache_bytes(level) >> 10}K" for level in (1, 2, 3))
    return f"{_cpu()}/{isa}/{caches}/{usable_cores()}"


def cpu_fields() -> dict[str, str]:
    """What the kernel says of the first processor, such as "model name"; nothing where it does not say."""
    fields = {}
    try:
        with CPUINFO.open() as lines:
            for line in lines:
                if not line.strip():
                    break
                name, _, value = line.partition(":")
                fields[name.strip()] = " ".join(value.split())
    except OSError:
        pass
    return fields


def _cpu() -> str:
    """Vendor, family, model and stepping of the first processor."""
    fields = cpu_fields()
    if not fields:
        return "unknown"
    wanted = ("vendor_id", "cpu family", "model", "stepping")
    return re.sub(r"[^A-Za-z0-9.-]", "", "-".join(fields.get(name, "?") for name in wanted)) or "unknown"


@functools.cache
def cache_bytes(level: int) -> int:
    """Bytes of the data cache of a level (1, 2, 3) as one core sees it; 0 where the system does not say."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    for folder in sorted(CACHES.glob("index*")):
        try:
            if (folder / "type").read_text().strip() == "Instruction" or int((folder / "level").read_text()) != level:
                continue
            size = (folder / "size").read_text().strip()
            return int(size[:-1]) * units[size[-1]]
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return 0
