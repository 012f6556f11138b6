"""Flip rate: tune twice from nothing; how often are the choices different by more than 2 % in time?

With --load another process keeps one core busy during the second tuning; the regret of its choices is then shown as well.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tuner_common import arguments, duel, fresh_cache, percentiles, report, requests

from convopt.tuning import cache, planner, records
from convopt.tuning.records import TIE


@contextlib.contextmanager
def loaded(load: bool) -> Iterator[None]:
    """Another process that computes all the while."""
    if not load:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            yield
        finally:
            other.kill()


def main() -> None:
    parser = arguments(__doc__, random_layers=0)
    parser.add_argument("--load", action="store_true", help="load one core during the second tuning")
    options = parser.parse_args()
    wanted = requests(options)
    choices: list[list[str]] = []
    noisy = 0
    for turn in range(2):
        folder = fresh_cache()
        with loaded(options.load and turn == 1):
            choices.append([planner.choose(request, "measure").contenders[0].label for request in wanted])
        noisy = sum(any(each.noisy for each in records.from_json(cache.get(request.key()))) for request in wanted)
        folder.cleanup()
    rows = []
    for request, first, second in zip(wanted, *choices, strict=True):
        times = duel(request, [first, second])
        fastest = min(times.values())
        ratios = [times.get(label, fastest * 1.5) / fastest for label in (first, second)]
        rows.append({"problem": request.key(), "first": first, "second": second, "ratios": ratios, "flipped": max(ratios) > TIE})
    flips = sum(row["flipped"] for row in rows)
    figures: dict[str, object] = {"problems": len(rows), "flipped": flips, "flip rate": flips / max(1, len(rows))}
    figures |= {f"second choice: {key}": value - 1 for key, value in percentiles([row["ratios"][1] for row in rows]).items()}
    figures["entries graded noisy in the second tuning"] = noisy
    figures["limits"] = "flip rate 0.03 on a quiet machine"
    report("flips-loaded" if options.load else "flips", options, figures, rows)


if __name__ == "__main__":
    main()
