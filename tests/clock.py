"""A clock that only what is timed moves, so that tests decide how long everything takes."""

from convopt.tuning import measure, measure_canary, measure_race, measure_steps


class Clock:
    """In the place of every clock that measuring looks at. now: seconds."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for module in (measure, measure_canary, measure_race, measure_steps):
            monkeypatch.setattr(module, "perf_counter", lambda: self.now)
