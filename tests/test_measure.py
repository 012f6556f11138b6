"""Measuring: wrong results are found, outputs are fenced, races end with the fastest ahead and the slow ones dropped."""

import gc
import time
from dataclasses import replace

import numpy as np
import pytest
from clock import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from convopt.algorithms import reference
from convopt.errors import WorkspaceError
from convopt.kernels import registry
from convopt.shape import ConvShape
from convopt.tuning import candidates, check, measure, measure_speeds
from convopt.tuning.candidates import Request

SHAPE = ConvShape(2, 14, 14, 16, 24, 3, 3, pads=((1, 1), (1, 1)))
REQUEST = Request(SHAPE, bias=True, activation="relu", threads=1, constant_filters=True)
CANDIDATES = candidates.candidates(REQUEST)


def right(trial):
    """The whole right result, in the problem's dtype."""
    return reference.conv2d(trial.x, trial.filters, trial.shape, trial.bias, trial.activation).astype(trial.shape.dtype)


@st.composite
def shapes(draw):
    groups, group_c, group_k = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    pair = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))  # noqa: E731
    shape = ConvShape(
        draw(st.integers(1, 3)), *pair(1, 20), groups * group_c, groups * group_k, *pair(1, 4), pair(1, 3), pair(1, 2),
        (pair(0, 6), pair(0, 6)), groups, draw(st.sampled_from(["NHWC", "NCHW"])), draw(st.sampled_from(["float32", "float64"])),
    )  # fmt: skip
    return shape if not shape.is_empty else replace(shape, pads=((6, 6), (6, 6)))


@settings(max_examples=150, deadline=None)
@given(shape=shapes(), flops=st.sampled_from([0.0, 1e4, 1e6, 1e9]))
def test_the_right_result_has_no_error_whatever_is_sampled(shape, flops):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "SAMPLE_FLOPS", flops)
        trial = check.Trial(Request(shape, True, None, 1, True))
    trial.poison()
    assert np.isnan(trial.error())
    trial.out[...] = right(trial)
    assert trial.error() <= (1e-6 if shape.dtype == "float32" else 1e-15)
    assert not trial.overran()


def test_outputs_begin_where_those_of_a_plan_do():
    # Whole cache lines are stored past the caches; from an output that begins within one, candidates are 1.6 times as slow.
    for shape in (REQUEST.shape, ConvShape(1, 64, 64, 16, 64, 3, 3)):
        assert check.Trial(replace(REQUEST, shape=shape)).out.ctypes.data % registry.LINE_BYTES == 0


@pytest.mark.parametrize("position", [(0, 0, 0, 0), (1, 13, 13, 23), (1, 7, 6, 11)])
def test_one_wrong_number_is_found(position):
    trial = check.Trial(REQUEST)
    trial.out[...] = right(trial)
    trial.out[position] += 1
    assert 0.1 < trial.error() < 1
    trial.out[position] = np.nan
    assert np.isnan(trial.error())


def test_large_problems_are_sampled_quickly_at_their_edges():
    shape = ConvShape(8, 112, 112, 128, 128, 3, 3, pads=((1, 1), (1, 1)))
    start = time.perf_counter()
    trial = check.Trial(Request(shape, False, None, 1, True))
    assert time.perf_counter() - start < 1.5  # drawing and repeating 13 million numbers included
    sampled = np.zeros(shape.output_shape, bool)
    for piece, right in trial._sample:
        assert piece.of(sampled).shape == right.shape
        marks = np.zeros(shape.output_shape, bool)
        images, channels = (np.arange(size)[index] for size, index in ((shape.n, piece.images), (shape.k, piece.channels)))
        marks[np.ix_(images, np.arange(shape.oh)[piece.rows], np.arange(shape.ow), channels)] = True
        sampled |= marks
    assert sampled[0, 0, :, 0].all()
    assert sampled[-1, -1, :, -1].all()
    assert sampled.mean() < 0.05


def test_results_that_are_zero_have_to_be_zero():
    nothing = replace(SHAPE, h=1, w=1, r=1, s=1, pads=((0, 0), (3, 3)), strides=(1, 7))  # windows on padding alone
    trial = check.Trial(Request(nothing, False, None, 1, True))
    trial.out[...] = 0
    assert trial.error() == 0
    trial.out[0, 0, 0, 0] = 1e-20
    assert trial.error() == np.inf


@pytest.mark.parametrize("offset", [-1, 0])
def test_a_write_beside_the_output_is_found_once(offset):
    trial = check.Trial(REQUEST)
    trial._fenced[check.ZONE - 1 if offset else -check.ZONE] = 0
    assert trial.overran()
    assert not trial.overran()


class StandIn:
    """A plan whose calls a test decides."""

    def __init__(self, trial, spoil):
        self.right = right(trial)
        self.trial, self.spoil, self.calls = trial, spoil, 0

    def __call__(self, x, out):
        self.calls += 1
        out[...] = self.right
        self.spoil(self.trial)

    def call_once(self, x, filters, bias, out):
        raise AssertionError("filters are constant")


