"""Flip rate: tune twice from nothing; how often are the choices different by more than 2 % in time?

With --load another process keeps one core busy during the second tuning; the regret of its choices against the first ones'
is then what matters. The two choices race each other again, three times, minutes apart if there are many: the median of their
ratios tells. What the machine lets one know is told by the control: where both choices are the same, two plans of it race, and
as often as these differ by more than 2 %, so may any two.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from tuner_common import arguments, fresh_cache, percentiles, report, requests, within

from convopt.tuning import cache, measure, measure_race, planner, records
from convopt.tuning.candidates import Request, candidates
from convopt.tuning.records import FLIP

#: Shares of the budget: of the first tuning, after which the number of problems is settled.
FIRST = {False: 0.3, True: 0.2}
#: Races between the two choices.
DUELS = 3


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


def duel(request: Request, labels: list[str]) -> float:
    """Time of the first of two candidates, or of a candidate and a second plan of it, over the other's, from one race.

    One that fell far behind has at least the time it had then.
    """
    known = {each.label: each for each in candidates(request)}
    pair = measure.measure(request, [known[label] for label in labels], limit=measure.THOROUGH.limit, rounds=measure.THOROUGH.rounds)
    fastest = min(each.fastest for each in pair if each.fastest is not None)
    first, second = (each.fastest or fastest * measure_race.DROP for each in pair)
    return first / second


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
    duels: list[list[float]] = [[] for _ in wanted]
    for _ in range(DUELS):
        for ratios, request, *labels in zip(duels, wanted, *choices, strict=True):
            ratios.append(duel(request, labels))
    rows = []
    control = []
    for request, first, second, ratio in zip(wanted, *choices, map(median, duels), strict=True):
        apart = max(ratio, 1 / ratio) > FLIP
        if first == second:
            control.append(apart)
        ratios = [1.0, 1.0] if first == second else [max(1.0, ratio), max(1.0, 1 / ratio)]
        flipped = apart and first != second
        rows.append({"problem": request.key(), "first": first, "second": second, "ratio": ratio, "ratios": ratios, "flipped": flipped})
    flips = sum(row["flipped"] for row in rows)
    figures: dict[str, object] = {"problems": len(rows), "flipped": flips, "flip rate": flips / max(1, len(rows))}
    for number, name in enumerate(("first", "second")):
        figures |= {
            f"{name} choice over the better: {key}": value - 1
            for key, value in percentiles([row["ratios"][number] for row in rows]).items()
        }
    figures["control: a choice and itself differ by over 2 %"] = sum(control) / max(1, len(control))
    figures["entries graded noisy in the second tuning"] = noisy
    figures["limits"] = "second choice: median 0.02, p95 0.10" if options.load else "flip rate 0.03"
    report("flips-loaded" if options.load else "flips", options, figures, rows)


if __name__ == "__main__":
    main()
