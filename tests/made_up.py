"""Candidates and records of algorithms nobody built, for tests of choosing among them."""

from convopt.algorithms.contract import Work
from convopt.shape import ConvShape
from convopt.tuning.candidates import Candidate, Request
from convopt.tuning.records import Record

SHAPE = ConvShape(1, 14, 14, 32, 64, 3, 3, pads=((1, 1), (1, 1)))
REQUEST = Request(SHAPE, bias=False, activation=None, threads=1, constant_filters=True)


def candidate(number, megaflops=10.0, **more):
    """A candidate of an algorithm nobody built, told apart by its parameter."""
    values = {
        "algorithm": "direct",
        "params": (("nv", number),),
        "revision": 1,
        "spreads_nonfinite": False,
        "expected_error": 1e-7,
        "workspace_bytes": 1000 * number,
        "packed_bytes": 0,
        "layout_bytes": 0,
        "work": Work(megaflops * 1e6, 0.9, 0.0, 0.0, 100),
    }
    return Candidate(**{**values, **more})


def record(number, fastest=1e-3, **more):
    values = {"revision": 1, "workspace_bytes": 1000 * number, "packed_bytes": 0, "seconds": fastest, "error": 1e-7, "samples": 10}
    return Record(**{"algorithm": "direct", "params": (("nv", number),), "fastest": fastest, **values, **more})
