"""direct's own affairs: filters that are borrowed for one run instead of packed."""

import numpy as np
import pytest
from guarded import guarded, guarded_workspace

from convopt.algorithms import direct
from convopt.shape import ConvShape

# input H, W, C; filters R, S; K, groups; stride: what is packed on the way, and what is read where it lies
SHAPES = {
    "few_tiles": (7, 7, 48, 3, 3, 64, 1, 1),
    "many_tiles": (30, 17, 20, 3, 3, 96, 1, 1),
    "several_passes": (12, 13, 300, 3, 3, 40, 1, 1),
    "folded_channels": (5, 4, 2048, 1, 1, 64, 1, 1),
    "channels_that_fill_no_vector": (6, 5, 9, 3, 3, 37, 1, 2),
    "many_tiles_in_place": (20, 17, 96, 3, 3, 64, 1, 1),
    "many_blocks_of_panels_in_l1": (40, 40, 64, 1, 1, 256, 1, 1),
    "rows_that_share_cache_sets": (9, 9, 160, 1, 1, 2048, 1, 1),
    "one_by_one_strided": (29, 31, 24, 1, 1, 72, 1, 2),
    "grouped": (9, 10, 32, 3, 3, 64, 2, 1),
    "groups_that_fill_no_vector": (19, 20, 12, 3, 3, 30, 3, 1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_borrowed_filters_give_the_same_bits_as_packed_ones(isa, name, dtype):
    h, w, c, r, s, k, groups, stride = SHAPES[name]
    shape = ConvShape(2, h, w, c, k, r, s, (stride, stride), pads=((r // 2, r // 2), (s // 2, s // 2)), groups=groups, dtype=dtype)
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape.input_shape).astype(dtype)
    filters = guarded(rng.standard_normal(shape.filters_shape).astype(dtype))
    shifted = np.concatenate([np.zeros(1, dtype), filters.ravel()])[1:].reshape(filters.shape)  # off by an element from whole vectors
    for params in direct.candidates(shape):
        convolver = direct.Implementation(shape, params)
        results = []
        for threads, borrow, source in (
            (1, False, filters),
            (1, True, filters),
            (3, True, filters),
            (1, True, shifted),
            (3, False, shifted),
        ):
            convolver.pack_filters(source, threads, borrow=borrow)
            out = np.full(shape.output_shape, np.nan, dtype)
            with guarded_workspace(convolver.workspace_bytes(threads)) as workspace:
                convolver.run_on(x, out, workspace, threads=threads)
            results.append(out)
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])
