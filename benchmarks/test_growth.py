"""How time grows with batch, channels, image and kernel, everything else as in one layer of ResNet-50.

The same sizes as in the report's curves; extra_info: how many times longer than the size before it.
"""

import pytest

from convopt.bench.studies import GROWTH, growth_layers

SIZES = [(name, value, layer.shape) for name, layers in growth_layers().items() for value, layer in zip(GROWTH[name], layers, strict=True)]
_seconds = {}


@pytest.mark.parametrize(("dimension", "value", "shape"), SIZES, ids=[f"{name}-{value}" for name, value, _ in SIZES])
def test_growth(run, benchmark, dimension, value, shape):
    benchmark.group = f"growing {dimension}"
    run(shape)
    if benchmark.stats is None:
        return
    before = [size for size in GROWTH[dimension] if size < value and (dimension, size) in _seconds]
    _seconds[dimension, value] = benchmark.stats.stats.min
    if before:
        benchmark.extra_info["times_the_one_before"] = round(benchmark.stats.stats.min / _seconds[dimension, before[-1]], 2)
