"""Running one algorithm on one shape in a hostile surrounding, and holding the result to its bound."""

import numpy as np
from guarded import guarded, guarded_workspace
from strategies import UNIT, data, error_bound, excess

from convopt.algorithms import reference
from convopt.shape import ACTIVATIONS

__all__ = ["UNIT", "check_direct_bound", "data", "run"]


def run(algorithm, shape, params, x, filters, bias=None, activation=None, threads=1, at_end=True):
    """The algorithm's output; every array lies against a forbidden page, output and workspace are poisoned before."""
    convolver = algorithm.Implementation(shape, params)
    convolver.pack_filters(guarded(filters.astype(shape.dtype), at_end))
    out = guarded(np.full(shape.output_shape, np.nan, shape.dtype), at_end)
    with guarded_workspace(convolver.workspace_bytes(threads)) as workspace:
        convolver.run_on(guarded(x.astype(shape.dtype), at_end), out, workspace, bias, *ACTIVATIONS[activation], threads)
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
    off = excess(y, expected, error_bound(algorithm.NAME, params, shape, x, filters, bias))
    assert off <= 1, f"{label}: {off:.3g} times the bound, {np.isnan(y).sum()} NaNs"
