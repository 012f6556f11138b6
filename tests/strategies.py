"""What tests feed to convolutions, and how far results may be off: shapes, three kinds of data, error bounds."""

import math
import os

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from convopt.algorithms import reference
from convopt.shape import DATA_FORMATS, DTYPES, ConvShape

#: Distance from 1 to the next smaller number: the unit of rounding errors.
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
#: Kinds of floating-point data; positive data alone hides the cancellation of Winograd, log-normal data its lack of scale.
KINDS = ("normal", "positive", "lognormal")
#: Channel counts at and around the vector lengths 2, 4, 8 and 16 and the register tiles made of them.
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33)
#: Most work of one example: some milliseconds with the slowest algorithm on the slowest instruction set.
MAX_FLOPS = 2e7


def examples(count):
    """Hypothesis examples to try where `count` are enough every day; CONVOPT_TEST_EXAMPLES is a factor."""
    return max(1, round(count * float(os.environ.get("CONVOPT_TEST_EXAMPLES") or 1)))


def data(kind, sizes, rng, dtype="float64"):
    """Values of one of KINDS, or "integer": small enough for every sum to be exact."""
    if kind == "integer":
        values = rng.integers(-4, 5, sizes)
    elif kind == "lognormal":
        values = rng.lognormal(0, 2, sizes) * rng.choice([-1, 1], sizes)
    else:
        values = rng.random(sizes) if kind == "positive" else rng.standard_normal(sizes)
    return values.astype(dtype)


@st.composite
def conv_shapes(draw, data_formats=DATA_FORMATS, dtypes=tuple(DTYPES)):
    """Any ConvShape of moderate size whose output is not empty."""
    groups, group_c, group_k = draw(channels())
    kernel = draw(st.one_of(st.just((3, 3)), st.tuples(st.integers(1, 7), st.integers(1, 7))))
    plain = draw(st.booleans())  # half of them are what every algorithm serves
    steps = st.just((1, 1)) if plain else st.tuples(st.integers(1, 4), st.integers(1, 4))
    strides, dilations = draw(steps), draw(steps)
    padding = draw(st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(pads(), pads())))
    spatial = []
    for axis in range(2):
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        least = 1 if padding == "SAME" else extent if padding == "VALID" else max(1, extent - sum(padding[axis]))
        spatial.append(least + draw(st.integers(0, 19)))
    n, data_format = draw(st.integers(1, 3)), draw(st.sampled_from(data_formats))
    sizes = (n, *spatial, groups * group_c) if data_format == "NHWC" else (n, groups * group_c, *spatial)
    filters = (*kernel, group_c, groups * group_k)
    shape = ConvShape.from_arguments(sizes, filters, strides, padding, data_format, dilations, draw(st.sampled_from(dtypes)))
    assume(shape.flops <= MAX_FLOPS)
    return shape


def pads():
    """(before, after) along one axis, as often as not unequal."""
    return st.tuples(st.integers(0, 4), st.integers(0, 4))


def channels():
    """(groups, input channels per group, output channels per group): plain, grouped, or depthwise with a multiplier."""
    few = st.sampled_from([size for size in CHANNELS if size <= 9])
    return st.one_of(
        st.tuples(st.just(1), st.sampled_from(CHANNELS), st.sampled_from(CHANNELS)),
        st.tuples(st.integers(2, 5), few, few),
        st.tuples(st.sampled_from([size for size in CHANNELS if size > 1]), st.just(1), st.integers(1, 3)),
    )


def served(shape, applies):
    """The shape, made plainer feature by feature until `applies(shape)`; None where nothing helps.

    So that an algorithm of narrow domain gets as many examples as any, none of them discarded.
    """
    simpler = (
        {"strides": (1, 1)},
        {"dilations": (1, 1)},
        {"r": 3, "s": 3},
        {"groups": 1},
        {"groups": shape.c, "k": shape.c},
        {"r": 3, "s": 3, "groups": 1, "strides": (1, 1), "dilations": (1, 1)},
    )
    if applies(shape):
        return shape
    changes = {}
    for change in simpler:
        changes = {**changes, **change}
        for attempt in (change, changes):
            plainer = _replaced(shape, attempt)
            if plainer is not None and applies(plainer):
                return plainer
    return None


def _replaced(shape, changes):
    values = {name: getattr(shape, name) for name in ConvShape.__dataclass_fields__} | changes
    if values["k"] % values["groups"] or values["c"] % values["groups"]:
        return None
    plainer = ConvShape(**values)
    return None if plainer.is_empty or plainer.flops > MAX_FLOPS else plainer


def error_bound(algorithm, params, shape, x, filters, bias=None):
    """Largest acceptable |y - y64|, an array that broadcasts to the output.

    Sums in plain order have a bound for every element, max(8, 2 sqrt(Q)) u A with A = conv(|x|, |w|). Winograd and FFT
    have none: Winograd's is relative to the largest A of the image, the FFT's to the norms of image and filter,
    where small tiles with many channels round more in the sum over channels than in the transforms.
    """
    unit = UNIT[shape.dtype] * (2 if shape.dtype == "float64" else 1)  # the float64 reference rounds as well
    magnitude = reference.conv2d(np.abs(x), np.abs(filters), shape, None if bias is None else np.abs(bias))
    if algorithm == "winograd":
        scale = {4: 20.0, 5: 150.0, 6: 150.0}.get(params["t"], 400.0)
        return scale * unit * magnitude.max(axis=(1, 2, 3), keepdims=True)
    if algorithm == "fft":
        passes = max(math.log2(params["nh"] * params["nw"]), math.sqrt(shape.group_c) / 2)
        return unit * (passes * _norms(shape, x, filters) + magnitude)
    return max(8.0, 2.0 * math.sqrt(shape.depth)) * unit * magnitude


def _norms(shape, x, filters):
    """norm2(x) * norm2(w of filter k), one number per output channel.

    Two real tiles go as one complex tile, and each gets a share of the other's rounding. They may belong to two images,
    and in depthwise convolutions to two channels: so the loudest image counts, and there the loudest channel.
    """
    x64 = np.asarray(x, np.float64) if shape.data_format == "NHWC" else np.moveaxis(np.asarray(x, np.float64), 1, -1)
    images = np.sqrt((x64.reshape(shape.n, -1, shape.groups, shape.group_c) ** 2).sum(axis=(1, 3))).max(axis=0)
    norms = np.repeat(images, shape.group_k) * np.sqrt((np.asarray(filters, np.float64) ** 2).sum(axis=(0, 1, 2)))
    if shape.is_depthwise:
        norms[:] = norms.max()
    return norms if shape.data_format == "NHWC" else norms[:, None, None]


def excess(y, exact, bound):
    """Largest error in units of the bound; infinite where y is NaN or elsewhere infinite than `exact`."""
    if y.size == 0:
        return 0.0
    error = np.abs(np.asarray(y, np.float64) - exact)
    ratio = np.where(error == 0, 0.0, error / (bound + np.finfo(np.float64).tiny))
    return float(np.where(np.isnan(ratio), np.inf, ratio).max())
