"""Races end with the fastest ahead and the slow ones dropped, whatever else the machine does meanwhile."""

import math

import pytest
from clock import Clock

from convopt.shape import ConvShape
from convopt.tuning import candidates, measure, measure_canary, measure_race, measure_steps
from convopt.tuning.candidates import Request
from convopt.tuning.measure_race import ALONE, PATIENCE, ROUNDS_TO_DROP, TELLING, Contestant, Race, sign_rank

CANDIDATE = candidates.candidates(Request(ConvShape(2, 14, 14, 16, 24, 3, 3), True, "relu", 1, True))[0]
ROUNDS = measure.ROUNDS


@pytest.fixture
def clock(monkeypatch):
    for name in ("SPAN", "SECONDS_TO_DROP"):
        monkeypatch.setattr(measure_race, name, 0.0)  # only the number of rounds counts, save where a test is about that
    return Clock(monkeypatch)


def contestant(clock, seconds, disturbed=(), error=0.0):
    """One whose calls take so many seconds, or as a function of the call's number tells, and 20 times as long where disturbed."""
    calls = iter(range(10**9))

    def call():
        number = next(calls)
        clock.now += (seconds(number) if callable(seconds) else seconds) * (20 if number in disturbed else 1)

    return Contestant(CANDIDATE, call, error, lambda: False)


def race(contestants, limit=10.0, canary=None, least=ROUNDS, accuracy=math.inf):
    """The race, at its end."""
    found = Race(contestants, accuracy)
    measure_steps.all_of(found.steps(limit, canary, least))
    return found


class Bird:
    """A canary whose looks are given; quiet when they are used up."""

    def __init__(self, looks):
        self.looks = iter(looks)

    def is_quiet(self):
        return next(self.looks, True)


def test_the_slow_are_dropped_and_the_race_ends(clock):
    fast, close, slow, absent = (contestant(clock, seconds) for seconds in (1e-3, 1.005e-3, 1.6e-3, 2.1e-3))
    found = race([slow, close, fast, absent])
    assert absent.times == []
    assert found.record(absent).fastest == 2.1e-3
    assert len(slow.times) == ROUNDS_TO_DROP
    assert len(fast.times) == len(close.times) == ROUNDS
    assert [found.record(each).fastest for each in (fast, close, slow)] == pytest.approx([1e-3, 1.005e-3, 1.6e-3], rel=1e-3)


def test_only_times_of_the_same_round_are_compared(clock):
    """Where the machine is slow whenever the faster one runs but the first times, the other's best time is the better one."""
    slow_rounds = range(4, 10**9)
    weather = [1.0]

    class Weather(Bird):
        def is_quiet(self):
            weather[0] = 1.5 if self.rounds in slow_rounds else 1.0
            self.rounds += 1
            return True

    canary = Weather([])
    canary.rounds = 0
    # The slower one's only luck is in the second round; the faster one has none while the machine is fast.
    faster = contestant(clock, lambda number: 1e-3 * weather[0] * (1.0 if weather[0] > 1 else 1.2))
    slower = contestant(clock, lambda number: 1.04e-3 * weather[0])
    found = race([faster, slower], canary=canary)
    assert min(slower.times) < min(faster.times)
    assert found.record(faster).fastest * 1.03 < found.record(slower).fastest


def test_a_disturbed_first_call_drops_nobody(clock):
    steady, disturbed = contestant(clock, 1.2e-3), contestant(clock, 1e-3, disturbed=(0, 1))
    found = race([steady, disturbed])
    assert found.record(disturbed).fastest < found.record(steady).fastest
    assert found.record(disturbed).samples >= ALONE


def test_a_first_time_far_behind_is_confirmed(clock):
    disturbed, slow = contestant(clock, 1e-3, disturbed=(0, 1)), contestant(clock, 3e-3)
    for each in (disturbed, slow):
        each.confirm(1e-3)
    assert disturbed.first == pytest.approx(1e-3)
    assert slow.first == pytest.approx(3e-3)


def test_a_race_keeps_to_its_time(clock):
    contestants = [contestant(clock, seconds) for seconds in (1.0, 1.1)]
    start = clock.now
    race(contestants, limit=3)
    assert clock.now - start < 3 + 2.1 + 1e-6


