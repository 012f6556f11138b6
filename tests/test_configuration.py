"""What conv2d keeps between calls: bounded by bytes; tuned once, while other threads go on."""

import os
import sys
import threading
import time

import numpy as np
import pytest

import convopt
from convopt import configuration
from convopt.algorithms import parallel
from convopt.configuration import configurations
from convopt.errors import ShapeError, WorkspaceError
from convopt.shape import ConvShape
from convopt.tuning import measure, planner
from convopt.tuning.candidates import Request

X, W = np.ones((1, 12, 12, 8), np.float32), np.ones((3, 3, 8, 16), np.float32)


@pytest.fixture(autouse=True)
def empty_table(cache_folder):
    configurations.clear()
    yield
    configurations.clear()


def the_only():
    (found,) = configurations._table.values()
    return found


def test_plans_are_bounded_by_their_bytes(monkeypatch):
    one = convopt.conv2d(X, W)
    size = configurations.nbytes
    assert size > W.nbytes
    monkeypatch.setenv("CONVOPT_PLAN_MEMORY", str(size * 4))
    for height in range(4, 40):
        convopt.conv2d(np.ones((1, height, 12, 8), np.float32), W)
        assert configurations.nbytes <= size * 6  # taller images may take a little more
    assert 1 < len(configurations) < 10
    np.testing.assert_array_equal(convopt.conv2d(X, W), one)


def test_what_is_in_use_stays_longest(monkeypatch):
    convopt.conv2d(X, W)
    kept = the_only()
    monkeypatch.setattr(configuration, "MOST", 4)
    for height in range(4, 30):
        convopt.conv2d(np.ones((1, height, 12, 8), np.float32), W)
        convopt.conv2d(X, W)
    assert kept in configurations._table.values()
    assert len(configurations) <= 4


def test_one_configuration_is_kept_however_large(monkeypatch):
    monkeypatch.setenv("CONVOPT_PLAN_MEMORY", "0")
    for _ in range(2):
        convopt.conv2d(X, W)
        assert len(configurations) == 1


@pytest.mark.parametrize("text", ["many", "-1", "1.5"])
def test_an_impossible_bound_is_named(monkeypatch, text):
    monkeypatch.setenv("CONVOPT_PLAN_MEMORY", text)
    with pytest.raises(ShapeError, match=f"CONVOPT_PLAN_MEMORY is '{text}'"):
        convopt.conv2d(X, W)


def test_calls_are_tuned_once_they_have_paid_for_it():
    convopt.conv2d(X, W, threads=1)
    found = the_only()
    assert 0 < found.allowance < float("inf")
    assert found.idle[0].choice.source == "estimate"
    found.spent = 1e9
    convopt.conv2d(X, W, threads=1)
    assert found.idle[0].choice.source in ("measured", "cache")
    assert found.allowance == float("inf")


class Tunings:
    """Stands in for measuring: a request's takes so many payments of a second."""

    def __init__(self, monkeypatch, payments):
        self.payments, self.paid = payments, []
        monkeypatch.setattr(planner, "Tuning", lambda request: Tunings.Tuning(self, request.shape.h))
        monkeypatch.setattr(planner, "budget", lambda request: 1.0 / configuration.BEGIN)
        monkeypatch.setattr(configuration, "PAYS", 1.0)

    class Tuning:
        def __init__(self, all_of_them, height):
            self.all, self.height, self.left, self.done = all_of_them, height, all_of_them.payments, False

        def pay(self, seconds):
            taken = min(self.left, int(seconds))
            self.all.paid += [self.height] * taken
            self.left -= taken
            self.done = self.left == 0
            return float(taken)


def test_measuring_takes_no_longer_than_calls_have(monkeypatch):
    tunings = Tunings(monkeypatch, payments=5)
    convopt.conv2d(X, W, threads=1)
    found = the_only()
    assert found.allowance == 1.0
    for seconds in (1.1, 2.2, 2.3, 4.4):
        found.spent = seconds
        convopt.conv2d(X, W, threads=1)
        assert len(tunings.paid) == int(seconds)
        assert found.allowance < float("inf")
    found.spent = 7.0
    convopt.conv2d(X, W, threads=1)
    assert len(tunings.paid) == 5
    assert found.allowance == float("inf")


def test_layers_pay_together_for_one_after_the_other(monkeypatch):
    tunings = Tunings(monkeypatch, payments=3)
    calls = [lambda: convopt.conv2d(X, W, threads=1), lambda: convopt.conv2d(X[:, 1:], W, threads=1)]
    for call in calls:
        call()
    first, second = configurations._table.values()
    for spent in (1.1, 2.2, 3.3, 4.4):
        for call, each in zip(calls, (first, second), strict=True):
            each.spent = max(each.spent, spent)
            call()
        assert tunings.paid == sorted(tunings.paid, reverse=True)  # 12 rows, then 11
        assert spent <= len(tunings.paid) <= 2 * spent or len(tunings.paid) == 6
    assert first.allowance == second.allowance == float("inf")


