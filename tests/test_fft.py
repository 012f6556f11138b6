"""FFT convolution against the float64 reference: shapes, paddings, groups, threads, instruction sets, tilings."""

import math
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convopt.algorithms import fft, reference
from convopt.algorithms.memory import Buffer
from convopt.kernels import registry
from convopt.kernels.fourier import LENGTHS
from convopt.shape import ConvShape

DATA = ("zero-mean", "positive", "log-normal")
UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}


def values(kind, shape, dtype, rng):
    x = rng.standard_normal(shape)
    if kind == "positive":
        x = np.abs(x)
    elif kind == "log-normal":
        x = np.exp(2 * x)
    return x.astype(dtype)


def run(shape, params, x, filters, bias=None, activation=None, threads=1):
    """One call on poisoned memory."""
    convolver = fft.Implementation(shape, params)
    convolver.pack_filters(filters)
    workspace = Buffer(convolver.workspace_bytes(threads))
    workspace.fill(0xA5)
    out = np.full(shape.output_shape, np.nan, shape.dtype)
    low, high = reference.ACTIVATIONS[activation]
    convolver.run_on(x, out, workspace, bias, low, high, threads)
    return out


def bound(shape, params, x, filters):
    """log2(P^2) u |x_n| |w_k| for each image n and output channel k, P^2 being the points of a tile, at least 16 x 16."""
    images = np.sqrt((x.astype(np.float64).reshape(shape.n, -1) ** 2).sum(axis=1))
    kernels = np.sqrt((filters.astype(np.float64) ** 2).sum(axis=(0, 1, 2)))
    steps = max(math.log2(params["nh"] * params["nw"]), 8)
    return steps * UNIT_ROUNDOFF[shape.dtype] * images[:, None, None, None] * kernels


def check(shape, params, seed=0, kind="zero-mean", threads=1, activation=None, with_bias=False):
    """Assert the elementwise bound for one call on random data; returns the relative error in the L2 norm."""
    rng = np.random.default_rng(seed)
    x, filters = values(kind, shape.input_shape, shape.dtype, rng), values(kind, shape.filters_shape, shape.dtype, rng)
    bias = values(kind, (shape.k,), shape.dtype, rng) if with_bias else None
    out = run(shape, params, x, filters, bias, activation, threads)
    expected = reference.conv2d(x, filters, shape, bias, activation)
    allowed = bound(shape, params, x, filters)
    if with_bias:
        allowed = allowed + 2 * UNIT_ROUNDOFF[shape.dtype] * (np.abs(bias) + np.abs(expected).max())
    assert (np.abs(out - expected) <= allowed).all()
    return np.linalg.norm(out - expected) / max(np.linalg.norm(expected), 1e-300)


SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
KERNELS = st.tuples(st.integers(1, 12), st.integers(1, 12))
PADS = st.sampled_from(["SAME", "VALID", "explicit"])
PITCHES = st.one_of(st.just((1, 1)), st.sampled_from([(2, 2), (1, 2), (3, 1), (4, 6), (5, 3), (40, 2)]))
CHANNELS = st.sampled_from(
    [
        (1, 1, 1),
        (1, 3, 5),
        (1, 1, 17),
        (1, 20, 1),
        (1, 16, 33),
        (1, 40, 16),
        (2, 3, 2),
        (3, 17, 5),
        (2, 1, 3),
        (5, 1, 1),
        (36, 1, 1),
        (7, 1, 2),
    ]
)