def test_a_race_spans_some_time(clock, monkeypatch):
    monkeypatch.setattr(measure_race, "SPAN", 0.1)
    contestants = [contestant(clock, 1e-3) for _ in range(2)]
    start = clock.now
    race(contestants)
    assert 0.1 <= clock.now - start < 0.12
    start = clock.now
    race([contestant(clock, 1e-3)])
    assert clock.now - start < 0.02, "nothing is left to be decided"


def test_short_rounds_drop_nobody_before_some_time(clock, monkeypatch):
    monkeypatch.setattr(measure_race, "SECONDS_TO_DROP", 0.03)
    fast, unlucky = contestant(clock, 1e-3), contestant(clock, lambda number: 1.8e-3 if number < 9 else 0.9e-3)
    found = race([fast, unlucky])
    assert found.record(unlucky).fastest < found.record(fast).fastest


def test_short_calls_are_repeated_to_a_sample(clock):
    short = contestant(clock, 1e-6)
    assert short.repeats >= measure_race.SAMPLE / 1e-6 * 0.99
    short.sample()
    assert short.times == pytest.approx([1e-6])


def test_a_disturbed_first_call_does_not_shorten_the_samples(clock):
    disturbed = contestant(clock, lambda number: 1e-6 if number else 2e-3)
    disturbed.confirm(1e-6)
    disturbed.sample()
    assert disturbed.repeats >= measure_race.SAMPLE / 1e-6 * 0.99


def test_the_inaccurate_set_no_mark(clock):
    contestants = [contestant(clock, 1e-3, error=1.0), contestant(clock, 2e-3)]
    assert measure_race.to_beat(contestants, 1e-5) == pytest.approx(2e-3)
    assert measure_race.to_beat(contestants[:1], 1e-5) == pytest.approx(1e-3)
    assert measure_race.to_beat([], 1e-5) == math.inf


def test_disturbed_rounds_do_not_count(clock):
    # Its calls: one at the start, then two a round, the first of them untimed.
    first, second = contestant(clock, 1e-3, disturbed=(6, 8)), contestant(clock, 1.005e-3)
    # Before the race, then after each round: the third is disturbed, and with it the fourth, before which the canary still was.
    found = race([first, second], canary=Bird([True, True, True, False]))
    assert found.quiet.count(False) == 2
    assert max(first.times) == pytest.approx(20e-3)
    record = found.record(first)
    assert (record.samples, record.noisy) == (ROUNDS, 0)
    assert (record.seconds, record.spread) == (pytest.approx(1e-3), pytest.approx(0))


def test_a_machine_that_is_never_quiet_is_not_waited_for(clock):
    contestants = [contestant(clock, seconds) for seconds in (1e-3, 1.1e-3)]
    found = race(contestants, canary=Bird([False] * 1000))
    assert len(contestants[0].times) == PATIENCE * ROUNDS
    assert [found.record(each).noisy for each in contestants] == [1, 1]
    long = contestant(clock, 1.0)
    begin = clock.now
    race([long], 3, Bird([False] * 1000))
    assert clock.now - begin <= 3 * PATIENCE + 1


def test_the_slow_are_dropped_on_a_busy_machine_too(clock):
    fast, slow = contestant(clock, 1e-3), contestant(clock, 1.9e-3)
    race([fast, slow], canary=Bird([False] * 1000))
    assert len(fast.times) > len(slow.times) == PATIENCE * ROUNDS_TO_DROP


def test_nobody_is_dropped_for_first_times_of_a_quieter_moment(clock):
    contestants = [contestant(clock, seconds) for seconds in (1.7e-3, 1.71e-3)]
    contestants[0].first = 1e-3
    race(contestants, canary=Bird([False] * 1000))
    assert len(contestants[0].times) == len(contestants[1].times) > PATIENCE * ROUNDS_TO_DROP


def test_the_time_limit_counts_clean_rounds(clock):
    contestants = [contestant(clock, seconds) for seconds in (0.5, 0.55)]
    found = race(contestants, 4, Bird([True, True, True, False, True]))
    assert found.quiet.count(True) == 4
    assert found.quiet.count(False) == 2


def test_who_surely_is_slower_drops_out(clock):
    """By 4 %: far less than the lead that drops one after a few rounds. Beside it one as fast, for without that there were no race."""
    fast, level, slower = (contestant(clock, seconds) for seconds in (1e-3, 1e-3, 1.04e-3))
    found = race([slower, level, fast])
    assert len(slower.times) == TELLING
    assert len(fast.times) == len(level.times) == ROUNDS
    assert found.record(slower).fastest == pytest.approx(1.04e-3, rel=1e-3)


