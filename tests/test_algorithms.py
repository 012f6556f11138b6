"""Every algorithm of the table, with every parameter set, on every instruction set, against the float64 reference.

Inputs, filters and outputs lie against forbidden pages, so does the end of the workspace; outputs hold NaN before the call.
"""

import numpy as np
import pytest
from guarded import guarded, guarded_workspace
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import KINDS, conv_shapes, data, error_bound, examples, excess, served

from convopt.algorithms import ALGORITHMS, native_shape, prepare, reference
from convopt.shape import ACTIVATIONS, ConvShape

#: Algorithms that only add products in some order: exact whenever every partial sum is.
SUMMING = [name for name in ALGORITHMS if name not in ("winograd", "fft")]
UNTOUCHED = 0xA5
NANS = 0xFF

# Layers as networks have them: large enough for several blocks, panels and threads.
LAYERS = {
    "first": ((1, 61, 59, 3), (7, 7, 3, 64), 2, "SAME", 1),
    "3x3": ((1, 28, 30, 64), (3, 3, 64, 72), 1, "SAME", 1),
    "3x3_deep": ((1, 9, 7, 256), (3, 3, 256, 80), 1, "SAME", 1),
    "3x3_batch": ((5, 12, 12, 33), (3, 3, 33, 47), 1, "VALID", 1),
    "3x3_dilated": ((1, 33, 33, 20), (3, 3, 20, 36), 1, "SAME", 2),
    "1x1": ((2, 14, 14, 192), (1, 1, 192, 130), 1, "VALID", 1),
    "5x5": ((1, 27, 27, 24), (5, 5, 24, 64), 1, "SAME", 1),
    "15x15": ((1, 64, 50, 8), (15, 15, 8, 8), 1, "SAME", 1),
    "1x7": ((1, 17, 17, 48), (1, 7, 48, 48), 1, "SAME", 1),
    "depthwise": ((2, 30, 31, 72), (3, 3, 1, 72), 1, "SAME", 1),
    "depthwise_s2": ((1, 31, 30, 35), (5, 5, 1, 70), 2, "SAME", 1),
    "grouped": ((1, 20, 20, 64), (3, 3, 4, 64), 1, "SAME", 1),
    "picture": ((1, 120, 97, 1), (31, 31, 1, 1), 1, "SAME", 1),
}


def layer(name, data_format="NHWC", dtype="float32"):
    (n, h, w, c), filters, strides, padding, dilations = LAYERS[name]
    sizes = (n, h, w, c) if data_format == "NHWC" else (n, c, h, w)
    return ConvShape.from_arguments(sizes, filters, strides, padding, data_format, dilations, dtype)


def applies(name, shape):
    return ALGORITHMS[name].why_not(native_shape(ALGORITHMS[name], shape)) is None


def parameter_sets(name, shape):
    return ALGORITHMS[name].candidates(native_shape(ALGORITHMS[name], shape))


class Case:
    """Arguments of one convolution, made hostile, with the exact result."""

    def __init__(self, shape, kind="normal", activation=None, with_bias=True, seed=0, at_end=True):
        rng = np.random.default_rng(seed)
        self.shape, self.activation, self.at_end = shape, activation, at_end
        self.x = guarded(data(kind, shape.input_shape, rng, shape.dtype), at_end)
        self.filters = guarded(data(kind, shape.filters_shape, rng, shape.dtype), at_end)
        self.bias = data(kind, (shape.k,), rng, shape.dtype) if with_bias else None
        self.label = f"{shape.key()} {kind} {activation} bias={with_bias}"

    def exact(self):
        with np.errstate(invalid="ignore"):
            return reference.conv2d(self.x, self.filters, self.shape, self.bias, self.activation)

    def prepared(self, algorithm, params, threads=1):
        convolver = prepare(algorithm, self.shape, params)
        convolver.pack_filters(self.filters, threads)
        return convolver

    def run(self, convolver, threads=1, poison=UNTOUCHED):
        out = guarded(np.full(self.shape.output_shape, np.nan, self.shape.dtype), self.at_end)
        with guarded_workspace(convolver.workspace_bytes(threads), poison) as workspace:
            convolver.run_on(self.x, out, workspace, self.bias, *ACTIVATIONS[self.activation], threads)
        return out

    def check(self, algorithm, params, threads=1):
        """Within the bound, and the same bits again from the same plan with other garbage in its workspace."""
        convolver = self.prepared(algorithm, params, threads)
        y = self.run(convolver, threads)
        bound = error_bound(algorithm, params, self.shape, self.x, self.filters, self.bias)
        off = excess(y, self.exact(), bound)
        label = f"{algorithm} {params} on {self.label}, {threads} threads"
        assert off <= 1, f"{label}: {off:.3g} times the bound, {np.isnan(y).sum()} of {y.size} results are NaN"
        again = self.run(convolver, threads, NANS)
        assert np.array_equal(y, again), f"{label}: the workspace's old contents show in the result"


