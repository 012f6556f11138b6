"""Ski rental: total time of conv2d's automatic tuning over 1 to N calls, against the better of never and at once.

Each layer is called with the default level until it has been tuned, and some calls more, its total noted at 1, 2, 5, 10, 20,
... calls; from there on one call is as good as another, and the total of the remaining ones follows from the mean of the last:
a sum has its share of disturbed calls, and what it is compared with must have it too.
Beside it, in the same process: the time of one call with the estimate's choice, of one with the measured choice, what
measuring costs, and what the first call of all costs, which prepares plans.
"""

from time import perf_counter

import numpy as np
from tuner_common import arguments, fresh_cache, percentiles, report, requests, within

import convopt
from convopt.configuration import configurations
from convopt.tuning.candidates import Request

LIMIT = 2.1
#: Calls, and seconds of them, after which the time of one is known.
KNOWN_CALLS, KNOWN_SECONDS = 300, 0.15


def calls_until(limit: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... up to the limit."""
    return [step * 10**power for power in range(7) for step in (1, 2, 5) if step * 10**power <= limit]


class Calls:
    """Calls of one layer, from nothing remembered."""

    def __init__(self, request: Request, level: str) -> None:
        draw = np.random.default_rng(1)
        shape = request.shape
        self.arguments = [draw.standard_normal(size, dtype=np.float32) for size in (shape.input_shape, shape.filters_shape)]
        self.options = {
            "strides": shape.strides, "padding": shape.pads, "dilations": shape.dilations, "threads": request.threads, "tune": level,
        }  # fmt: skip
        self.folder = fresh_cache()
        configurations.clear()

    def call(self) -> float:
        """Seconds of one more call."""
        start = perf_counter()
        convopt.conv2d(*self.arguments, **self.options)
        return perf_counter() - start

    def settled(self) -> float:
        """Mean seconds of a call as they are now."""
        times: list[float] = []
        while len(times) < KNOWN_CALLS and (sum(times) < KNOWN_SECONDS or len(times) < 3):
            times.append(self.call())
        return float(np.mean(times))


def totals_of(calls: Calls, most: int) -> dict[int, float]:
    """Total seconds by number of calls: as they were until tuned, as they will be from then on."""
    totals: dict[int, float] = {}
    total, number = 0.0, 0
    while number < most and not (number and _is_settled()):
        total, number = total + calls.call(), number + 1
        totals[number] = total
    each = calls.settled() if number < most else 0.0
    return {n: totals[n] if n <= number else total + (n - number) * each for n in calls_until(most)}


def _is_settled() -> bool:
    """Whether nothing is left to be measured."""
    return all(each.allowance == float("inf") for each in configurations._table.values())


def row_of(request: Request, most: int) -> dict[str, object]:
    """What one layer costs with automatic tuning, and without, and with tuning at once."""
    never = Calls(request, "estimate")
    unprepared, estimate = never.call(), never.settled()
    at_once = Calls(request, "measure")
    first, tuned = at_once.call(), at_once.settled()
    totals = totals_of(Calls(request, "auto"), most)
    ratios = {n: spent / min(unprepared + (n - 1) * estimate, first + (n - 1) * tuned) for n, spent in totals.items()}
    return {
        "problem": request.key(), "estimate": estimate, "tuned": tuned, "cost": first, "ratios": ratios, "worst": max(ratios.values()),
    }  # fmt: skip


def main() -> None:
    parser = arguments(__doc__, random_layers=0)
    parser.add_argument("--calls", type=int, default=10_000, help="the most calls of a layer (%(default)s)")
    options = parser.parse_args()
    rows = []
    wanted = requests(options)
    for request in within(options.budget, wanted):
        rows.append(row_of(request, options.calls))
        print(f"{request.key():<75} worst {rows[-1]['worst']:5.2f}", flush=True)
    figures: dict[str, object] = {"problems": len(rows), "of": len(wanted)}
    figures |= {f"worst total over the better of both: {key}": value for key, value in percentiles([row["worst"] for row in rows]).items()}
    figures["limit"] = f"{LIMIT}"
    report("ski-rental", options, figures, rows)


if __name__ == "__main__":
    main()