def test_who_may_be_as_fast_stays(clock):
    """It loses two rounds of three, by far: a median that chance alone may bring about."""
    steady = contestant(clock, 1e-3)
    unlucky = contestant(clock, lambda number: (1.1e-3, 0.97e-3)[number // 2 % 3 == 0])
    race([steady, unlucky], least=12)
    assert len(unlucky.times) >= 12


def test_the_most_promising_one_starts_however_late_it_was(clock):
    promising, other = contestant(clock, 1e-3, disturbed=range(4)), contestant(clock, 1.2e-3)
    found = race([promising, other])
    assert promising.first > measure_race.ABSENT * other.first
    assert found.record(promising).fastest < found.record(other).fastest


@pytest.mark.parametrize(("count", "doubt"), [(1, 0.005), (7, 0.005), (8, 0.005), (24, 0.005), (24, 0.05), (101, 0.05), (5000, 0.05)])
def test_the_sign_test_has_the_doubt_it_promises(count, doubt):
    rank = sign_rank(count, doubt)
    chance = [sum(math.comb(count, below) for below in range(each)) / 2**count for each in (rank, rank + 1)]
    assert chance[0] <= doubt < chance[1]


def test_one_that_lost_all_rounds_is_told_from_so_many_on():
    assert [sign_rank(count, measure_race.DROPPING_DOUBT) for count in (TELLING - 1, TELLING)] == [0, 1]


def test_a_race_that_could_go_either_way_goes_on(clock):
    """One is much faster than the other every second time, and a little slower in between."""
    alternating = contestant(clock, lambda number: (0.9e-3, 1.03e-3)[number // 2 % 2])  # an untimed call, a timed one
    steady = contestant(clock, 1e-3)
    race([steady, alternating], limit=0.5)
    assert len(steady.times) > 1.5 * ROUNDS
    assert measure_race.preferred([steady, alternating], [1.0, 1.02]) is steady


def test_the_inaccurate_do_not_set_the_pace(clock):
    contestants = [contestant(clock, seconds) for seconds in (1e-3, 1.5e-3, 1.51e-3, 2.4e-3)]
    contestants[0].error = 1.0
    race(contestants, accuracy=1e-5)
    assert [len(each.times) >= ROUNDS for each in contestants] == [True, True, True, False]


@pytest.mark.parametrize(
    ("looks", "quiet"),
    [
        ([1.0, 1.0, 1.1, 2.0, 1.0], [True, True, True, False, True]),
        # A core that is hot, or shared, is slower than it ever was, all the time: what matters is whether it becomes slower still.
        ([1.5, 1.5, 1.6, 1.5, 2.1, 1.5], [True, True, True, True, False, True]),
        # What is so slow from the beginning to the end is none of that.
        ([2.0, 2.0, 2.1, 2.0], [False] * 4),
    ],
)
def test_the_canary_notices_what_slows_it(clock, looks, quiet):
    canary = measure_canary.Canary(1)
    seconds = iter(look for look in looks for _ in range(1 + measure_canary.CALLS))  # the first call of a look is not timed

    def plan(x, out):
        clock.now += 1e-4 * next(seconds) / measure_canary.CALLS

    canary._looks.clear()
    canary._plan, canary._usual = plan, {canary._place: 1e-4}
    assert [canary.is_quiet() for _ in looks] == quiet


def test_canaries_run_on_every_instruction_set(isa, monkeypatch):
    monkeypatch.setattr(measure_canary.Canary, "_usual", {})
    for threads in (1, 2):
        measure_canary.Canary(threads).is_quiet()
        assert 1e-6 < measure_canary.Canary._usual[isa, threads] < 1


def test_a_new_process_knows_the_canarys_usual_time(monkeypatch):
    monkeypatch.setattr(measure_canary.Canary, "_usual", {("avx2", 1): 2e-4})
    for nonsense in (None, [1], {"avx2": 1e-4}, {"avx2/1": "1"}, {"avx2/1": -1.0}, {"avx2/x": 1e-4}):
        measure_canary.Canary.recall(nonsense)
    measure_canary.Canary.recall({"avx2/1": 1e-4, "avx512/2": 1.5e-4})
    assert measure_canary.Canary.usual() == {"avx2/1": 2e-4, "avx512/2": 1.5e-4}  # what was seen here counts more


def test_steps_go_on_while_they_are_paid_for(clock):
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
