"""Running one algorithm on one shape in a hostile surrounding, and holding the result to its bound."""

import numpy as np
from guarded import guarded

from convopt.algorithms import reference
from convopt.algorithms.memory import Buffer

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
LIMITS = {None: (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}


def data(kind, shape, rng):
    """Values of one kind: 'normal' (zero-mean), 'positive', 'lognormal', or 'integer' (small, so that sums are exact)."""
    if kind == "integer":
        return rng.integers(-3, 4, shape).astype(float)
    if kind == "lognormal":
        return rng.lognormal(0, 2, shape) * rng.choice([-1, 1], shape)
    return rng.random(shape) if kind == "positive" else rng.standard_normal(shape)


def run(algorithm, shape, params, x, filters, bias=None, activation=None, threads=1, at_end=True):
    """The algorithm's output; every array lies against a forbidden page, output and workspace are poisoned before."""
    convolver = algorithm.Implementation(shape, params)
    convolver.pack_filters(guarded(filters.astype(shape.dtype), at_end))
    workspace = Buffer(convolver.workspace_bytes(threads))
    workspace.fill(0xA5)
    out = guarded(np.full(shape.output_shape, np.nan, shape.dtype), at_end)
    low, high = LIMITS[activation]
    convolver.run_on(guarded(x.astype(shape.dtype), at_end), out, workspace, bias, low, high, threads)
    return out


def check_direct_bound(algorithm, shape, params, kind="normal", activation=None, threads=1, with_bias=True, seed=0, at_end=True):
    """|y - y64| <= max(8, 2 sqrt(Q)) u conv(|x|, |w|) element by element; bitwise equality for integers."""
    rng = np.random.default_rng(seed)
    x = data(kind, shape.input_shape, rng).astype(shape.dtype)
    filters = data(kind, shape.filters_shape, rng).astype(shape.dtype)
    bias = data(kind, (shape.k,), rng).astype(shape.dtype) if with_bias else None
    y = run(algorithm, shape, params, x, filters, bias, activation, threads, at_end)
    expected = reference.conv2d(x, filters, shape, bias, activation)
    label = f"{algorithm.NAME} {params} {shape.key()} {kind} {activation} threads={threads}"
    if kind == "integer":
        np.testing.assert_array_equal(y, expected, err_msg=label)
        return
    magnitude = reference.conv2d(np.abs(x), np.abs(filters), shape, None if bias is None else np.abs(bias))
    bound = max(8.0, 2.0 * shape.depth**0.5) * UNIT[shape.dtype] * magnitude
    excess = np.abs(y - expected) - bound
    assert (excess <= 0).all(), f"{label}: {np.nanmax(excess / (bound + 1e-300)) + 1} times the bound, {np.isnan(y).sum()} NaNs"
