"""ConvPlan: new filters, many threads at once, thread limits, forks, attributes, and the price of a call."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from strategies import data

import convopt
from convopt import ConvPlan, DTypeError, ShapeError, WorkspaceError
from convopt.algorithms import ALGORITHMS, native_shape, parallel, reference
from convopt.shape import ConvShape

# Enough work for every thread, one of them for every algorithm.
SHAPE = ConvShape(2, 24, 22, 24, 40, 3, 3, pads=((1, 1), (1, 1)))
DEPTHWISE = ConvShape(2, 48, 44, 96, 96, 3, 3, pads=((1, 1), (1, 1)), groups=96)
GROUPED = ConvShape(2, 48, 44, 96, 96, 3, 3, pads=((1, 1), (1, 1)), groups=48)


def shape_for(algorithm):
    """Whichever of the shapes the algorithm serves."""
    return next(
        shape for shape in (SHAPE, DEPTHWISE, GROUPED) if ALGORITHMS[algorithm].why_not(native_shape(ALGORITHMS[algorithm], shape)) is None
    )


def arrays(shape=SHAPE, kind="normal", seed=0):
    rng = np.random.default_rng(seed)
    return data(kind, shape.input_shape, rng, shape.dtype), data(kind, shape.filters_shape, rng, shape.dtype)


def plan_of(algorithm, w, shape=SHAPE, **options):
    return convopt.plan(
        shape.input_shape, w, padding=shape.pads, data_format=shape.data_format, algorithm=algorithm, tune="estimate", **options
    )


X, W = arrays()


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


# How many threads.


def run_python(code, timeout=60, **environment):
    """Standard output of a fresh interpreter; its failure is the test's."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, **environment}, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
    return done.stdout.split()


#: Threads of the process after one call of a plan; OpenBLAS is kept from starting its own.
COUNT_TASKS = """
    import os, numpy as np, convopt, contextlib
    from threadpoolctl import threadpool_limits
    def tasks():
        return len(os.listdir("/proc/self/task"))
    x, w = np.ones((2, 24, 22, 24), np.float32), np.ones((3, 3, 24, 40), np.float32)
    before = tasks()
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("threads", "started"), [(1, 0), (2, 1), (3, 2)])
def test_threads_is_obeyed(algorithm, threads, started):
    shape = shape_for(algorithm)
    code = (
        COUNT_TASKS
        + f"""
    x, w = np.ones({shape.input_shape}, np.float32), np.ones({shape.filters_shape}, np.float32)
    convopt.conv2d(x, w, padding="SAME", algorithm={algorithm!r}, threads={threads}, tune="estimate")
    print(tasks() - before)
    convopt.plan(x.shape, w, padding="SAME", algorithm={algorithm!r}, threads={threads}, tune="estimate")(x)
    print(tasks() - before)
    """
    )
    assert run_python(code, OPENBLAS_NUM_THREADS="1") == [str(started)] * 2


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_threadpool_limits_are_obeyed():
    code = (
        COUNT_TASKS
        + """
    with threadpool_limits(1):
        convopt.conv2d(x, w, padding="SAME", algorithm="direct")
        convopt.plan(x.shape, w, padding="SAME", algorithm="direct")(x)
        print(tasks() - before)
    p = convopt.ConvPlan(convopt.shape.ConvShape(2, 24, 22, 24, 40, 3, 3), "direct", {"nv": 1}, None)
    with threadpool_limits(1):
        p.update_filters(w)
        p(x)
        print(tasks() - before)
    p(x)
    print(tasks() - before)
    """
    )
    assert run_python(code, CONVOPT_NUM_THREADS="3", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="3") == ["0", "0", "2"]


#: The default under limits of threadpoolctl: none, 2, 1, and none again.
LIMITED = """
    import convopt
    from convopt.algorithms import parallel
    from threadpoolctl import threadpool_limits
    print(parallel.current())
    with threadpool_limits(2):
        print(parallel.current(), parallel.current(4))
        with threadpool_limits(1):
            print(parallel.current())
    print(parallel.current())