cases = st.builds(
    dict,
    kind=st.sampled_from(KINDS),
    activation=st.sampled_from(list(ACTIVATIONS)),
    with_bias=st.booleans(),
    seed=st.integers(0, 2**31),
    at_end=st.booleans(),
)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=examples(50))
@given(st.data(), conv_shapes(), cases, st.integers(1, 3))
def test_any_shape_within_the_bound(isa, algorithm, draw, shape, case, threads):
    shape = served(shape, lambda candidate: applies(algorithm, candidate))
    assume(shape is not None)
    case = Case(shape, **case)
    params = draw.draw(st.sampled_from(parameter_sets(algorithm, shape)))
    case.check(algorithm, params, threads)


@pytest.mark.parametrize("algorithm", SUMMING)
@settings(max_examples=examples(50))
@given(conv_shapes(), st.sampled_from(list(ACTIVATIONS)), st.booleans(), st.integers(1, 3), st.integers(0, 2**31))
def test_integers_are_exact(isa, algorithm, shape, activation, with_bias, threads, seed):
    shape = served(shape, lambda candidate: applies(algorithm, candidate))
    assume(shape is not None)
    case = Case(shape, "integer", activation, with_bias, seed)
    for params in parameter_sets(algorithm, shape):
        y = case.run(case.prepared(algorithm, params, threads), threads)
        np.testing.assert_array_equal(y, case.exact(), err_msg=f"{algorithm} {params} on {case.label}, {threads} threads")


@pytest.mark.parametrize("layer_name", LAYERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_layers_of_networks_with_every_parameter_set(isa, algorithm, layer_name):
    shape = layer(layer_name)
    if not applies(algorithm, shape):
        pytest.skip(ALGORITHMS[algorithm].why_not(shape))
    for i, params in enumerate(parameter_sets(algorithm, shape)):
        Case(shape, KINDS[i % 3], seed=i, at_end=i % 2 == 0).check(algorithm, params, threads=1 + i % 3)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_kinds_of_data_layouts_and_float64(isa, algorithm, data_format):
    for layer_name in LAYERS:
        shape = layer(layer_name, data_format, "float64")
        if applies(algorithm, shape) and shape.flops < 1e7:
            for i, kind in enumerate(KINDS):
                Case(shape, kind, seed=i).check(algorithm, parameter_sets(algorithm, shape)[0], threads=1 + i)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=examples(30))
