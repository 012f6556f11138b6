"""Measuring: wrong results are found, outputs are fenced, races end with the fastest ahead and the slow ones dropped."""

import gc
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convopt.algorithms import reference
from convopt.errors import WorkspaceError
from convopt.shape import ConvShape
from convopt.tuning import candidates, check, measure, measure_canary, measure_speeds, measure_steps
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


def test_a_candidate_without_memory_leaves_no_record():
    def make(request, candidate, trial):
        if candidate is CANDIDATES[0]:
            raise WorkspaceError("no memory")
        return measure.make_plan(request, candidate, trial)

    assert [record.params for record in measure.measure(REQUEST, CANDIDATES, limit=0.01, make=make)] == [
        each.params for each in CANDIDATES[1:]
    ]


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


class Clock:
    """A clock that only contestants move."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for module in (measure, measure_canary, measure_steps):
            monkeypatch.setattr(module, "perf_counter", lambda: self.now)

    def contestant(self, seconds, disturbed=()):
        calls = iter(range(10**9))

        def call():
            self.now += seconds * (20 if next(calls) in disturbed else 1)

        return measure.Contestant(CANDIDATES[0], call, 0.0, lambda: False)


def test_the_slow_are_dropped_and_the_race_ends(monkeypatch):
    clock = Clock(monkeypatch)
    fast, close, slow, absent = (clock.contestant(seconds) for seconds in (1e-3, 1.01e-3, 1.6e-3, 2.1e-3))
    measure.race([slow, close, fast, absent], limit=10)
    assert absent.times == []
    assert absent.record().fastest == 2.1e-3
    assert len(slow.times) == measure.SAMPLES_TO_DROP
    assert len(fast.times) == len(close.times) == measure.ROUNDS


def test_a_disturbed_first_call_drops_nobody(monkeypatch):
    clock = Clock(monkeypatch)
    steady, disturbed = clock.contestant(1.2e-3), clock.contestant(1e-3, disturbed=(0, 1))
    measure.race([steady, disturbed], limit=10)
    assert disturbed.fastest < steady.fastest
    assert disturbed.record().samples >= measure.SETTLED


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


def test_a_first_time_far_behind_is_confirmed(monkeypatch):
    clock = Clock(monkeypatch)
    disturbed, slow = clock.contestant(1e-3, disturbed=(0, 1)), clock.contestant(3e-3)
    for contestant in (disturbed, slow):
        contestant.confirm(1e-3)
    assert disturbed.first == pytest.approx(1e-3)
    assert slow.first == pytest.approx(3e-3)


def test_a_race_keeps_to_its_time(monkeypatch):
    clock = Clock(monkeypatch)
    contestants = [clock.contestant(seconds) for seconds in (1.0, 1.1)]
    start = clock.now
    measure.race(contestants, limit=3)
    assert clock.now - start < 3 + 2.1 + 1e-6


def test_short_calls_are_repeated_to_a_sample(monkeypatch):
    contestant = Clock(monkeypatch).contestant(1e-6)
    assert contestant.repeats >= measure.SAMPLE / 1e-6 * 0.99
    contestant.sample()
    assert contestant.fastest == pytest.approx(1e-6)


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


class Bird:
    """A canary whose looks are given; quiet when they are used up."""

    def __init__(self, looks):
        self.looks = iter(looks)

    def is_quiet(self):
        return next(self.looks, True)


def test_disturbed_rounds_are_thrown_away(monkeypatch):
    clock = Clock(monkeypatch)
    # Its calls: one at the start, then two a round, the first of them untimed.
    first, second = clock.contestant(1e-3, disturbed=(6, 8)), clock.contestant(1.1e-3)
    # Before the race, then after each round: the third is disturbed, and with it the fourth, before which the canary still was.
    measure.race([first, second], 10, Bird([True, True, True, False]))
    assert len(first.times) == len(second.times) == measure.ROUNDS
    assert len(first.disturbed) == 2
    assert max(first.times) == pytest.approx(1e-3)
    assert first.record().noisy == 0


def test_a_machine_that_is_never_quiet_is_not_waited_for(monkeypatch):
    clock = Clock(monkeypatch)
    first, second = clock.contestant(1e-3), clock.contestant(1.1e-3)
    measure.race([first, second], 10, Bird([False] * 1000))
    assert len(first.times) == measure.PATIENCE * measure.ROUNDS
    assert first.record().noisy == second.record().noisy == 1
    long = clock.contestant(1.0)
    begin = clock.now
    measure.race([long], 3, Bird([False] * 1000))
    assert clock.now - begin <= 3 * measure.PATIENCE + 1


def test_the_slow_are_dropped_on_a_busy_machine_too(monkeypatch):
    clock = Clock(monkeypatch)
    fast, slow = clock.contestant(1e-3), clock.contestant(1.9e-3)
    measure.race([fast, slow], 10, Bird([False] * 1000))
    assert len(fast.times) > len(slow.times) == measure.SAMPLES_TO_DROP


def test_nobody_is_dropped_for_first_times_of_a_quieter_moment(monkeypatch):
    clock = Clock(monkeypatch)
    contestants = [clock.contestant(seconds) for seconds in (1.7e-3, 1.8e-3)]
    contestants[0].first = 1e-3
    measure.race(contestants, 10, Bird([False] * 1000))
    assert len(contestants[0].times) == len(contestants[1].times) > measure.SAMPLES_TO_DROP


def test_the_time_limit_counts_clean_rounds(monkeypatch):
    clock = Clock(monkeypatch)
    contestants = [clock.contestant(seconds) for seconds in (0.5, 0.55)]
    measure.race(contestants, 4, Bird([True, True, True, False, True]))
    assert len(contestants[0].times) == 4
    assert len(contestants[0].disturbed) == 2


@pytest.mark.parametrize(
    ("looks", "quiet"),
    [
        ([1.0, 1.0, 1.1, 2.0, 1.0], [True, True, True, False, True]),
        # A core that is hot is slower than it ever was, all the time: what matters is whether it becomes slower still.
        ([1.3, 1.3, 1.35, 1.3, 1.9, 1.3], [True, True, True, True, False, True]),
        # What is so slow from the beginning to the end is not heat.
        ([2.0, 2.0, 2.1, 2.0], [False] * 4),
    ],
)
def test_the_canary_notices_what_slows_it(monkeypatch, looks, quiet):
    canary = measure_canary.Canary(1)
    clock = Clock(monkeypatch)
    seconds = iter(look for look in looks for _ in range(1 + measure_canary.CALLS))  # the first call of a look is not timed

    def plan(x, out):
        clock.now += 1e-4 * next(seconds) / measure_canary.CALLS

    canary._plan, canary._usual = plan, {canary._place: 1e-4}
    assert [canary.is_quiet() for _ in looks] == quiet


def test_canaries_run_on_every_instruction_set(isa, monkeypatch):
    monkeypatch.setattr(measure_canary.Canary, "_usual", {})
    for threads in (1, 2):
        measure_canary.Canary(threads).is_quiet()
        assert 1e-6 < measure_canary.Canary._usual[isa, threads] < 1


def test_steps_go_on_while_they_are_paid_for(monkeypatch):
    clock = Clock(monkeypatch)

    def steps():
        for seconds in (1.0, 3.0, 1.0):
            clock.now += seconds
            yield
        clock.now += 1.0

    rest = measure_steps.Instalments(steps())
    taken = []
    for seconds in (0.0, 0.5, 1.0, 2.9, 7.0, 7.0):
        rest.pay(seconds)
        taken.append(rest.seconds)
    # The first one's length nobody knows; then none is begun that may be too long for what was paid, and nothing is after the last.
    assert taken == [1.0, 1.0, 4.0, 4.0, 6.0, 6.0]
    assert rest.done


def test_a_race_whose_halves_disagree_goes_on(monkeypatch):
    """Each of two is faster than the other every second time."""
    clock = Clock(monkeypatch)

    def contestant(even, odd):
        calls = iter(range(10**9))

        def call():
            clock.now += (even, odd)[next(calls) // 2 % 2]  # an untimed call, a timed one

        return measure.Contestant(CANDIDATES[0], call, 0.0, lambda: False)

    steady, other = clock.contestant(1e-3), contestant(0.97e-3, 1.03e-3)
    measure.race([steady, other], limit=0.5)
    assert len(steady.times) > 2 * measure.ROUNDS
    assert measure.preferred([steady, other], [1.0, 1.02]) is steady


def test_the_inaccurate_do_not_set_the_pace(monkeypatch):
    clock = Clock(monkeypatch)
    contestants = [clock.contestant(seconds) for seconds in (1e-3, 1.5e-3, 1.52e-3, 2.4e-3)]
    contestants[0].error = 1.0
    measure.race(contestants, 10, accuracy=1e-5)
    assert [len(each.times) >= measure.ROUNDS for each in contestants] == [True, True, True, False]


def test_a_new_process_knows_the_canarys_usual_time(monkeypatch):
    monkeypatch.setattr(measure_canary.Canary, "_usual", {("avx2", 1): 2e-4})
    for nonsense in (None, [1], {"avx2": 1e-4}, {"avx2/1": "1"}, {"avx2/1": -1.0}, {"avx2/x": 1e-4}):
        measure_canary.Canary.recall(nonsense)
    measure_canary.Canary.recall({"avx2/1": 1e-4, "avx512/2": 1.5e-4})
    assert measure_canary.Canary.usual() == {"avx2/1": 2e-4, "avx512/2": 1.5e-4}  # what was seen here counts more