def off_by_one_part_in_a_thousand(trial):
    trial.out *= 1.001


def one_pixel_missing(trial):
    trial.out[1, 13, 13] = 0


def never_written(trial):
    trial.out[0, 3] = np.nan


def one_byte_too_far(trial):
    trial._fenced[trial.out.nbytes + check.ZONE] = 0


def one_byte_too_early(trial):
    trial._fenced[check.ZONE - 1] = 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (off_by_one_part_in_a_thousand, "wrong: error"),
        (one_pixel_missing, "wrong: error"),
        (never_written, "wrong: error nan"),
        (one_byte_too_far, "outside its output"),
        (one_byte_too_early, "outside its output"),
    ],
)
def test_planted_faults_are_rejected_and_never_timed(spoil, reason):
    plans = []

    def make(request, candidate, trial):
        plans.append(StandIn(trial, spoil if candidate is CANDIDATES[0] else lambda trial: None))
        return plans[-1]

    faulty, sound = measure.measure(REQUEST, CANDIDATES[:2], limit=0.02, make=make)
    assert reason in faulty.rejected
    assert faulty.seconds is None
    assert plans[0].calls == 1
    assert sound.rejected == ""
    assert sound.samples > 0
    assert 0 < sound.fastest <= sound.seconds
    assert sound.error < 1e-6


@pytest.mark.parametrize(("spoil", "reason"), [(one_byte_too_far, "outside its output"), (never_written, "wrong: error nan")])
def test_a_fault_that_shows_only_later_is_found_and_no_other_blamed(spoil, reason):
    plans = []

    def make(request, candidate, trial):
        late = lambda trial: spoil(trial) if plans[0].calls > 3 else None  # noqa: E731
        plans.append(StandIn(trial, late if not plans else lambda trial: None))
        return plans[-1]

    faulty, sound = measure.measure(REQUEST, CANDIDATES[:2], limit=0.01, make=make)
    assert reason in faulty.rejected
    assert sound.rejected == ""


@pytest.mark.parametrize("error", [WorkspaceError, MemoryError])
def test_a_candidate_without_memory_leaves_a_record_that_says_nothing(error):
    def make(request, candidate, trial):
        if candidate is CANDIDATES[0]:
            raise error("no memory")
        return measure.make_plan(request, candidate, trial)

    found = {record.identity: record for record in measure.measure(REQUEST, CANDIDATES, limit=0.01, make=make)}
    assert set(found) == {each.identity for each in CANDIDATES}
    empty = found.pop(CANDIDATES[0].identity)
    assert (empty.seconds, empty.rejected) == (None, "")
    assert all(record.seconds for record in found.values())


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_real_plans_are_measured(isa, constant, data_format):
    request = replace(REQUEST, shape=SHAPE.with_layout(data_format), constant_filters=constant)
    found = candidates.candidates(request)
    measured = measure.measure(request, found, limit=0.02)
    assert [record.params for record in measured] == [each.params for each in found]
    assert all(record.rejected == "" and record.error < 1e-5 and record.seconds > 0 for record in measured)


def test_an_interrupt_leaves_the_collector_as_it_was():
    def make(request, candidate, trial):
        assert not gc.isenabled()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure.measure(REQUEST, CANDIDATES[:1], make=make)
    assert gc.isenabled()


def test_later_candidates_of_a_beaten_algorithm_are_left_out(monkeypatch):
    clock = Clock(monkeypatch)
    seconds = {CANDIDATES[0]: 1e-3, CANDIDATES[1]: 2e-3, CANDIDATES[2]: 3e-3}
    others = {each: replace(each, algorithm=each.algorithm if each is CANDIDATES[0] else "other") for each in CANDIDATES[:3]}

    def make(request, candidate, trial):
        whole = right(trial)

        def plan(x, out):
            out[...] = whole
            clock.now += next(seconds[each] for each in seconds if others[each] is candidate)

        return plan

    estimates = {others[each]: seconds[each] / 2 for each in seconds}
    timed = measure.measure(REQUEST, list(others.values()), estimates, make=make)
    assert sorted((record.seconds is not None, record.rejected) for record in timed) == [(False, ""), (True, ""), (True, "")]
    assert all(record.seconds for record in measure.measure(REQUEST, list(others.values()), make=make))


def test_the_costs_of_measuring_grow_with_the_candidates():
    assert measure.cost(SHAPE, [1e-3]) < measure.cost(SHAPE, [1e-3, 1e-3]) < measure.cost(SHAPE, [1e-3] * 100) < 2.0
    assert measure.cost(SHAPE, [1e-9]) > 0


def test_speeds_are_plausible_and_quickly_measured():
    start = time.perf_counter()
    speeds = measure_speeds.speeds()
    assert time.perf_counter() - start < 5
    assert 1e8 < speeds.peak < 1e12
    assert 1e8 < speeds.memory_all < 1e13
    assert 1e-7 < speeds.wake < 1e-3
    assert {"direct", "direct/depthwise"} <= set(speeds.slowness)
