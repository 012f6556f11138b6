"""Regret of the tuner's choices, and what choosing costs.

For each problem: the estimate's choice (nothing timed), the measured choice (default effort), then exhaustive search: every
candidate within the usual limits is checked and timed, however unlikely, and those within 1.5 times the best race each other for
at least 20 rounds. The regret of a choice is its time over the fastest's, in that last race, which knows nothing of the others.
"""

from time import perf_counter

from tuner_common import arguments, fresh_cache, percentiles, report, requests, within

from convopt.tuning import measure, planner, records
from convopt.tuning.candidates import Request, candidates
from convopt.tuning.measure import Effort
from convopt.tuning.records import Record

#: Of the last race.
JUDGING = Effort(limit=1.0, rounds=20)


def exhaustive(request: Request) -> list[Record]:
    """The fastest of all candidates within the usual limits, none left out, and all others that could be chosen."""
    allowed, _ = records.admissible(candidates(request), request)
    timed = measure.measure(request, allowed, limit=JUDGING.limit, rounds=JUDGING.rounds)
    right = [record for record in timed if record.fastest is not None and not record.rejected and record.error <= request.accuracy]
    return sorted(right or timed, key=lambda record: record.fastest)


def main() -> None:
    options = arguments(__doc__).parse_args()
    folder = fresh_cache()
    rows = []
    wanted = requests(options)
    for request in within(options.budget, wanted):
        estimated = planner.choose(request, "estimate").contenders[0].label
        start = perf_counter()
        measured = planner.choose(request, "measure").contenders[0].label
        cost = perf_counter() - start
        times = {record.label: record.fastest for record in exhaustive(request)}
        best = next(iter(times))
        # A choice that was found to be wrong since has no time: as much as anything has.
        regrets = [times.get(label, max(times.values())) / times[best] - 1 for label in (estimated, measured)]
        rows.append(
            {
                "problem": request.key(),
                "threads": request.threads,
                "estimated": estimated,
                "measured": measured,
                "exhaustive": best,
                "candidates": len(times),
                "regret_estimated": regrets[0],
                "regret_measured": regrets[1],
                "cost": cost,
                "seconds": times[best],
            }
        )
        print(f"{len(rows):4} {request.key():<75} {regrets[1]:6.1%} {regrets[0]:6.1%} {cost:6.2f} s", flush=True)
    folder.cleanup()
    figures: dict[str, object] = {"problems": len(rows), "of": len(wanted)}
    for name, column in (("measured choice", "regret_measured"), ("estimate", "regret_estimated"), ("cost, seconds", "cost")):
        figures |= {f"{name}: {key}": value for key, value in percentiles([row[column] for row in rows]).items()}
    figures["limits"] = "measured: median 0.01, p95 0.05; estimate: median 0.10, p95 0.40; cost: median 0.5 s"
    report("regret", options, figures, rows)


if __name__ == "__main__":
    main()