def test_what_was_forgotten_is_measured_no_more(monkeypatch):
    tunings = Tunings(monkeypatch, payments=5)
    convopt.conv2d(X, W, threads=1)
    the_only().spent = 1.1
    convopt.conv2d(X, W, threads=1)
    configurations.clear()
    convopt.conv2d(X[:, 1:], W, threads=1)
    the_only().spent = 6.0
    convopt.conv2d(X[:, 1:], W, threads=1)
    assert tunings.paid == [12] + [11] * 5


def test_other_threads_go_on_while_one_measures(monkeypatch):
    """Both the same configuration and another that would have its turn."""
    real, begun, end = measure.measuring, threading.Event(), threading.Event()

    def slow(*arguments, **effort):
        begun.set()
        assert end.wait(20)
        return real(*arguments, **effort)

    monkeypatch.setattr(measure, "measuring", slow)
    calls = [lambda: convopt.conv2d(X, W, threads=1), lambda: convopt.conv2d(X[:, 1:], W, threads=1)]
    for call in calls:
        call()
    for each in configurations._table.values():
        each.spent = 1e9
    tuner = threading.Thread(target=calls[0])
    tuner.start()
    assert begun.wait(20)
    for call in calls * 3:
        started = time.monotonic()
        call()
        assert time.monotonic() - started < 2
    end.set()
    tuner.join()
    calls[1]()  # now it is its turn
    assert [each.allowance for each in configurations._table.values()] == [float("inf")] * 2


def test_a_failed_measurement_leaves_the_plans_there_are(monkeypatch):
    def interrupted(*arguments, **effort):
        raise KeyboardInterrupt

    expected = convopt.conv2d(X, W, threads=1)
    found = the_only()
    found.spent = 1e9
    with monkeypatch.context() as patch:
        patch.setattr(measure, "measuring", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convopt.conv2d(X, W, threads=1)
    np.testing.assert_array_equal(convopt.conv2d(X, W, threads=1), expected)
    assert found.nbytes > 0


def test_a_forked_child_never_measures():
    convopt.conv2d(X, W, threads=1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            found = the_only()
            found.spent = found.allowance
            convopt.conv2d(X, W, threads=1)
            request = Request(ConvShape(1, 9, 9, 4, 4, 3, 3), False, None, 1, True)
            estimated = planner.choose(request, "measure").source == "estimate"
            status = 0 if estimated and found.allowance < float("inf") and not parallel.can_time() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert parallel.can_time()


def test_deterministic_is_a_setting_of_the_environment(monkeypatch):
    monkeypatch.setenv("CONVOPT_DETERMINISTIC", "1")
    convopt.conv2d(X, W)
    assert the_only().request.deterministic
    assert the_only().allowance == float("inf")
    configurations.clear()
    monkeypatch.setenv("CONVOPT_DETERMINISTIC", "0")
    convopt.conv2d(X, W)
    assert not the_only().request.deterministic
    configurations.clear()
    monkeypatch.setenv("CONVOPT_DETERMINISTIC", "perhaps")
    with pytest.raises(ShapeError, match="CONVOPT_DETERMINISTIC is 'perhaps'"):
        convopt.conv2d(X, W)


def test_what_goes_wrong_with_measuring_does_not_lose_the_result(monkeypatch):
    expected = convopt.conv2d(X, W, threads=1)
    found = the_only()
    found.spent = 1e9

    def failing(*arguments, **effort):
        raise MemoryError("none left")

    monkeypatch.setattr(measure, "measuring", failing)
    with pytest.warns(RuntimeWarning, match="could not be measured"):
        y = convopt.conv2d(X, W, threads=1)
    np.testing.assert_allclose(y, expected, atol=1e-4)
    assert found.allowance == float("inf")


def test_memory_that_never_suffices_is_an_error_and_no_loop(monkeypatch):
    tried = []

    class Greedy:
        def __init__(self, shape, algorithm, params, *arguments, **options):
            tried.append((algorithm, *params.items()))
            raise WorkspaceError(f"{algorithm} needs 5 bytes", 5)

    monkeypatch.setattr(configuration, "ConvPlan", Greedy)
    with pytest.raises(WorkspaceError, match="needs 5 bytes"):
        convopt.plan(X.shape, W, tune="estimate", threads=1)
    assert len(tried) == len(set(tried)) >= 1


def test_threads_may_fill_and_clear_the_table_at_once():
    failures = []

    def fill(start):
        try:
            for height in range(start, start + 60):
                convopt.conv2d(np.ones((1, 4 + height, 8, W.shape[2]), np.float32), W, threads=1, tune="estimate")
                if height % 7 == 0:
                    configurations.clear()
        except Exception as error:
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=fill, args=(60 * number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(before)
    assert failures == []


def test_a_limit_that_is_no_number_is_an_error_each_time(monkeypatch):
    monkeypatch.setenv("CONVOPT_PLAN_MEMORY", "1G")
    for _ in range(2):
        with pytest.raises(ShapeError, match="CONVOPT_PLAN_MEMORY"):
            convopt.conv2d(X, W)
