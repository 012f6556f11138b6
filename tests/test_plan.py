"""ConvPlan: new filters, many threads at once, attributes, and the price of a call."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from plans import SHAPE, W, X, arrays, plan_of, shape_for
from strategies import data

import convopt
from convopt import ConvPlan, DTypeError, ShapeError, WorkspaceError
from convopt.algorithms import ALGORITHMS, native_shape, reference
from convopt.shape import ConvShape

# Filters.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_update_filters(algorithm):
    shape = shape_for(algorithm)
    x, w = arrays(shape)
    p = plan_of(algorithm, w, shape)
    first = p(x)
    other = w[::-1] * 2
    p.update_filters(other)
    np.testing.assert_array_equal(p(x), plan_of(algorithm, other, shape)(x))
    p.update_filters(w)
    np.testing.assert_array_equal(p(x), first)


@pytest.mark.parametrize(
    ("filters", "kind", "words"),
    [
        (W[:, :2], ShapeError, ["filters", "(3, 2, 24, 40)", "(3, 3, 24, 40)"]),
        (W.astype(np.float64), DTypeError, ["filters", "float64", "float32"]),
        (W.astype(np.int32), DTypeError, ["filters", "int32"]),
        (None, DTypeError, ["filters", "None"]),
    ],
    ids=["shape", "float64", "int32", "None"],
)
def test_update_filters_refuses_and_keeps_what_it_had(filters, kind, words):
    p = plan_of("direct", W)
    before = p(X)
    with pytest.raises(kind) as caught:
        p.update_filters(filters)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    np.testing.assert_array_equal(p(X), before)


def test_a_plan_keeps_its_own_copy_of_filters_and_bias():
    w, bias = W.copy(), np.ones(40, np.float32)
    p = plan_of("direct", w, bias=bias)
    before = p(X)
    w[...], bias[...] = np.nan, np.nan
    np.testing.assert_array_equal(p(X), before)


def test_filters_are_cast_to_the_planned_dtype():
    p = convopt.plan(X.shape, W.astype(np.float64), padding="SAME", dtype="float32", algorithm="direct")
    assert p(X).dtype == np.float32
    np.testing.assert_array_equal(p(X), plan_of("direct", W)(X))
    for dtype in ("float16", "int32", "nonsense", object):
        with pytest.raises(DTypeError, match="dtype"):
            convopt.plan(X.shape, W, dtype=dtype)


def test_a_plan_without_filters_asks_for_them():
    p = ConvPlan(SHAPE, "direct", {"nv": 1}, None)
    with pytest.raises(ShapeError, match=r"filters is None.*update_filters"):
        p(X)
    p.update_filters(W)
    np.testing.assert_array_equal(p(X), ConvPlan(SHAPE, "direct", {"nv": 1}, W)(X))


@pytest.mark.parametrize(
    ("x", "kind", "words"),
    [
        (X[:1], ShapeError, ["input", "(1, 24, 22, 24)", "(2, 24, 22, 24)"]),
        (X[None], ShapeError, ["input", "(1, 2, 24, 22, 24)"]),
        (X.astype(np.float64), DTypeError, ["input", "float64", "float32"]),
        (X.astype(np.int8), DTypeError, ["input", "int8"]),
        (None, DTypeError, ["input", "None"]),
        (np.ma.masked_array(X), DTypeError, ["input", "masked"]),
    ],
    ids=["shape", "rank", "float64", "int8", "None", "masked"],
)
def test_other_inputs_are_refused(x, kind, words):
    out = np.full(SHAPE.output_shape, 7, np.float32)
    with pytest.raises(kind) as caught:
        plan_of("direct", W)(x, out)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert (out == 7).all()


# Many threads at once.


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_eight_threads_at_once_equal_serial_bitwise(algorithm, threads):
    shape = shape_for(algorithm)
    p = plan_of(algorithm, arrays(shape)[1], shape, threads=threads, bias=np.linspace(-3, 3, shape.k, dtype=np.float32), activation="relu")
    inputs = [arrays(shape, seed=i)[0] for i in range(8)]
    serial = [p(x) for x in inputs]
    start = threading.Barrier(8)

    def work(i):
        out = np.full(shape.output_shape, np.nan, np.float32)
        start.wait(30)
        for round_ in range(6):
            out[...] = np.nan
            y = p(inputs[i]) if round_ % 2 else p(inputs[i], out)
            if not np.array_equal(y, serial[i]):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_conv2d_from_eight_threads_with_filters_of_their_own():
    """Calls of one configuration at once must not share a plan: each has filters and bias of its own."""
    start = threading.Barrier(8)

    def work(i):
        rng = np.random.default_rng(i)
        w, bias = data("integer", W.shape, rng, np.float32), data("integer", (40,), rng, np.float32)
        exact = reference.conv2d(np.ones_like(X), w, SHAPE, bias)
        start.wait(30)
        return all(
            np.array_equal(convopt.conv2d(np.ones_like(X), w, padding="SAME", bias=bias, algorithm="direct", threads=1), exact)
            for _ in range(6)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_update_filters_while_others_call():
    """Each call uses the old filters or the new ones, never a mixture."""
    p = plan_of("direct", W, threads=1)
    choices = [W, W[::-1].copy()]
    results = [plan_of("direct", w, threads=1)(X) for w in choices]
    stop = threading.Event()

    def update():
        i = 0
        while not stop.is_set():
            i += 1
            p.update_filters(choices[i % 2])

    def call():
        return all(any(np.array_equal(y, each) for each in results) for y in (p(X) for _ in range(20)))

    with ThreadPoolExecutor(4) as pool:
        updating = pool.submit(update)
        try:
            assert all(future.result(60) for future in [pool.submit(call) for _ in range(3)])
        finally:
            stop.set()
        updating.result(60)


# What a plan says of itself.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_attributes(algorithm):
    shape = shape_for(algorithm)
    p = plan_of(algorithm, arrays(shape)[1], shape, threads=2)
    assert p.shape == shape
    assert p.algorithm == algorithm
    assert p.params in ALGORITHMS[algorithm].candidates(native_shape(ALGORITHMS[algorithm], shape))
    assert 1 <= p.threads <= 2
    assert p.workspace_bytes >= 0
    assert p.packed_bytes >= np.prod(shape.filters_shape) * shape.itemsize
    assert p.measured_error is None or 0 <= p.measured_error < 1e-4
    assert algorithm in p.explain()
    assert algorithm in repr(p)
    assert shape.key() in repr(p)
    for name in ("shape", "algorithm", "params", "threads", "workspace_bytes", "packed_bytes", "measured_error"):
        with pytest.raises(AttributeError):
            setattr(p, name, None)


def test_a_measured_plan_knows_its_error():
    shape = ConvShape(1, 8, 8, 16, 16, 3, 3, pads=((1, 1), (1, 1)))
    x, w = arrays(shape)
    p = convopt.plan(shape.input_shape, w, padding="SAME", tune="measure", threads=1)
    exact = reference.conv2d(x, w, shape)
    assert 0 < p.measured_error < 1e-5
    assert np.abs(p(x) - exact).max() <= 1e-5 * np.abs(exact).max()
    again = convopt.plan(shape.input_shape, w, padding="SAME", tune="cached", threads=1)
    assert (again.algorithm, again.params) == (p.algorithm, p.params)


def test_a_plan_with_parameters_by_name():
    p = convopt.plan(SHAPE.input_shape, W, padding="SAME", algorithm="direct:nv=1", tune="estimate")
    assert (p.algorithm, p.params) == ("direct", {"nv": 1})
    with pytest.raises(convopt.UnsupportedError, match="direct"):
        convopt.plan(SHAPE.input_shape, W, padding="SAME", algorithm="direct:nv=99", tune="estimate")


def test_rank_beyond_numpys_old_limit_is_refused():
    with pytest.raises((ShapeError, WorkspaceError), match="rank"):
        convopt.plan((1,) * 31 + (5, 5, 6), np.zeros((3, 3, 6, 4), np.float32), algorithm="direct")


# What a call costs.


def seconds_per_call(call, calls=300, rounds=15):
    """Of the quietest of several rounds."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - started) / calls)
    return best


