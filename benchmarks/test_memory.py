"""Memory and time against im2col as one writes it in NumPy: the whole matrix at once, then one product.

extra_info: by how many MiB the process grew at most, filters and result included.
"""

import numpy as np
import pytest
from conftest import arguments

import convopt
from convopt.bench.engines.memory import memory, settle_memory
from convopt.tuning import networks

NAMES = ("resnet50_3x3_64@56", "vgg16_3x3_64@224", "alexnet_5x5_96_256@27", "image_15x15_16@128")
LAYERS = {layer.name: layer.shape for layer in networks.network("public")}


def plan(shape, x, filters, threads):
    return convopt.plan(x.shape, filters, shape.strides, shape.pads, dilations=shape.dilations, tune="estimate", threads=threads)


def im2col(shape, filters):
    matrix = filters.reshape(-1, shape.k)

    def call(x):
        padded = np.pad(x, ((0, 0), *shape.pads, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (shape.r, shape.s), axis=(1, 2))
        windows = windows[:, :: shape.strides[0], :: shape.strides[1]].transpose(0, 1, 2, 4, 5, 3)
        return (windows.reshape(-1, matrix.shape[0]) @ matrix).reshape(shape.output_shape)

    return call


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("road", ["convopt", "numpy_im2col"])
def test_memory(benchmark, threads, name, road):
    benchmark.group = f"memory on {name}"
    shape = LAYERS[name]
    x, filters = arguments(shape)
    before = settle_memory()
    call = plan(shape, x, filters, threads) if road == "convopt" else im2col(shape, filters)
    call(x)
    benchmark.extra_info["grown_mib"] = round((memory("VmHWM") - before) / 2**20, 1)
    benchmark(call, x)
