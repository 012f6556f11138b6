"""Ski rental: total time of conv2d's automatic tuning over 1 to N calls, against the better of never and at once.

Each layer is called N times with the default level, its total noted at 1, 2, 5, 10, 20, ... calls. Beside it, in the same
process: the time of one call with the estimate's choice, the time of one with the measured choice, and what measuring costs.
"""

from time import perf_counter

import numpy as np
from tuner_common import arguments, fresh_cache, percentiles, report, requests

import convopt
from convopt.configuration import configurations
from convopt.tuning.candidates import Request


def calls_until(limit: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... up to the limit."""
    return [step * 10**power for power in range(7) for step in (1, 2, 5) if step * 10**power <= limit]


def fastest_call(x: np.ndarray, w: np.ndarray, request: Request, level: str, seconds: float = 0.2) -> tuple[float, float]:
    """(seconds of the first call, median of later ones)."""
    shape, times = request.shape, []
    while not times or (sum(times) < seconds and len(times) < 1000):
        start = perf_counter()
        convopt.conv2d(x, w, shape.strides, shape.pads, dilations=shape.dilations, threads=request.threads, tune=level)
        times.append(perf_counter() - start)
    return times[0], float(np.median(times[1:] or times))


def main() -> None:
    parser = arguments(__doc__, random_layers=0)
    parser.add_argument("--calls", type=int, default=10_000, help="the most calls of a layer (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="the most seconds of a layer (%(default)s)")
    options = parser.parse_args()
    rows = []
    for request in requests(options):
        shape = request.shape
        draw = np.random.default_rng(1)
        x, w = (draw.standard_normal(size, dtype=np.float32) for size in (shape.input_shape, shape.filters_shape))
        folder = fresh_cache()
        configurations.clear()
        _, estimate = fastest_call(x, w, request, "estimate")
        folder.cleanup()
        folder = fresh_cache()
        configurations.clear()
        totals, total = {}, 0.0
        for number in range(1, options.calls + 1):
            start = perf_counter()
            convopt.conv2d(x, w, shape.strides, shape.pads, dilations=shape.dilations, threads=request.threads)
            total += perf_counter() - start
            if number in calls_until(options.calls):
                totals[number] = total
            if total > options.seconds:
                break
        folder.cleanup()
        folder = fresh_cache()
        configurations.clear()
        first, tuned = fastest_call(x, w, request, "measure")
        folder.cleanup()
        ratios = {n: spent / min(n * estimate, first + (n - 1) * tuned) for n, spent in totals.items()}
        rows.append({"problem": request.key(), "estimate": estimate, "tuned": tuned, "cost": first, "ratios": ratios})
        print(f"{request.key():<75} worst {max(ratios.values()):5.2f} at {max(ratios, key=ratios.get)} calls")
    # The first call of all prepares arrays and plans; from ten on it is the choice that counts.
    worst = [max(ratio for n, ratio in row["ratios"].items() if n >= min(10, max(row["ratios"]))) for row in rows]
    figures: dict[str, object] = {"problems": len(rows)}
    figures |= {f"total over the better of both, from 10 calls: {key}": value for key, value in percentiles(worst).items()}
    figures["limit"] = "2.1"
    report("ski-rental", options, figures, rows)


if __name__ == "__main__":
    main()
