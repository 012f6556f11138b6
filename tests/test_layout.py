"""NCHW served in parts: bands of rows and runs of images against the definition, in poisoned memory between forbidden pages."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from verify import check_direct_bound, run

from convopt.algorithms import ALGORITHMS, direct, grouped, im2col, prepare, reference, winograd
from convopt.algorithms.layout import LayoutChange, part_of, part_shape
from convopt.algorithms.memory import Buffer
from convopt.shape import ConvShape


def in_parts(module, images, rows):
    """An algorithm whose NCHW is served by parts of so many images and output rows."""

    def implementation(shape, params):
        part = part_of(shape.with_layout("NHWC"), images, rows)
        return LayoutChange(shape, params, module.Implementation(part, params))

    return SimpleNamespace(NAME=module.NAME, Implementation=implementation)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    st.sampled_from([direct, im2col, grouped]),
    st.tuples(*[st.integers(1, 4), st.integers(1, 24), st.integers(1, 24)]),
    st.sampled_from([(1, 1), (3, 3), (3, 3), (5, 5), (2, 7)]),
    st.tuples(*[st.integers(1, 20), st.sampled_from([1, 1, 2]), st.integers(1, 20)]),
    st.sampled_from([(1, 1, 1, 1), (1, 1, 1, 1), (2, 2, 1, 1), (3, 1, 1, 2), (1, 1, 2, 2)]),
    st.tuples(*[st.integers(0, 5)] * 4),
    st.data(),
)
def test_any_part_of_any_shape_is_exact(isa, module, size, kernel, channels, steps, pads, more):
    (n, h, w), (group_c, groups, group_k) = size, channels
    shape = ConvShape(
        n, h, w, group_c * groups, group_k * groups, *kernel, steps[:2], steps[2:], (pads[:2], pads[2:]), groups, "NCHW", "float32"
    )
    native = shape.with_layout("NHWC")
    assume(not shape.is_empty and module.why_not(native) is None)
    params = more.draw(st.sampled_from(module.candidates(native)))
    rows, images = more.draw(st.integers(1, shape.oh)), more.draw(st.integers(1, n))
    parts = in_parts(module, images if rows == shape.oh else 1, rows)
    check_direct_bound(parts, shape, params, "integer", "relu", more.draw(st.integers(1, 4)), at_end=more.draw(st.booleans()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("strides", [1, 2])
def test_bands_of_winograd_are_what_whole_images_are(isa, strides, dtype):
    """Bands of whole rows of tiles, and others: near the definition, and the same bits for any number of threads."""
    shape = ConvShape.from_arguments((2, 17, 29, 21), (3, 3, 17, 19), strides, "SAME", "NCHW", None, dtype)
    rng = np.random.default_rng(0)
    x, filters = (rng.standard_normal(size).astype(dtype) for size in (shape.input_shape, shape.filters_shape))
    expected = reference.conv2d(x, filters, shape)
    for params in winograd.candidates(shape.with_layout("NHWC"))[::2]:
        for images, rows in ((2, shape.oh), (1, shape.oh), (1, 12 // strides), (1, 5)):
            parts = in_parts(winograd, images, rows)
            y = run(parts, shape, params, x, filters)
            assert np.abs(y - expected).max() <= (2e-5 if dtype == "float32" else 4e-14) * np.abs(expected).max()
            for threads in (2, 3, 9):
                np.testing.assert_array_equal(run(parts, shape, params, x, filters, threads=threads), y)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_parts_divide_large_tensors_alone(name):
    """Into bands of whole steps, or runs of images, that need no more memory than whole tensors do."""
    module, small = ALGORITHMS[name], ConvShape(3, 9, 9, 8, 8, 3, 3, groups=8 if name == "depthwise" else 1, pads=((1, 1), (1, 1)))
    assert part_shape(small, 1) == small
    for n, size in ((1, 112), (1, 300), (64, 30)):
        shape = ConvShape(n, size, size, 64, 64, 3, 3, pads=((1, 1), (1, 1)), groups=64 if name in ("depthwise", "grouped") else 1)
        for params in module.candidates(shape)[:1]:
            step = module.row_step(shape, params)
            part = part_shape(shape, step)
            if step is None:
                assert part == shape
                continue
            assert part.n * part.oh < n * size
            assert part.oh % step == 0 or part.oh == size
            assert -(-size // part.oh) * part.oh <= 1.2 * size
            assert (part.r, part.s, part.k, part.w, part.ow) == (3, 3, 64, size, size)
            if "NCHW" not in module.LAYOUTS:
                assert type(prepare(name, shape.with_layout("NCHW"), params)) is LayoutChange


def test_filters_used_once_serve_all_parts(isa):
    shape = ConvShape(1, 90, 90, 32, 32, 3, 3, pads=((1, 1), (1, 1)), data_format="NCHW")
    rng = np.random.default_rng(0)
    x, filters = (rng.standard_normal(size).astype("f4") for size in (shape.input_shape, shape.filters_shape))
    params = direct.candidates(shape.with_layout("NHWC"))[0]
    expected = run(SimpleNamespace(NAME="direct", Implementation=lambda *args: prepare("direct", *args)), shape, params, x, filters)
    convolver = prepare("direct", shape, params)
    out = np.full(shape.output_shape, np.nan, "f4")
    convolver.pack_filters(filters, 2, borrow=True)
    convolver.run_on(x, out, Buffer(convolver.workspace_bytes(2)), threads=2)
    np.testing.assert_array_equal(out, expected)
