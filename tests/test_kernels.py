"""Micro-kernels of every instruction set against NumPy twins and the generic build, every register tile and tail.

Everything a kernel reads ends at a forbidden page; sentinels lie around everything it writes.
"""

import numpy as np
import pytest
from guarded import guarded
from strategies import UNIT, excess

from convopt.algorithms import prepare
from convopt.algorithms.memory import Buffer
from convopt.kernels import registry
from convopt.shape import ConvShape

SENTINEL = -12345.0
DTYPES = ("float32", "float64")


def tiles(itemsize):
    """All (mr, nr) of the selected instruction set: every height, every width with every tail."""
    vl, heights = registry.tile(itemsize)
    return [
        (mr, nr) for nv, tallest in enumerate(heights, 1) for mr in range(1, tallest + 1) for nr in range((nv - 1) * vl + 1, nv * vl + 1)
    ]


def widest(nr, vl):
    """Columns rounded up to whole vectors: what a kernel may read of `b` and `bias`."""
    return -(-nr // vl) * vl


def call(isa_name, dtype, rows, b, out, nr, **options):
    """The igemm of an instruction set: float32 and float64 have an entry of their own."""
    kernel = registry.igemm32 if dtype == "float32" else registry.igemm
    kernel(isa_name, rows, b, out, nr, **options)


def twin(rows, b, before, nr, bias=None, row_bias=None, lo=-np.inf, hi=np.inf, accumulate=False):
    """What igemm must give, and the bound's A: the sum of absolute values."""
    _, mr, depth = rows.shape
    columns = b[:, :nr].astype(np.float64).reshape(-1, depth, nr)
    wide = rows.astype(np.float64)
    total, magnitude = np.einsum("tic,tcj->ij", wide, columns), np.einsum("tic,tcj->ij", np.abs(wide), np.abs(columns))
    for term in (
        None if bias is None else bias[None, :nr],
        None if row_bias is None else row_bias[:mr, None],
        before[:, :nr] if accumulate else None,
    ):
        if term is not None:
            total, magnitude = total + term, magnitude + np.abs(term)
    return np.clip(total, lo, hi), magnitude


class Problem:
    """Operands of one call: integers, where results must be exact, or normal random numbers."""

    def __init__(self, rng, dtype, mr, nr, taps, depth, vl, ldb=None, ldo=None, integer=True):
        def values(*sizes):
            return (rng.integers(-4, 5, sizes) if integer else rng.standard_normal(sizes)).astype(dtype)

        self.nr, self.dtype = nr, dtype
        self.rows = guarded(values(taps, mr, depth))
        self.b = guarded(values(taps * depth, ldb or widest(nr, vl)))
        self.bias = guarded(values(widest(nr, vl)))
        self.row_bias = guarded(values(mr))
        self.before = values(mr, ldo or nr)
        self.before[:, nr:] = SENTINEL

    def run(self, isa_name, **options):
        out = guarded(self.before, at_end=True)
        if not options.get("accumulate"):
            out[:, : self.nr] = np.nan
        call(isa_name, self.dtype, self.rows, self.b, out, self.nr, **options)
        assert (out[:, self.nr :] == SENTINEL).all(), "written beyond the tile's columns"
        return out[:, : self.nr]

    def exact(self, **options):
        return twin(self.rows, self.b, self.before, self.nr, **options)


def epilogues(problem):
    """Every combination that drivers use."""
    return [
        {},
        {"bias": problem.bias},
        {"row_bias": problem.row_bias},
        {"accumulate": True},
        {"accumulate": True, "bias": problem.bias, "lo": 0.0},
        {"row_bias": problem.row_bias, "lo": 0.0, "hi": 6.0},
        {"bias": problem.bias, "lo": 0.0, "hi": 6.0},
        {"accumulate": True, "row_bias": problem.row_bias, "lo": -3.0, "hi": 2.0},
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tile_is_exact_on_integers(isa, dtype):
    rng = np.random.default_rng(0)
    vl, _ = registry.tile(np.dtype(dtype).itemsize)
    for i, (mr, nr) in enumerate(tiles(np.dtype(dtype).itemsize)):
        taps, depth = 1 + i % 3, 1 + i % 5
        problem = Problem(rng, dtype, mr, nr, taps, depth, vl, ldo=nr + i % 4)
        options = epilogues(problem)[i % 8]
        expected, _ = problem.exact(**options)
        np.testing.assert_array_equal(
            problem.run(isa, **options), expected, err_msg=f"{mr} x {nr}, {taps} taps of {depth}, {list(options)}"
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_epilogue_and_stride(isa, dtype):
    rng = np.random.default_rng(1)
    vl, heights = registry.tile(np.dtype(dtype).itemsize)
    for nv, tallest in enumerate(heights, 1):
        for nr in {(nv - 1) * vl + 1, nv * vl - vl // 2, nv * vl}:
            for ldb, ldo in ((None, None), (nv * vl + 1, nr + 1), (nv * vl + vl, nr + 3 * vl)):
                problem = Problem(rng, dtype, tallest, nr, 2, 7, vl, ldb, ldo)
                for options in epilogues(problem):
                    expected, _ = problem.exact(**options)
                    np.testing.assert_array_equal(
                        problem.run(isa, **options), expected, err_msg=f"nr={nr} ldb={ldb} ldo={ldo} {list(options)}"
                    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_sums_within_the_bound(isa, dtype):
    rng = np.random.default_rng(2)
    vl, heights = registry.tile(np.dtype(dtype).itemsize)
    for nv, tallest in enumerate(heights, 1):
        for taps, depth in ((1, 1000), (9, 64), (25, 3)):
            problem = Problem(rng, dtype, tallest, nv * vl - 1, taps, depth, vl, integer=False)
            for options in epilogues(problem):
                expected, magnitude = problem.exact(**options)
                bound = 2 * np.sqrt(max(16, taps * depth)) * UNIT[dtype] * magnitude
                assert excess(problem.run(isa, **options), expected, bound) <= 1, f"{taps} x {depth} {list(options)}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_agrees_with_the_generic_build(isa, dtype):
    """Same contract, same numbers, but for the rounding of a fused multiply-add."""
    rng = np.random.default_rng(3)
    itemsize = np.dtype(dtype).itemsize
    common = set(tiles(itemsize))
    vl, _ = registry.tile(itemsize)
    registry.select("generic")
    common &= set(tiles(itemsize))
    assert common
    for mr, nr in sorted(common):
        problem = Problem(rng, dtype, mr, nr, 3, 11, vl, integer=False)
        for options in ({}, {"bias": problem.bias, "lo": 0.0}):
            _, magnitude = problem.exact(**options)
            mine, generic = problem.run(isa, **options), problem.run("generic", **options)
            assert excess(mine, generic.astype(np.float64), 16 * UNIT[dtype] * magnitude) <= 1, f"{mr} x {nr}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limits", [(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)])
def test_nan_passes_through_clamps(isa, dtype, limits):
    vl, heights = registry.tile(np.dtype(dtype).itemsize)
    for nv, tallest in enumerate(heights, 1):
        nr = nv * vl - 1 if vl > 1 else nv
        rows, b = np.ones((1, tallest, 2), dtype), np.ones((2, nv * vl), dtype)
        rows[0, tallest // 2, 1] = np.nan
        out = np.zeros((tallest, nr), dtype)
        call(isa, dtype, rows, b, out, nr, lo=limits[0], hi=limits[1])
        assert np.isnan(out[tallest // 2]).all()
        assert (np.delete(out, tallest // 2, axis=0) == 2).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_meet_the_clamps(isa, dtype):
    vl, _ = registry.tile(np.dtype(dtype).itemsize)
    rows, b, out = np.array([[[np.inf]]], dtype), np.ones((1, vl), dtype), np.zeros((1, vl), dtype)
    b[0, 0] = -1
    call(isa, dtype, rows, b, out, vl)
    assert out[0, 0] == -np.inf
    assert (out[0, 1:] == np.inf).all()
    call(isa, dtype, rows, b, out, vl, lo=0.0, hi=6.0)
    assert out[0, 0] == 0
    assert (out[0, 1:] == 6).all()


def test_impossible_tiles_are_refused(isa):
    vl, heights = registry.tile(8)
    b, out = np.zeros((1, 2 * len(heights) * vl)), np.zeros((40, 2 * len(heights) * vl))
    for mr, nr in ((heights[0] + 1, 1), (1, 0), (1, len(heights) * vl + 1)):
        with pytest.raises(ValueError, match="no tile"):
            registry.igemm(isa, np.zeros((1, mr, 1)), b, out, nr)


def test_tables_of_the_instruction_sets(isa):
    for itemsize in (4, 8):
        vl, heights = registry.tile(itemsize)
        assert vl * itemsize in (16, 32, 64)
        assert heights == sorted(heights, reverse=True), "a wider tile cannot be taller"
        assert 1 <= min(heights) <= max(heights) <= 16


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pixels", [(1, 1), (1, 3), (5, 3), (4, 4), (1, 17), (16, 16), (1, 255), (1, 257), (23, 29)])
def test_transposes_of_nchw_move_every_element(isa, dtype, pixels):
    """A 1x1 convolution with the identity in NCHW is a transpose there and one back."""
    for c in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 33):
        shape = ConvShape(2, *pixels, c, c, 1, 1, data_format="NCHW", dtype=dtype)
        convolver = prepare("direct", shape, {"nv": 1})
        convolver.pack_filters(np.eye(c, dtype=dtype)[None, None])
        x = guarded(np.random.default_rng(c).standard_normal(shape.input_shape).astype(dtype))
        for threads in (1, 3):
            out, workspace = guarded(np.full(shape.output_shape, np.nan, dtype)), Buffer(convolver.workspace_bytes(threads))
            workspace.fill(0xFF)
            convolver.run_on(x, out, workspace, threads=threads)
            np.testing.assert_array_equal(out, x)


def test_select_refuses_unknown_names():
    with pytest.raises(ValueError, match="mmx"):
        registry.select("mmx")
    assert registry.isa() in registry.isas()
