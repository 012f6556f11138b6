"""NCHW against NHWC: what the other layout costs, layer by layer.

    python benchmarks/layouts.py [--threads 1] [--only PART,PART] [--seconds 0.3] [--algorithm NAME]

Each layer is planned for both layouts by measuring, results are compared, then calls alternate between the two; printed are the
shortest of each and their ratio. NCHW is to take at most 10 % longer.
"""

from __future__ import annotations

import argparse
import math
from functools import partial

import numpy as np
from timing import alternate
from tuner_common import fresh_cache

import convopt
from convopt.tuning.candidates import label

#: name -> N, H, W, C; R, S, K; strides, dilations, groups
LAYERS = {
    "rn50_3x3_64@56": (1, 56, 56, 64, 3, 3, 64, 1, 1, 1),
    "rn50_3x3_128@28": (1, 28, 28, 128, 3, 3, 128, 1, 1, 1),
    "rn50_3x3_256@14": (1, 14, 14, 256, 3, 3, 256, 1, 1, 1),
    "rn50_3x3_512@7": (1, 7, 7, 512, 3, 3, 512, 1, 1, 1),
    "vgg_3x3_64@224": (1, 224, 224, 64, 3, 3, 64, 1, 1, 1),
    "vgg_3x3_128@112": (1, 112, 112, 128, 3, 3, 128, 1, 1, 1),
    "vgg_3x3_256@56": (1, 56, 56, 256, 3, 3, 256, 1, 1, 1),
    "vgg_3x3_512@28": (1, 28, 28, 512, 3, 3, 512, 1, 1, 1),
    "vgg_3x3_512@14": (1, 14, 14, 512, 3, 3, 512, 1, 1, 1),
    "rn50_3x3_64@56_b8": (8, 56, 56, 64, 3, 3, 64, 1, 1, 1),
    "alex_5x5_96_256@27": (1, 27, 27, 96, 5, 5, 256, 1, 1, 1),
    "inc_1x7_192@17": (1, 17, 17, 192, 1, 7, 192, 1, 1, 1),
    "deeplab_3x3d2_256@33": (1, 33, 33, 256, 3, 3, 256, 1, 2, 1),
    "rn50_3x3s2_128@56": (1, 56, 56, 128, 3, 3, 128, 2, 1, 1),
    "7x7s2_64@112": (1, 112, 112, 64, 7, 7, 64, 2, 1, 1),
    "resnext_3x3g32_128@56": (1, 56, 56, 128, 3, 3, 128, 1, 1, 32),
    "rn50_conv1_7x7s2": (1, 224, 224, 3, 7, 7, 64, 2, 1, 1),
    "vgg_3x3_3_64@224": (1, 224, 224, 3, 3, 3, 64, 1, 1, 1),
    "alex_11x11s4_3_96@227": (1, 227, 227, 3, 11, 11, 96, 4, 1, 1),
    "convnext_4x4s4_3_96@224": (1, 224, 224, 3, 4, 4, 96, 4, 1, 1),
}


def compare(name: str, options: argparse.Namespace) -> float:
    """One line of the table; NCHW's time over NHWC's."""
    n, h, w, c, r, s, k, strides, dilations, groups = LAYERS[name]
    rng = np.random.default_rng(0)
    nhwc = rng.standard_normal((n, h, w, c)).astype("f4")
    filters = rng.standard_normal((r, s, c // groups, k)).astype("f4")
    inputs = [nhwc, np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2))]
    plans = [
        convopt.plan(
            x.shape,
            filters,
            strides=strides,
            padding="SAME",
            data_format=layout,
            dilations=dilations,
            algorithm=options.algorithm,
            tune="measure",
            threads=options.threads,
        )
        for x, layout in zip(inputs, ("NHWC", "NCHW"), strict=True)
    ]
    one, other = plans[0](inputs[0]), plans[1](inputs[1]).transpose(0, 2, 3, 1)
    if np.abs(one - other).max() > 3e-5 * np.abs(one).max():
        raise SystemExit(f"{name}: results differ")
    calls = [partial(plan, x, plan(x)) for plan, x in zip(plans, inputs, strict=True)]
    times = [min(taken) for taken in alternate(calls, options.seconds)]
    labels = [label(plan.algorithm, tuple(plan.params.items())) for plan in plans]
    print(f"{name:24} {1e3 * times[0]:9.3f} {1e3 * times[1]:9.3f}  {times[1] / times[0]:5.2f}  {labels[0]:34} {labels[1]}", flush=True)
    return times[1] / times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="layers whose name contains one of these parts")
    parser.add_argument("--seconds", type=float, default=0.3, help="of timing a layer (%(default)s)")
    parser.add_argument("--algorithm", default="auto")
    options = parser.parse_args()
    folder = fresh_cache()
    print(f"{'layer':24} {'NHWC ms':>9} {'NCHW ms':>9}  ratio  {'NHWC by':34} NCHW by")
    ratios = [compare(name, options) for name in LAYERS if any(part in name for part in options.only.split(","))]
    folder.cleanup()
    if ratios:
        print(f"geometric mean {math.prod(ratios) ** (1 / len(ratios)):.3f}, worst {max(ratios):.2f}")


if __name__ == "__main__":
    main()
