"""How threads divide work among them: every item is done once, whoever is slow."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convopt.algorithms.shares import runs_of


@given(
    items=st.integers(0, 10_000),
    grain=st.integers(1, 300),
    rows=st.integers(1, 8),
    columns=st.integers(1, 4),
    data=st.data(),
)
def test_every_item_is_taken_once_by_someone_of_each_column(items, grain, rows, columns, data):
    threads = rows * columns
    order = data.draw(st.lists(st.integers(0, threads - 1), max_size=40))
    # Whoever is left alone takes all that is left: no thread's work waits for that thread.
    last = data.draw(st.integers(0, threads - 1))
    runs = [run for run in runs_of(items, grain, rows, columns, [*order, *[last] * (8 * threads + 1)]) if run]
    for column in range(columns):
        taken = sorted((first, end) for _, its_column, first, end in runs if its_column == column)
        edges = [0, *(end for _, end in taken)]
        assert [first for first, _ in taken] == edges[:-1]
        assert edges[-1] == items


@given(items=st.integers(1, 10_000), grain=st.integers(1, 300), rows=st.integers(2, 8), columns=st.integers(1, 4))
def test_equal_threads_keep_to_their_own_work_in_ever_shorter_runs(items, grain, rows, columns):
    threads = rows * columns
    runs = runs_of(items, grain, rows, columns, [part for _ in range(4) for part in range(threads)])
    shares = Counter()
    for part in range(threads):
        row, column = divmod(part, columns)
        begin, end = (items // rows * each + min(each, items % rows) for each in (row, row + 1))
        own = [run for run in runs[part::threads] if run and run[1] == column and begin <= run[2] < end]
        lengths = [end - first for *_, first, end in own]
        shares[part] = sum(lengths)
        assert all(later < earlier + grain for earlier, later in pairwise(lengths))
        assert all(length >= min(grain, shares[part]) for length in lengths)
        assert all(length % grain == 0 for length in lengths[:-1])
    assert max(shares.values()) - min(shares.values()) <= 1


def test_a_thread_that_has_finished_takes_from_the_end_of_what_another_has_left():
    runs = runs_of(160, 1, 2, 1, [0, 1, 1, 1, 1, 1, 0])
    assert runs[:5] == [(0, 0, 0, 40), (1, 0, 80, 120), (1, 0, 120, 140), (1, 0, 140, 150), (1, 0, 150, 160)]
    assert runs[5] == (1, 0, 60, 80)
    assert runs[6] == (0, 0, 40, 50)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (80, 1)])
def test_one_thread_and_very_many_keep_to_their_own_work(rows, columns):
    runs = runs_of(800, 1, rows, columns, [*range(rows * columns), 0])
    assert runs == [(part, 0, 800 // rows * part, 800 // rows * (part + 1)) for part in range(rows)] + [None]
