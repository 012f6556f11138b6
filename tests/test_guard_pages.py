"""Thousands of small shapes between forbidden pages, in a child process, so that a wild access is a failure with a name.

Each of input, filters, output and workspace ends (or begins) where nobody may read or write. Shapes are tiny, because
what goes wrong goes wrong at edges: channels around the vector lengths, windows that reach far beyond the image.
CONVOPT_TEST_EXAMPLES multiplies their number.
"""

import mmap
import os
import signal
import traceback

import numpy as np
import pytest
from guarded import guarded, guarded_workspace
from strategies import CHANNELS, examples, served

from convopt.algorithms import ALGORITHMS, prepare
from convopt.shape import ConvShape

SHAPES_PER_ISA = 2000
MAX_FLOPS = 3e5
SECONDS = 600


def draw(rng):
    """Any tiny ConvShape with an output, plain as often as not."""
    while True:
        groups, group_c, group_k = draw_channels(rng)
        kernel = (3, 3) if rng.random() < 0.4 else tuple(rng.integers(1, 8, 2)) if rng.random() < 0.8 else tuple(rng.integers(1, 18, 2))
        strides, dilations = ((1, 1), (1, 1)) if rng.random() < 0.5 else (rng.integers(1, 5, 2), rng.integers(1, 5, 2))
        pads = rng.integers(0, 5, (2, 2)) * (rng.random() < 0.7)
        sizes = [int(rng.integers(1, 3)), *(int(size) for size in rng.integers(1, 14, 2))]
        shape = ConvShape(
            *sizes,
            groups * group_c,
            groups * group_k,
            *(int(size) for size in kernel),
            tuple(int(step) for step in strides),
            tuple(int(step) for step in dilations),
            tuple((int(before), int(after)) for before, after in pads),
            groups,
            str(rng.choice(["NHWC", "NCHW"])),
            str(rng.choice(["float32", "float32", "float64"])),
        )
        if not shape.is_empty and shape.flops <= MAX_FLOPS:
            return shape


def draw_channels(rng):
    """(groups, input channels per group, output channels per group): plain, grouped, or depthwise with a multiplier."""
    kind, few = rng.integers(3), [size for size in CHANNELS if size <= 9]
    if kind == 0:
        return 1, int(rng.choice(CHANNELS)), int(rng.choice(CHANNELS))
    if kind == 1:
        return int(rng.integers(2, 9)), int(rng.choice(few)), int(rng.choice(few))
    return int(rng.choice(CHANNELS)), 1, int(rng.integers(1, 4))


def cases(name, algorithm, count, rng):
    """So many shapes, each with parameters, that an algorithm serves."""
    found = []
    while len(found) < count:
        shape = served(draw(rng), lambda shape: shape.data_format in algorithm.LAYOUTS and algorithm.why_not(shape) is None)
        if shape is not None and shape.flops <= MAX_FLOPS:
            params = algorithm.candidates(shape)
            found.append((name, shape, params[int(rng.integers(len(params)))]))
    return found


def compute(name, shape, params, rng):
    """One call on one thread; raises where something was written beyond the workspace, or an output was not written."""
    at_end, borrow = rng.random() < 0.7, rng.random() < 0.3
    x, filters = np.ones(shape.input_shape, shape.dtype), guarded(np.ones(shape.filters_shape, shape.dtype), at_end)
    convolver = prepare(name, shape, params)
    convolver.pack_filters(filters, 1, borrow)
    if not borrow:
        del filters
    out = guarded(np.full(shape.output_shape, np.nan, shape.dtype), at_end)
    bias = np.ones(shape.k, shape.dtype) if rng.random() < 0.5 else None
    with guarded_workspace(convolver.workspace_bytes(1)) as workspace:
        convolver.run_on(guarded(x, at_end), out, workspace, bias)
    assert not np.isnan(out).any(), "outputs were not written"


def in_child(todo, seed):
    """Compute all cases in a forked child; the message of the first that failed, or in which the child died, None if none did."""
    progress, (reader, writer) = mmap.mmap(-1, 8), os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        signal.alarm(SECONDS)
        try:
            rng = np.random.default_rng(seed)
            for index, (name, shape, params) in enumerate(todo):
                progress[:8] = index.to_bytes(8, "little")
                compute(name, shape, params, rng)
        except BaseException:
            os.write(writer, traceback.format_exc()[-4000:].encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    name, shape, params = todo[int.from_bytes(progress[:8], "little")]
    label = f"{name} {params} {shape.key()}"
    if os.WIFSIGNALED(status):
        return f"{signal.Signals(os.WTERMSIG(status)).name} in {label}"
    return f"{label}\n{text}" if text else None


@pytest.mark.parametrize("name", ALGORITHMS)
def test_nothing_outside_the_arrays_is_touched(isa, name):
    rng = np.random.default_rng(1)
    algorithm = ALGORITHMS[name]
    failure = in_child(cases(name, algorithm, examples(SHAPES_PER_ISA // len(ALGORITHMS)), rng), seed=2)
    assert failure is None, failure


def test_a_wild_access_is_reported_with_its_shape(isa, monkeypatch):
    todo = cases("direct", ALGORITHMS["direct"], 3, np.random.default_rng(1))

    def wild(algorithm, shape, params, rng):
        if shape is todo[1][1]:
            os.kill(os.getpid(), signal.SIGSEGV)

    monkeypatch.setattr("test_guard_pages.compute", wild)
    assert in_child(todo, seed=1) == f"SIGSEGV in direct {todo[1][2]} {todo[1][1].key()}"