def test_the_price_of_a_call():
    """The bounds are generous, for machines that do other things; a slip into a slow path costs more than that."""
    x, w = np.ones((1, 4, 4, 8), np.float32), np.ones((3, 3, 8, 8), np.float32)
    out = np.empty((1, 4, 4, 8), np.float32)
    p = convopt.plan(x.shape, w, padding="SAME", algorithm="direct", threads=1)
    assert seconds_per_call(lambda: p(x, out)) < 25e-6
    assert seconds_per_call(lambda: p(x)) < 25e-6
    assert seconds_per_call(lambda: convopt.conv2d(x, w, padding="SAME", out=out, tune="estimate", threads=1)) < 50e-6


# Results.


def test_large_results_are_aligned_and_own_their_memory():
    shape = ConvShape(2, 30, 31, 3, 24, 3, 3)
    x, w = arrays(shape)
    p = plan_of("im2col", w, shape)
    results = [p(x) for _ in range(5)]
    for y in results:
        assert y.nbytes > 1 << 14
        assert y.ctypes.data % 64 == 0
        assert y.flags.owndata
        assert y.flags.writeable
    kept = results[0].copy()
    results[0].resize((4, *kept.shape[1:]), refcheck=False)
    np.testing.assert_array_equal(results[0][:2], kept)
    assert not results[0][2:].any()
