"""Flip rate: tune twice from nothing; how often are the choices different by more than 2 % in time?

With --load another process keeps one core busy during the second tuning; the regret of its choices against the first ones'
is then what matters. Where choices differ, they race each other once more, on a quiet machine.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tuner_common import arguments, fresh_cache, percentiles, report, requests, within

from convopt.tuning import cache, measure, measure_race, planner, records
from convopt.tuning.candidates import Request, candidates
from convopt.tuning.records import FLIP

#: Shares of the budget: of the first tuning, after which the number of problems is settled.
FIRST = {False: 0.4, True: 0.3}


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


def duel(request: Request, labels: list[str]) -> list[float]:
    """Times of two candidates over the faster one's, from one race; one that fell far behind has at least the time it had."""
    if labels[0] == labels[1]:
        return [1.0, 1.0]
    wanted = [each for each in candidates(request) if each.label in labels]
    timed = measure.measure(request, wanted, limit=measure.THOROUGH.limit, rounds=measure.THOROUGH.rounds)
    times = {each.label: each.fastest for each in timed if each.fastest is not None}
    fastest = min(times.values())
    return [times.get(label, fastest * measure_race.DROP) / fastest for label in labels]


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
            choices.append([])
            for request in within(options.budget if turn == 0 else None, wanted, FIRST[options.load]):
                choices[turn].append(planner.choose(request, "measure").contenders[0].label)
        wanted = wanted[: len(choices[turn])]
        noisy = sum(any(each.noisy for each in records.from_json(cache.get(request.key()))) for request in wanted)
        folder.cleanup()
    rows = []
    for request, *labels in zip(wanted, *choices, strict=True):
        ratios = duel(request, labels)
        rows.append({"problem": request.key(), "first": labels[0], "second": labels[1], "ratios": ratios, "flipped": max(ratios) > FLIP})
    flips = sum(row["flipped"] for row in rows)
    figures: dict[str, object] = {"problems": len(rows), "flipped": flips, "flip rate": flips / max(1, len(rows))}
    for number, name in enumerate(("first", "second")):
        figures |= {
            f"{name} choice over the better: {key}": value - 1
            for key, value in percentiles([row["ratios"][number] for row in rows]).items()
        }
    figures["entries graded noisy in the second tuning"] = noisy
    figures["limits"] = "second choice: median 0.02, p95 0.10" if options.load else "flip rate 0.03"
    report("flips-loaded" if options.load else "flips", options, figures, rows)


if __name__ == "__main__":
    main()
