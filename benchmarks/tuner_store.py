"""The store under fire: writers killed at random moments, many at once, truncation, bit flips, useless directories.

Every number that is not zero where the limit says zero is a fault.
"""

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tuner_common import arguments, report

import convopt
from convopt.tuning import cache, machine, store

WRITER = """
import itertools, sys
from convopt.tuning import cache
for i in itertools.islice(itertools.count(), int(sys.argv[2])):
    cache.put(f"{sys.argv[1]}-{i}", {"n": i, "ballast": "x" * 500})
    print(i, flush=True)
"""


def write(folder: str, name: str, count: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "CONVOPT_CACHE_DIR": folder, "CONVOPT_SHARED_CACHE": ""}
    return subprocess.Popen([sys.executable, "-c", WRITER, name, str(count)], env=environment, stdout=subprocess.PIPE, text=True)


def killed(times: int, draw: random.Random) -> dict[str, object]:
    """Writers killed at random moments: what they had finished must be there, all files readable."""
    lost = unreadable = finished = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(times):
            writer = write(folder, f"w{number}", 10**9)
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(draw.expovariate(50))
            writer.send_signal(signal.SIGKILL)
            lines = writer.communicate()[0].split("\n")
            # The last line may have been cut off: only what ended in a line feed was told.
            done = int(lines[-2]) if len(lines) > 1 else 0
            finished += done + 1
            found = store.Store(Path(folder), machine.fingerprint())
            lost += sum((found.get(f"w{number}-{i}") or {}).get("n") != i for i in range(done + 1))
            unreadable += sum(found.get(name.decode()) is None for name in found.names() if name.startswith(b"w"))
    return {f"killed {times} times: finished": finished, "killed: finished but lost (0)": lost, "killed: unreadable (0)": unreadable}


def together(processes: int, entries: int) -> dict[str, object]:
    """Several processes write to one store at once."""
    with tempfile.TemporaryDirectory() as folder:
        writers = [write(folder, f"w{number}", entries) for number in range(processes)]
        for writer in writers:
            writer.communicate()
        found = store.Store(Path(folder), machine.fingerprint())
        readable = sum(found.get(f"w{w}-{i}") is not None for w in range(processes) for i in range(entries))
    return {f"{processes} processes x {entries}: readable ({processes * entries})": readable}


def damaged(flips: int, draw: random.Random) -> dict[str, object]:
    """Truncation at every byte, and random bit flips: a miss at worst."""
    wrong = missed = raised = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = store.Store(folder, machine.fingerprint())
        values = {f"key{number}": {"n": number, "text": "abcdefghij" * 3} for number in range(10)}
        for key, value in values.items():
            first.put(key, value)
        first.close()
        (file,) = folder.iterdir()
        whole = file.read_bytes()
        damages = [whole[:length] for length in range(len(whole))]
        for _ in range(flips):
            bit = draw.randrange(len(whole) * 8)
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            damages.append(bytes(data))
        for data in damages:
            file.write_bytes(data)
            try:
                found = store.Store(folder, machine.fingerprint())
                answers = {key: found.get(key) for key in values}
            except Exception:
                raised += 1
                continue
            wrong += sum(answer not in (None, values[key]) for key, answer in answers.items())
            missed += sum(answer is None for answer in answers.values())
    return {
        f"truncated at {len(whole)} bytes, {flips} bits flipped: misses": missed,
        "damage: wrong values (0)": wrong,
        "damage: exceptions (0)": raised,
    }


def useless(draw: np.random.Generator) -> dict[str, object]:
    """Directories that cannot serve: the right result all the same, and one warning."""
    x, w = (draw.standard_normal(size, dtype=np.float32) for size in ((1, 16, 12, 8), (3, 3, 8, 16)))
    expected = convopt.conv2d(x, w, algorithm="direct")
    wrong = other = 0
    with tempfile.TemporaryDirectory() as name:
        places = list(_useless_places(Path(name)))
        for number, place in enumerate(places):
            os.environ["CONVOPT_CACHE_DIR"] = str(place)
            store._warned = False
            with warnings.catch_warnings(record=True) as seen, _full_disk(place.name == "full"):
                warnings.simplefilter("always")
                result = convopt.conv2d(x[:, number:], w, tune="measure")
                cache.get("key")
            wrong += not np.allclose(result, expected[:, number:], atol=1e-4)
            other += len(seen) != 1
    names = ", ".join(place.name for place in places)
    return {
        f"{len(places)} useless directories ({names}): wrong results (0)": wrong,
        "useless directories: not exactly one warning (0)": other,
    }


def _useless_places(parent: Path) -> Iterator[Path]:
    Path(parent, "file").write_text("")
    Path(parent, "real").mkdir()
    Path(parent, "link").symlink_to(Path(parent, "real"))
    Path(parent, "open").mkdir()
    Path(parent, "open").chmod(0o777)
    Path(parent, "full").mkdir(mode=0o700)
    yield from (Path(parent, each) for each in ("file", "link", "open", "full", "file/below"))
    if os.geteuid() == 0:
        Path(parent, "foreign").mkdir(mode=0o700)
        os.chown(Path(parent, "foreign"), 1, 1)
        yield Path(parent, "foreign")
    else:  # root may write to it
        Path(parent, "read-only").mkdir(mode=0o500)
        yield Path(parent, "read-only")
    if Path("/proc/self").exists():
        yield Path("/proc/self/nowhere")  # where nobody can make a directory


@contextlib.contextmanager
def _full_disk(full: bool) -> Iterator[None]:
    """Every write to a file fails, as on a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=200, help="writers killed (%(default)s)")
    parser.add_argument("--processes", type=int, default=8, help="that write at once (%(default)s)")
    parser.add_argument("--entries", type=int, default=100, help="of each (%(default)s)")
    parser.add_argument("--flips", type=int, default=1000, help="bits (%(default)s)")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    warnings.simplefilter("ignore")
    figures = {
        **killed(options.kills, draw),
        **together(options.processes, options.entries),
        **damaged(options.flips, draw),
        **useless(np.random.default_rng(options.seed)),
    }
    report("store", options, figures, [])


if __name__ == "__main__":
    main()
