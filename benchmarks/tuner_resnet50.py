"""What tuning a whole network from nothing costs, at one number of threads."""

import statistics
from time import perf_counter

from tuner_common import arguments, fresh_cache, report, requests

from convopt.tuning import planner


def main() -> None:
    parser = arguments(__doc__, random_layers=0)
    parser.set_defaults(network="resnet50", threads="1")
    options = parser.parse_args()
    folder = fresh_cache()
    rows = []
    for request in requests(options):
        start = perf_counter()
        choice = planner.choose(request, "measure")
        rows.append({"problem": request.key(), "choice": choice.contenders[0].label, "cost": perf_counter() - start})
    folder.cleanup()
    costs = [row["cost"] for row in rows]
    figures: dict[str, object] = {
        "layers": len(rows),
        "all layers, seconds": sum(costs),
        "median layer, seconds": statistics.median(costs),
        "limits": "30 s, 0.5 s",
    }
    report(options.network, options, figures, rows)


if __name__ == "__main__":
    main()
