"""Is the cost model right? Measured over estimated times of every candidate, by algorithm, and the regret of choosing by estimate.

The check to run after kernels, or the model, have changed: a minute. Times that were saved are compared with what the model says
now by --again FILE, without timing anything: so a change of the model is judged at once.

    python benchmarks/tuner_model.py --layers 60 --save
    python benchmarks/tuner_model.py --again results/CPU/tuner/model.json --worst 20
"""

import json
from pathlib import Path
from time import perf_counter

import numpy as np
from tuner_common import arguments, fresh_cache, percentiles, report, requests, within

from convopt.plan import ConvPlan
from convopt.tuning import cache, cost_model, planner, records
from convopt.tuning.candidates import Candidate, Request, candidates
from convopt.tuning.cost_model import Speeds

#: Seconds of a sample at least, rounds of samples, and how far behind the best a candidate is not sampled again.
SAMPLE, ROUNDS, BEHIND = 1.5e-4, 4, 2.5
#: Candidates so many times slower than the best need no good estimate.
MATTERS = 3.0


def allowed(request: Request) -> dict[str, Candidate]:
    """The candidates within the usual limits, by label."""
    return {each.label: each for each in records.admissible(candidates(request), request)[0]}


def times_of(request: Request) -> dict[str, float]:
    """Seconds of every candidate's call, at its best."""
    shape = request.shape
    draw = np.random.default_rng(1)
    x, filters = (draw.standard_normal(size, dtype=np.float32) for size in (shape.input_shape, shape.filters_shape))
    plans = {
        label: ConvPlan(shape, each.algorithm, dict(each.params), filters, threads=request.threads)
        for label, each in allowed(request).items()
    }

    def sample(plan: ConvPlan, repeats: int) -> float:
        start = perf_counter()
        for _ in range(repeats):
            plan(x)
        return (perf_counter() - start) / repeats

    for plan in plans.values():
        sample(plan, 1)
    times = {label: sample(plan, 1) for label, plan in plans.items()}
    for _ in range(ROUNDS):
        best = min(times.values())
        for label, plan in plans.items():
            if times[label] <= BEHIND * best:
                times[label] = min(times[label], sample(plan, max(1, int(SAMPLE / times[label]))))
    return times


def judge(rows: list[dict[str, object]], speeds: Speeds, worst: int) -> dict[str, object]:
    """The figures: regret of the estimate, and how far it is from each algorithm's times."""
    regrets, ratios = [], {}
    for row in rows:
        request, times = Request.parse(row["problem"]), row["times"]
        estimates = {label: cost_model.estimate(each, request, speeds) for label, each in allowed(request).items() if label in times}
        if not estimates:
            continue
        chosen, best = min(estimates, key=estimates.get), min(times, key=times.get)
        regrets.append((times[chosen] / times[best] - 1, row["problem"], chosen, best))
        for label, estimate in estimates.items():
            if times[label] <= MATTERS * times[best]:
                name = f"{cost_model.kind(label.partition(':')[0], request.shape)}, {request.threads} threads"
                ratios.setdefault(name, []).append(times[label] / estimate)
    for regret, problem, chosen, best in sorted(regrets, reverse=True)[:worst]:
        print(f"{regret:6.1%} {problem:<75} {chosen} instead of {best}")
    figures: dict[str, object] = {"problems": len(regrets)}
    figures |= {f"regret of the estimate: {key}": value for key, value in percentiles([each[0] for each in regrets]).items()}
    for name, values in sorted(ratios.items()):
        low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
        figures[f"time over estimate, {name}"] = f"{low:.2f} {middle:.2f} {high:.2f} (tenth, half, nine tenths of {len(values)})"
    return figures | {"limits": "regret: median 0.10, p95 0.40"}


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(budget=60.0)
    parser.add_argument("--again", type=Path, help="judge the times of this file instead of measuring")
    parser.add_argument("--worst", type=int, default=10, help="print so many problems, the worst first (%(default)s)")
    options = parser.parse_args()
    if options.again:
        saved = json.loads(options.again.read_text())
        rows, speeds = saved["rows"], Speeds.from_json(saved["figures"]["speeds"])
        options.save = False
    else:
        folder = fresh_cache()
        speeds = Speeds.from_json(cache.get(planner.SPEEDS_KEY))
        rows = [{"problem": request.key(), "times": times_of(request)} for request in within(options.budget, requests(options))]
        folder.cleanup()
    assert speeds is not None
    figures = judge(rows, speeds, options.worst)
    report("model", options, {**figures, "speeds": speeds.to_json()}, rows)


if __name__ == "__main__":
    main()