"""


def test_threadpool_limits_lower_the_default_but_not_what_was_asked_for():
    assert run_python(LIMITED, CONVOPT_NUM_THREADS="3", OMP_NUM_THREADS="3") == ["3", "2", "4", "1", "3"]
    assert run_python(LIMITED, CONVOPT_NUM_THREADS="1", OMP_NUM_THREADS="3") == ["1", "1", "4", "1", "1"]


@pytest.mark.xfail(strict=True, reason="bug: a limit equal to OpenMP's own initial number of threads is taken for no limit")
def test_threadpool_limits_equal_to_openmps_default_are_obeyed():
    assert run_python(LIMITED, CONVOPT_NUM_THREADS="3", OMP_NUM_THREADS="2") == ["3", "2", "4", "1", "3"]


def test_default_threads_as_context_and_setter():
    before = parallel.current()
    with convopt.threads(before + 2):
        assert parallel.current() == before + 2
        with convopt.threads(1):
            assert parallel.current() == 1
        assert parallel.current() == before + 2
    assert parallel.current() == before
    for bad, kind in ((0, ShapeError), (-1, ShapeError), (1.5, DTypeError), ("2", DTypeError), (2000, ShapeError)):
        with pytest.raises(kind, match="threads"):
            convopt.threads(bad)
    assert parallel.current() == before


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CONVOPT_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, "3"),
        ({"CONVOPT_NUM_THREADS": "", "OMP_NUM_THREADS": "2"}, "2"),
        ({"CONVOPT_NUM_THREADS": "none", "OMP_NUM_THREADS": "5,2"}, "5"),
        ({"CONVOPT_NUM_THREADS": "0", "OMP_NUM_THREADS": ""}, "cores"),
    ],
    ids=str,
)
def test_environment_names_the_default(environment, expected):
    code = "from convopt.algorithms import parallel; print(parallel.current(), parallel.usable_cores())"
    current, cores = run_python(code, **environment)
    assert current == (cores if expected == "cores" else expected)


def test_affinity_limits_the_default():
    code = """
    import os
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from convopt.algorithms import parallel
    print(parallel.current())
    """
    assert run_python(code, CONVOPT_NUM_THREADS="", OMP_NUM_THREADS="") == ["1"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_small_problems_use_fewer_threads(algorithm):
    group_c = shape_for(algorithm).group_c
    shape = ConvShape(1, 6, 6, 4, 4, 3, 3, groups=4 // group_c if group_c < 4 else 1)
    assert plan_of(algorithm, arrays(shape)[1], shape, threads=4).threads == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_plan_and_threads_same_bits(algorithm):
    shape = shape_for(algorithm)
    x, w = arrays(shape)
    for threads in (1, 2, 3, 5):
        plans = [plan_of(algorithm, w, shape, threads=threads) for _ in range(2)]
        first = plans[0](x)
        for p in (*plans, *plans):
            np.testing.assert_array_equal(p(x), first)


# Forks.

FORK = """
    import os, sys, numpy as np, convopt
    x, w = np.ones((2, 24, 22, 24), np.float32), np.ones((3, 3, 24, 40), np.float32)
    p = convopt.plan(x.shape, w, padding="SAME", algorithm="direct", threads=2)
    if {parallel_before}:
        p(x)
    child = os.fork()
    if child == 0:
        y = p(x)
        z = convopt.conv2d(x, w, padding="SAME", algorithm="direct", threads=2)
        q = convopt.plan(x.shape, w, padding="SAME", algorithm="winograd", tune="estimate", threads=2)(x)
        right = y[0, 5, 5, 0] == 216 == z[0, 5, 5, 0] and abs(q[0, 5, 5, 0] - 216) < 1e-2
        os._exit(0 if right else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert p(x)[0, 5, 5, 0] == 216
    sys.exit(status)
"""


@pytest.mark.parametrize("parallel_before", [False, True])
def test_a_forked_child_computes(parallel_before):
    run_python(FORK.format(parallel_before=parallel_before), timeout=60)


def test_a_process_pool_of_forked_workers():
    code = """
    import multiprocessing, numpy as np, convopt
    x, w = np.ones((2, 24, 22, 24), np.float32), np.ones((3, 3, 24, 40), np.float32)
    def work(i):
        return float(convopt.conv2d(x * i, w, padding="SAME", algorithm="direct", threads=2)[0, 5, 5, 0])
    work(1)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(*pool.map(work, range(1, 5)))
    """
    assert run_python(code) == ["216.0", "432.0", "648.0", "864.0"]


def test_an_interrupt_is_a_keyboard_interrupt():
    code = """
    import os, signal, threading, time, numpy as np, convopt
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
    x, w = np.ones((4, 64, 64, 64), np.float32), np.ones((3, 3, 64, 64), np.float32)
    p = convopt.plan(x.shape, w, algorithm="direct", threads=2)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.perf_counter()
    try:
        while time.perf_counter() - started < 20:
            p(x)
        print("never")
    except KeyboardInterrupt:
        print("in time" if time.perf_counter() - started < 1.3 else "late")
    """
    assert run_python(code) == ["in", "time"]


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