@st.composite
def shapes(draw):
    (h, w), (r, s), padding = draw(SIZES), draw(KERNELS), draw(PADS)
    groups, group_c, group_k = draw(CHANNELS)
    strides, dilations = draw(PITCHES), draw(PITCHES)
    if padding == "VALID":
        r, s = (min(kernel, (size - 1) // apart + 1) for kernel, size, apart in zip((r, s), (h, w), dilations, strict=True))
    if padding == "explicit":
        short = [max((kernel - 1) * apart + 1 - size, 0) for kernel, size, apart in zip((r, s), (h, w), dilations, strict=True)]
        padding = [[draw(st.integers(0, 14)), draw(st.integers(0, 14)) + missing] for missing in short]
    dtype = draw(st.sampled_from(["float32", "float32", "float64"]))
    return ConvShape.from_arguments(
        [draw(st.integers(1, 3)), h, w, groups * group_c], [r, s, group_c, groups * group_k], strides, padding, "NHWC", dilations, dtype
    )


@given(shape=shapes(), data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_agrees_with_the_reference(isa, shape, data):
    params = data.draw(st.sampled_from(fft.candidates(shape)))
    check(
        shape,
        params,
        seed=data.draw(st.integers(0, 99)),
        kind=data.draw(st.sampled_from(DATA)),
        threads=data.draw(st.integers(1, 3)),
        activation=data.draw(st.sampled_from([None, "relu", "relu6"])),
        with_bias=data.draw(st.booleans()),
    )


@pytest.mark.parametrize("n", [n for n in LENGTHS if n > 1])
@pytest.mark.parametrize("channels", [(3, 2, 1), (4, 4, 4)])
def test_every_length_along_both_axes(isa, n, channels):
    c, k, groups = channels
    for nh, nw, size in ((n, 8, (n + 3, 9)), (8, n, (9, n + 3))):
        shape = ConvShape.from_arguments([1, *size, c], [3, 3, c // groups, k], 1, "SAME")
        check(shape, {"nh": nh, "nw": nw}, threads=2)


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize(
    ("sizes", "filters"),
    [
        ((1, 33, 35, 16), (15, 15, 16, 16)),
        ((2, 20, 20, 18), (17, 17, 1, 18)),
        ((1, 70, 66, 1), (9, 9, 1, 64)),
        ((1, 17, 17, 30), (1, 7, 30, 20)),
        ((1, 19, 40, 6), (7, 1, 6, 6)),
        ((1, 150, 139, 1), (9, 9, 1, 1)),
        ((2, 60, 50, 3), (5, 5, 1, 6)),
    ],
)
def test_layers_as_users_have_them(isa, kind, sizes, filters):
    shape = ConvShape.from_arguments(sizes, filters, 1, "SAME")
    for params in fft.candidates(shape)[:2]:
        assert check(shape, params, kind=kind, threads=3) < 2e-6
        check(shape, params, kind=kind, threads=2, with_bias=True, activation="relu")


@pytest.mark.parametrize("strides", [1, 2, (6, 2), 20])
@pytest.mark.parametrize("dilations", [1, 2, (4, 6)])
@pytest.mark.parametrize(("channels", "filters", "groups"), [(3, 20, 1), (20, 18, 1), (6, 12, 2), (20, 40, 20), (1, 1, 1)])
def test_strides_and_dilations(isa, strides, dilations, channels, filters, groups):
    """Several tiles and one, several images and one."""
    for n, padding in ((1, "SAME"), (3, [[7, 2], [0, 5]])):
        shape = ConvShape.from_arguments([n, 37, 41, channels], [5, 7, channels // groups, filters], strides, padding, dilations=dilations)
        for params in ({"nh": 16, "nw": 12}, {"nh": 56, "nw": 64}):
            assert check(shape, params, threads=2, with_bias=True, activation="relu6") < 2e-6


def test_kernels_too_long_for_any_tile_are_served_with_strides():
    shape = ConvShape.from_arguments([1, 700, 5, 1], [400, 2, 1, 2], (4, 1))
    check(shape, fft.candidates(shape)[0])


def test_input_phases_without_taps_are_left_out():
    """1x1 filters use one pixel of each stride x stride, and cost no more for the others."""
    strided = ConvShape.from_arguments([1, 64, 64, 32], [1, 1, 32, 32], 4)
    params = {"nh": 16, "nw": 16}
    dense = ConvShape.from_arguments([1, 16, 16, 32], [1, 1, 32, 32], 1)
    assert fft.work(strided, params, 1).gemm_flops == fft.work(dense, params, 1).gemm_flops
    check(strided, params)


def test_filters_larger_than_the_image():
    shape = ConvShape.from_arguments([2, 5, 4, 3], [11, 13, 3, 4], 1, "SAME")
    for params in fft.candidates(shape):
        check(shape, params)


def test_outputs_that_see_nothing_but_padding_are_the_bias():
    shape = ConvShape.from_arguments([1, 3, 3, 2], [3, 3, 2, 5], 1, [[40, 2], [3, 50]])
    check(shape, fft.candidates(shape)[0], with_bias=True)


def test_several_batches_of_tiles_give_the_same(isa):
    shape = ConvShape.from_arguments([3, 90, 90, 40], [5, 5, 40, 24], 1, "SAME")
    check(shape, {"nh": 8, "nw": 8}, threads=2)


def test_same_bits_for_any_number_of_threads(isa):
    rng = np.random.default_rng(5)
    for sizes, filters in (((1, 40, 41, 20), (5, 5, 20, 18)), ((1, 30, 30, 70), (9, 9, 1, 70)), ((2, 64, 64, 1), (9, 9, 1, 1))):
        shape = ConvShape.from_arguments(sizes, filters, 1, "SAME")
        x, w = rng.standard_normal(sizes).astype("f4"), rng.standard_normal(filters).astype("f4")
        params = fft.candidates(shape)[0]
        one = run(shape, params, x, w)
        for threads in (2, 3, 7):
            np.testing.assert_array_equal(run(shape, params, x, w, threads=threads), one)


@pytest.mark.parametrize(
    ("sizes", "filters"),
    [
        ((1, 40, 37, 1), (5, 5, 1, 9)),
        ((3, 21, 33, 2), (3, 7, 2, 33)),
        ((1, 70, 50, 4), (9, 1, 4, 16)),
        ((1, 8, 7, 3), (3, 3, 3, 40)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_filters_on_few_channels(isa, sizes, filters, dtype):
    shape = ConvShape.from_arguments(sizes, filters, 1, "SAME", dtype=dtype)
    for params in ({"nh": 16, "nw": 16}, {"nh": 20, "nw": 12}, {"nh": 64, "nw": 64}):
        check(shape, params, threads=3, with_bias=True, activation="relu")


@pytest.mark.parametrize("offset", [0, 1, 5])
@pytest.mark.parametrize("k", [45, 48])
def test_results_too_large_for_the_caches_go_past_them(isa, offset, k):
    """Such stores need alignment: the results must be the same at any address, and nothing beside them be touched."""
    shape = ConvShape.from_arguments([1, 160, 170, 1], [5, 5, 1, k], 1, "SAME")
    rng = np.random.default_rng(6)
    x, w = rng.standard_normal(shape.input_shape).astype("f4"), rng.standard_normal(shape.filters_shape).astype("f4")
    room = np.full(math.prod(shape.output_shape) + 200, 7.0, "f4")
    offset += -(room.ctypes.data // 4 + 100) % 16
    out = room[100 + offset : offset - 100].reshape(shape.output_shape)
    convolver = fft.Implementation(shape, {"nh": 32, "nw": 24})
    convolver.pack_filters(w, 2)
    convolver.run_on(x, out, Buffer(convolver.workspace_bytes(2)), threads=2)
    expected = reference.conv2d(x, w, shape)
    np.testing.assert_allclose(out, expected, atol=1e-6 * np.abs(expected).max())
    assert (room[: 100 + offset] == 7).all()
    assert (room[offset - 100 :] == 7).all()


@pytest.mark.parametrize(("channels", "filters", "groups"), [(7, 37, 1), (6, 30, 2), (40, 40, 40), (3, 6, 3), (1, 1, 1), (1, 20, 1)])
def test_threads_pack_what_one_packs(isa, channels, filters, groups):
    shape = ConvShape.from_arguments([1, 30, 31, channels], [3, 5, channels // groups, filters], 1, "SAME")
    rng = np.random.default_rng(7)
    x, w = rng.standard_normal(shape.input_shape).astype("f4"), rng.standard_normal(shape.filters_shape).astype("f4")
    results = []
    for threads in (1, 2, 5):
        convolver = fft.Implementation(shape, {"nh": 16, "nw": 16})
        convolver.pack_filters(w, threads)
        out = np.empty(shape.output_shape, "f4")
        convolver.run_on(x, out, Buffer(convolver.workspace_bytes(1)))
        results.append(out)
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


def test_saying_why_not_is_cheap():
    """The planner asks for every shape there is; so it must not cost what comparing all tilings does."""
    shapes = [ConvShape.from_arguments([1, 200 + i, 300, 3], [7, 7, 3, 64], 1, "SAME") for i in range(50)]
    started = time.perf_counter()
    assert not any(fft.why_not(shape) for shape in shapes)
    assert time.perf_counter() - started < 50 * 1e-3


def test_one_candidate_needs_little_memory():
    shape = ConvShape.from_arguments([1, 56, 56, 64], [3, 3, 64, 64], 1, "SAME")
    sizes = [fft.Implementation(shape, params).workspace_bytes(1) for params in fft.candidates(shape)]
    assert 2 * sizes[-1] <= sizes[0]


def test_one_channel_needs_the_memory_of_one_pair_of_tiles(isa):
    """Lanes are pixels of it: with tiles in lanes, their spectra would outgrow a second-level cache."""
    shape = ConvShape.from_arguments([1, 900, 900, 1], [63, 63, 1, 1], 1, "SAME")
    params = {"nh": 160, "nw": 160}
    assert fft.Implementation(shape, params).workspace_bytes(1) < 1.3 * 160 * 160 * 8
    assert check(shape, params, threads=2) < 2e-6


@pytest.mark.parametrize("sizes", [(1, 40, 61, 3), (2, 9, 70, 2), (1, 20, 20, 1), (3, 33, 1, 1), (2, 1, 50, 1), (1, 64, 64, 4)])
@pytest.mark.parametrize("multiplier", [1, 3])
def test_few_channels_with_filters_of_their_own(isa, sizes, multiplier):
    """Tiles with more and with fewer rows and columns than a vector has lanes, and no multiple of them; bias by channel."""
    c = sizes[3]
    shape = ConvShape.from_arguments(sizes, [5, 3, 1, c * multiplier], 1, "SAME")
    for params in ({"nh": 20, "nw": 12}, {"nh": 6, "nw": 36}, {"nh": 72, "nw": 80}):
        check(shape, params, threads=3, with_bias=True, activation="relu")


def test_filters_may_be_packed_again():
    shape = ConvShape.from_arguments([1, 20, 20, 3], [5, 5, 3, 4], 1, "SAME")
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape.input_shape).astype("f4")
    convolver = fft.Implementation(shape, fft.candidates(shape)[0])
    workspace, out = Buffer(convolver.workspace_bytes(1)), np.empty(shape.output_shape, "f4")
    for _ in range(2):
        w = rng.standard_normal(shape.filters_shape).astype("f4")
        convolver.pack_filters(w)
        convolver.run_on(x, out, workspace)
        np.testing.assert_allclose(out, reference.conv2d(x, w, shape), atol=2e-5)


def test_says_why_not():
    assert "300 x 3" in fft.why_not(ConvShape.from_arguments([1, 1000, 9, 1], [300, 3, 1, 1]))
    assert fft.why_not(ConvShape.from_arguments([1, 1000, 1000, 1], [200, 200, 1, 1])) is None


def test_candidates_run_and_are_distinct():
    for sizes, filters in (((1, 56, 56, 64), (3, 3, 64, 64)), ((1, 4, 4, 1), (1, 1, 1, 1)), ((1, 300, 20, 2), (200, 2, 2, 2))):
        shape = ConvShape.from_arguments(sizes, filters, 1, "SAME")
        found = fft.candidates(shape)
        assert found
        assert len({tuple(params.items()) for params in found}) == len(found)
        for params in found:
            work = fft.work(shape, params, 2)
            assert work.vector_flops > 0
            assert work.parts >= 1
            assert 1e-8 < fft.expected_error(shape, params) < 1e-6


def test_workspace_does_not_grow_with_the_batch():
    sizes = [fft.Implementation(shape, {"nh": 16, "nw": 16}).workspace_bytes(2) for shape in _batches(8, 512)]
    assert sizes[1] <= 1.2 * sizes[0] <= 64 << 20


def _batches(*counts):
    return [ConvShape.from_arguments([n, 56, 56, 64], [3, 3, 64, 64], 1, "SAME") for n in counts]


def test_expected_error_is_what_is_seen():
    for sizes, filters in (((1, 64, 64, 16), (15, 15, 16, 16)), ((1, 56, 56, 32), (31, 31, 1, 32)), ((1, 28, 28, 64), (3, 3, 64, 64))):
        shape = ConvShape.from_arguments(sizes, filters, 1, "SAME")
        rng = np.random.default_rng(3)
        x, w = rng.standard_normal(sizes).astype("f4"), rng.standard_normal(filters).astype("f4")
        params = fft.candidates(shape)[0]
        expected = reference.conv2d(x, w, shape)
        seen = np.abs(run(shape, params, x, w) - expected).max() / np.abs(expected).max()
        assert seen / 3 < fft.expected_error(shape, params) < 3 * seen


def test_nan_reaches_only_outputs_of_its_tiles():
    shape = ConvShape.from_arguments([1, 60, 60, 1], [3, 3, 1, 1], 1, "VALID")
    x = np.ones(shape.input_shape, "f4")
    x[0, 2, 2, 0] = np.nan
    out = run(shape, {"nh": 8, "nw": 8}, x, np.ones(shape.filters_shape, "f4"), activation="relu")
    assert np.isnan(out[0, :3, :3]).all()
    assert np.isfinite(out[0, 50:, 50:]).all()


def test_reads_and_writes_stay_inside_their_arrays(isa):
    """Inputs and outputs in the middle of larger arrays: what surrounds the input must not matter, what surrounds the output must stay."""
    for sizes, filters in (((1, 21, 19, 5), (5, 5, 5, 3)), ((1, 21, 19, 5), (5, 5, 1, 5)), ((2, 21, 19, 1), (5, 5, 1, 1))):
        shape = ConvShape.from_arguments(sizes, filters, 1, "SAME")
        rng = np.random.default_rng(2)
        room_in, room_out = np.full(math.prod(sizes) + 200, np.nan, "f4"), np.full(math.prod(shape.output_shape) + 200, 7.0, "f4")
        x, out = room_in[100:-100].reshape(sizes), room_out[100:-100].reshape(shape.output_shape)
        x[...] = rng.standard_normal(sizes)
        w = rng.standard_normal(filters).astype("f4")
        convolver = fft.Implementation(shape, fft.candidates(shape)[0])
        convolver.pack_filters(w)
        convolver.run_on(x, out, Buffer(convolver.workspace_bytes(2)), threads=2)
        np.testing.assert_allclose(out, reference.conv2d(x, w, shape), atol=3e-5)
        assert (room_out[:100] == 7).all()
        assert (room_out[-100:] == 7).all()


def test_instruction_sets_agree():
    shape = ConvShape.from_arguments([1, 30, 30, 10], [7, 7, 10, 10], 1, "SAME")
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal(shape.input_shape).astype("f4"), rng.standard_normal(shape.filters_shape).astype("f4")
    before, results = registry.isa(), []
    try:
        for name in registry.isas():
            registry.select(name)
            results.append(run(shape, {"nh": 16, "nw": 24}, x, w))
    finally:
        registry.select(before)
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-4)


def test_no_cut_is_hopeless(isa):
    """Tiles of 64 points hold 63 taps, need the least memory, and give two outputs along each axis."""
    shape = ConvShape(1, 4096, 4096, 1, 1, 63, 63, pads=((31, 31), (31, 31)))
    assert min(min(params.values()) for params in fft.candidates(shape)) > 64
