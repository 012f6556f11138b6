"""Algorithm against algorithm: every one that applies, with its default parameters, on layers of different kinds."""

import pytest

from convopt.tuning import networks, planner

NAMES = (
    "resnet50_3x3_64@56",
    "resnet50_1x1_1024_256@14",
    "resnet50_3x3s2_128@56",
    "vgg16_3x3_3_64@224",
    "alexnet_5x5_96_256@27",
    "mobilenetv2_dw3x3_384@14",
    "image_15x15_16@128",
)
LAYERS = {layer.name: layer.shape for layer in networks.network("public")}
PAIRS = [(name, algorithm) for name in NAMES for algorithm in planner.applicable(LAYERS[name])]


@pytest.mark.parametrize(("name", "algorithm"), PAIRS)
def test_algorithm(run, benchmark, name, algorithm):
    benchmark.group = name
    run(LAYERS[name], algorithm)


@pytest.mark.parametrize("name", NAMES)
def test_regret(run, benchmark, name):
    """The cost model's choice, which is what a first call gets; against the algorithms' own rows it shows what guessing costs."""
    benchmark.group = name
    run(LAYERS[name], tune="estimate")
