"""Records: what a choice follows from, and how it is kept."""

from dataclasses import replace

import pytest
from made_up import REQUEST, record

from convopt.tuning import records


def test_select_takes_the_fastest():
    assert records.select([record(1, 2e-3), record(2, 1e-3), record(3, 3e-3)], REQUEST).label == "direct:nv=2"


def test_select_breaks_ties_by_error_then_by_workspace():
    close = [record(1, 1.009e-3, error=2e-7), record(2, 1e-3, error=2e-6), record(3, 1.015e-3, error=1e-8)]
    assert records.select(close, REQUEST).label == "direct:nv=1"
    assert records.select([record(3, 1e-3), record(1, 1.009e-3), record(2, 1.001e-3)], REQUEST).label == "direct:nv=1"


def test_select_obeys_every_limit():
    known = [
        record(1, 1e-3, error=5e-5),
        record(2, 2e-3, error=5e-6, spreads_nonfinite=True),
        record(3, 3e-3),
        record(4, 1e-4, rejected="wrong"),
    ]
    assert records.select(known, replace(REQUEST, accuracy=1e-4)).label == "direct:nv=1"
    assert records.select(known, REQUEST).label == "direct:nv=2"
    assert records.select(known, replace(REQUEST, finite_only=True)).label == "direct:nv=3"
    assert records.select(known, replace(REQUEST, max_workspace=2000)).label == "direct:nv=2"
    assert records.select(known, replace(REQUEST, max_workspace=1500)) is None
    assert records.select([record(1, rejected="wrong", fastest=None)], REQUEST) is None
    assert records.select([], REQUEST) is None


def test_select_keeps_the_most_accurate_where_none_is_accurate_enough():
    known = [record(1, 1e-3, error=5e-4), record(2, 2e-3, error=3e-5)]
    assert records.select(known, replace(REQUEST, accuracy=1e-9)).label == "direct:nv=2"


def test_records_survive_json():
    known = (record(1, rejected="wrong", fastest=None, seconds=None), record(2, spreads_nonfinite=True, spread=0.1))
    assert records.from_json(records.to_json(known)) == known


@pytest.mark.parametrize(
    "value",
    [None, 1, "text", [], {}, {"records": 1}, {"records": [1]}, {"records": [{}]}]
    + [
        {"records": [{**record(1).to_json(), name: bad}]}
        for name, bad in [
            ("params", {"nv": "1"}),
            ("params", [1]),
            ("seconds", "fast"),
            ("seconds", -1.0),
            ("fastest", 1e999),
            ("workspace_bytes", 1.5),
            ("revision", None),
            ("algorithm", 7),
            ("rejected", 7),
            ("unheard_of", 1),
        ]
    ],
)
def test_values_that_are_no_records_are_a_miss(value):
    assert records.from_json(value) == ()
