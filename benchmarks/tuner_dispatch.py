"""Dispatch: what a call of a plan costs besides its work, and conv2d(auto) on a hit over that; and a warm start."""

import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from tuner_common import arguments, fresh_cache, report

import convopt
from convopt.tuning import machine
from convopt.tuning.store import Store, header, line_of


def fastest(call, repeats: int = 200, rounds: int = 30) -> float:
    """Seconds of one call, at its best."""
    times = []
    for _ in range(rounds):
        start = perf_counter()
        for _ in range(repeats):
            call()
        times.append((perf_counter() - start) / repeats)
    return min(times)


def warm_start(entries: int) -> float:
    """Seconds to read a store of so many entries with six records each."""
    fingerprint = machine.fingerprint()
    record = {"algorithm": "direct", "params": {"nv": 3}, "revision": 1, "workspace_bytes": 1 << 20, "packed_bytes": 1 << 16}
    value = {"records": [{**record, "seconds": 1e-3, "fastest": 1e-3, "spread": 0.1, "error": 1e-7, "samples": 10}] * 6}
    with tempfile.TemporaryDirectory() as folder:
        prefix = Store(Path(folder), fingerprint).prefix
        lines = b"".join(line_of(f"key{number}", value) + b"\n" for number in range(entries))
        Path(folder, f"{prefix}1-aa.log").write_bytes(header(fingerprint) + lines)
        times = []
        for _ in range(5):
            start = perf_counter()
            store = Store(Path(folder), fingerprint)
            times.append(perf_counter() - start)
        assert store.get(f"key{entries - 1}") == value
    return min(times)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--entries", type=int, default=10_000, help="of the warm start (%(default)s)")
    options = parser.parse_args()
    folder = fresh_cache()
    x, w = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    out = np.empty_like(x)
    plan = convopt.plan(x.shape, w, threads=1)
    convopt.conv2d(x, w, threads=1, tune="measure")
    empty = fastest(lambda: None)
    # The smallest problem there is: what it takes is overhead.
    of_plan = fastest(lambda: plan(x, out)) - empty
    once = fastest(lambda: convopt.conv2d(x, w, threads=1, out=out)) - empty
    figures: dict[str, object] = {
        "plan's call, microseconds": of_plan * 1e6,
        "conv2d(auto) on a hit over that, microseconds": (once - of_plan) * 1e6,
        f"warm start with {options.entries} entries, milliseconds": warm_start(options.entries) * 1e3,
        "limits": "1.5 us, 5 us, 50 ms",
    }
    folder.cleanup()
    report("dispatch", options, figures, [])


if __name__ == "__main__":
    main()
