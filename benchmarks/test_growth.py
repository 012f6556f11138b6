"""How time grows with batch, channels, image and kernel, everything else as in one layer of ResNet-50."""

import pytest

from convopt.shape import ConvShape

BASE = {"batch": 1, "size": 28, "channels": 128, "kernel": 3}
VALUES = {"batch": (1, 2, 4, 8, 16), "size": (7, 14, 28, 56, 112), "channels": (4, 16, 64, 128, 256), "kernel": (1, 3, 5, 7, 11)}


@pytest.mark.parametrize(("dimension", "value"), [(name, value) for name, values in VALUES.items() for value in values])
def test_growth(run, benchmark, dimension, value):
    benchmark.group = f"growing {dimension}"
    sizes = BASE | {dimension: value}
    n, size, channels, kernel = sizes.values()
    run(ConvShape.from_arguments((n, size, size, channels), (kernel, kernel, channels, channels), padding="SAME"))
