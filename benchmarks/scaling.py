"""What more threads bring, layer by layer: the layers of the list with 0.1 GFLOP or more, on one thread and on several.

    python benchmarks/scaling.py [--threads 2] [--only PART,PART] [--seconds 1] [--flops 1e8]

Each layer is planned for both by measuring, then calls alternate. Printed are how many times faster several threads are: by the
shortest call of each, which is what cores of equal speed make of it, and at the median, where some other guest of a shared machine
may have slowed one of them.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from statistics import median

import numpy as np
from timing import alternate
from tuner_common import fresh_cache

import convopt
from convopt.tuning import networks
from convopt.tuning.candidates import label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="layers whose name contains one of these parts")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing a layer (%(default)s)")
    parser.add_argument("--flops", type=float, default=1e8, help="of a layer at least (%(default)s)")
    options = parser.parse_args()
    folder = fresh_cache()
    print(f"{'layer':26} {'1 ms':>9} {f'{options.threads} ms':>9}  shortest  median  {'1 by':34} {options.threads} by")
    best = []
    for layer in networks.network("public"):
        shape = layer.shape
        if shape.flops < options.flops or not any(part in layer.name for part in options.only.split(",")):
            continue
        rng = np.random.default_rng(0)
        x = rng.standard_normal(shape.input_shape, dtype=np.float32)
        filters = rng.standard_normal(shape.filters_shape, dtype=np.float32)
        plans = [
            convopt.plan(
                shape.input_shape,
                filters,
                strides=shape.strides,
                padding=[(0, 0), *shape.pads, (0, 0)],
                dilations=shape.dilations,
                tune="measure",
                threads=threads,
            )
            for threads in (1, options.threads)
        ]
        out = plans[0](x)
        one, several = alternate([partial(plan, x, out) for plan in plans], options.seconds)
        best.append(min(one) / min(several))
        labels = [label(plan.algorithm, tuple(plan.params.items())) for plan in plans]
        print(
            f"{layer.name:26} {1e3 * min(one):9.3f} {1e3 * min(several):9.3f}  {best[-1]:8.2f}  {median(one) / median(several):6.2f}"
            f"  {labels[0]:34} {labels[1]}",
            flush=True,
        )
    folder.cleanup()
    if best:
        print(f"geometric mean of the shortest {math.prod(best) ** (1 / len(best)):.3f}, worst {min(best):.2f}")


if __name__ == "__main__":
    main()
