"""Regret of the tuner's choices, and what choosing costs.

For each problem: the estimate's choice (nothing timed), the measured choice (default effort), and exhaustive search; then the
three winners race each other once more, and the regret of a choice is its time over the fastest's, in that race.
"""

from time import perf_counter

from tuner_common import arguments, duel, fresh_cache, percentiles, report, requests

from convopt.tuning import measure, planner, records
from convopt.tuning.candidates import Request, candidates


def exhaustive(request: Request) -> str:
    """The fastest of all candidates within the usual limits, none left out."""
    allowed, _ = records.admissible(candidates(request), request)
    best = records.select(measure.measure(request, allowed, limit=measure.THOROUGH.limit), request)
    assert best is not None
    return best.label


def main() -> None:
    options = arguments(__doc__).parse_args()
    folder = fresh_cache()
    rows = []
    for request in requests(options):
        estimated = planner.choose(request, "estimate").contenders[0].label
        start = perf_counter()
        measured = planner.choose(request, "measure").contenders[0].label
        cost = perf_counter() - start
        best = exhaustive(request)
        times = duel(request, [estimated, measured, best])
        fastest = min(times.values())
        rows.append(
            {
                "problem": request.key(),
                "estimated": estimated,
                "measured": measured,
                "exhaustive": best,
                "regret_estimated": times.get(estimated, fastest * measure.DROP) / fastest - 1,
                "regret_measured": times.get(measured, fastest * measure.DROP) / fastest - 1,
                "cost": cost,
            }
        )
        print(f"{len(rows):4} {request.key():<75} {rows[-1]['regret_measured']:6.1%} {rows[-1]['regret_estimated']:6.1%} {cost:6.2f} s")
    folder.cleanup()
    figures: dict[str, object] = {"problems": len(rows)}
    for name, column in (("measured choice", "regret_measured"), ("estimate", "regret_estimated"), ("cost, seconds", "cost")):
        figures |= {f"{name}: {key}": value for key, value in percentiles([row[column] for row in rows]).items()}
    figures["limits"] = "measured: median 0.01, p95 0.05; estimate: median 0.10, p95 0.40; cost: median 0.5 s"
    report("regret", options, figures, rows)


if __name__ == "__main__":
    main()
