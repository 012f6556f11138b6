"""Planted faults: a kernel that computes something wrong, and one that writes beside its output, must be rejected every time."""

import ctypes
import random

import numpy as np
from tuner_common import arguments, report, requests

from convopt.tuning import measure
from convopt.tuning.candidates import candidates


class Planted:
    """A candidate's plan with a fault in it: one wrong element, or one byte beside the output."""

    def __init__(self, plan: measure.Runnable, overruns: bool, draw: random.Random) -> None:
        self.plan, self.overruns, self.draw = plan, overruns, draw

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        self.plan(x, out=out)
        if self.overruns:
            ctypes.memset(out.ctypes.data + self.draw.choice((-1, out.nbytes)), 1, 1)
        else:
            # A border, a tile or a channel that is left out, as faults of kernels are: not an element that no sample would meet.
            axis = self.draw.choice([axis for axis in (1, 2, 3) if out.shape[axis] > 1])
            out[(slice(None),) * axis + (self.draw.choice((0, -1)),)] = 0


def main() -> None:
    parser = arguments(__doc__, random_layers=0)
    parser.add_argument("--times", type=int, default=100, help="that each fault is planted (%(default)s)")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    wanted = [each for each in requests(options) if each.shape.flops < 3e8 and max(each.shape.output_shape[1:]) > 1]
    rejected = {False: 0, True: 0}
    for _ in range(options.times):
        for overruns in rejected:
            request = draw.choice(wanted)
            victim = draw.choice(candidates(request))

            def make(request, candidate, trial, overruns=overruns):
                return Planted(measure.make_plan(request, candidate, trial), overruns, draw)

            (record,) = measure.measure(request, [victim], limit=0.01, make=make)
            rejected[overruns] += bool(record.rejected)
    figures = {
        f"wrong kernels rejected ({options.times})": rejected[False],
        f"overrunning kernels rejected ({options.times})": rejected[True],
    }
    report("planted", options, figures, [])


if __name__ == "__main__":
    main()
