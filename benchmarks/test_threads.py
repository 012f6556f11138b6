"""How much faster more threads are, on layers with much work and with little."""

import pytest

from convopt.algorithms import parallel
from convopt.tuning import networks

NAMES = (
    "resnet50_3x3_64@56",
    "resnet50_1x1_512_2048@7",
    "vgg16_3x3_512@14",
    "mobilenetv2_dw3x3_384@14",
    "image_31x31_1@512",
    "resnet50_3x3_64@56_b8",
)
LAYERS = {layer.name: layer.shape for layer in networks.network("public")}
COUNTS = sorted({1, 2, *(count for count in (4, 8, 16, 32) if count < parallel.usable_cores()), parallel.usable_cores()})
_alone = {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [count for count in COUNTS if count <= parallel.usable_cores()])
def test_threads(run, benchmark, name, count):
    benchmark.group = f"threads on {name}"
    run(LAYERS[name], threads=count)
    if benchmark.stats is None:
        return
    _alone.setdefault(name, benchmark.stats.stats.min * count)
    benchmark.extra_info["speedup"] = round(_alone[name] / benchmark.stats.stats.min, 2)