@given(st.data(), conv_shapes(dtypes=("float32",)), st.integers(0, 2**31))
def test_nan_reaches_only_the_windows_that_hold_it(isa, algorithm, draw, shape, seed):
    if ALGORITHMS[algorithm].SPREADS_NONFINITE:
        pytest.skip(f"{algorithm} says that it spreads NaN and Inf")
    shape = served(shape, lambda candidate: applies(algorithm, candidate))
    assume(shape is not None)
    case = Case(shape, activation="relu", seed=seed)
    case.x.flat[draw.draw(st.integers(0, case.x.size - 1))] = np.nan
    y = case.run(case.prepared(algorithm, parameter_sets(algorithm, shape)[0]))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(case.exact()), err_msg=case.label)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_and_infinity_are_never_lost(isa, algorithm):
    for layer_name in LAYERS:
        shape = layer(layer_name)
        for value in (np.nan, np.inf, -np.inf):
            if applies(algorithm, shape):
                case = Case(shape)
                case.x[0, shape.h // 2, shape.w // 2] = value
                y, exact = case.run(case.prepared(algorithm, parameter_sets(algorithm, shape)[0])), case.exact()
                assert not np.isfinite(y[~np.isfinite(exact)]).any(), f"{algorithm}: {value} vanished on {layer_name}"


@pytest.mark.parametrize("algorithm", SUMMING)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormal_numbers_are_numbers(isa, algorithm, dtype):
    """Neither flushed to zero by a kernel nor, afterwards, by the caller's own arithmetic."""
    for layer_name in ("3x3_batch", "depthwise", "first"):
        shape = layer(layer_name, dtype=dtype)
        if applies(algorithm, shape):
            tiny = np.finfo(dtype).smallest_subnormal
            case = Case(shape, "integer", with_bias=False)
            case.x *= tiny
            for threads in (1, 2):
                y = case.run(case.prepared(algorithm, parameter_sets(algorithm, shape)[0], threads), threads)
                np.testing.assert_array_equal(y / tiny, np.asarray(case.exact() / np.float64(tiny)))
            assert np.array([tiny], dtype) * np.array([1], dtype) != 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_new_filters_replace_the_old(isa, algorithm):
    for layer_name in LAYERS:
        shape = layer(layer_name)
        if applies(algorithm, shape) and shape.flops < 1e7:
            params = parameter_sets(algorithm, shape)[0]
            first, second = Case(shape, seed=1), Case(shape, seed=2)
            convolver = first.prepared(algorithm, params)
            first.run(convolver)
            convolver.pack_filters(second.filters)
            assert np.array_equal(second.run(convolver), second.run(second.prepared(algorithm, params)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=examples(40))
@given(conv_shapes(), st.integers(1, 8))
def test_what_an_algorithm_says_of_itself(isa, algorithm, shape, threads):
    module = ALGORITHMS[algorithm]
    assert algorithm == module.NAME
    assert isinstance(module.REVISION, int)
    assert set(module.LAYOUTS) <= {"NHWC", "NCHW"}
    native = native_shape(module, shape)
    reason = module.why_not(native)
    if reason is not None:
        assert len(reason) > 10
        return
    sets = module.candidates(native)
    assert sets == module.candidates(native), "candidates() must not depend on the moment"
    assert len({tuple(sorted(params.items())) for params in sets}) == len(sets) > 0
    for params in sets:
        assert all(type(key) is str and type(value) is int for key, value in params.items())
        assert 0 < module.expected_error(native, params) < 1e-3
        work = module.work(native, params, threads)
        assert work.gemm_flops + work.vector_flops > 0
        assert min(work.gemm_flops, work.vector_flops) >= 0
        assert 0 < work.gemm_efficiency <= 1
        assert work.moved_bytes > 0
        assert work.parts >= 1
        convolver = prepare(algorithm, shape, params)
        assert convolver.workspace_bytes(1) <= convolver.workspace_bytes(threads)
        assert convolver.params == params


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_expected_error_is_near_the_measured_one(algorithm):
    for layer_name in LAYERS:
        shape = layer(layer_name)
        if applies(algorithm, shape):
            case = Case(shape, with_bias=False)
            exact = case.exact()
            for params in parameter_sets(algorithm, shape):
                y = case.run(case.prepared(algorithm, params))
                error = np.abs(y - exact).max() / np.abs(exact).max()
                assert error <= 10 * ALGORITHMS[algorithm].expected_error(shape, params), f"{layer_name} {params}: {error}"


def test_reference_is_the_definition():
    """The oracle itself, against sums written out for every single output."""
    shape = ConvShape(2, 5, 6, 4, 6, 3, 2, (2, 1), (1, 2), ((1, 0), (2, 1)), 2, dtype="float64")
    rng = np.random.default_rng(0)
    x, filters = rng.standard_normal(shape.input_shape), rng.standard_normal(shape.filters_shape)
    bias = rng.standard_normal(shape.k)
    expected = np.zeros(shape.output_shape)
    for n, i, j, k in np.ndindex(shape.output_shape):
        total = bias[k]
        for r, s, c in np.ndindex(shape.r, shape.s, shape.group_c):
            row, column = i * 2 + r - 1, j + s * 2 - 2
            if 0 <= row < shape.h and 0 <= column < shape.w:
                total += x[n, row, column, k // 3 * 2 + c] * filters[r, s, c, k]
        expected[n, i, j, k] = max(total, 0.0)
    np.testing.assert_allclose(reference.conv2d(x, filters, shape, bias, "relu"), expected, rtol=1e-13, atol=1e-13)
