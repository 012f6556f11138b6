"""The race, with planted engines."""

import math
import subprocess
from dataclasses import replace

import pytest

pytest.importorskip("typer", reason="the command line's extras are not installed: pip install 'convopt[cli]'")


from planted import BRIEF, LAYERS, raced

from convopt.bench import process, race
from convopt.bench.engines import ENGINES
from convopt.bench.race import Effort, Timing
from convopt.cli import bench as verb
from convopt.shape import ConvShape
from convopt.tuning import networks


@pytest.mark.usefixtures("planted")
class TestRace:
    def test_engines_take_turns(self, monkeypatch):
        monkeypatch.setattr(race, "HOPELESS", math.inf)
        outcome = raced(["convopt", "right"], effort=replace(BRIEF, most=1))
        assert {(each.layer, each.engine) for each in outcome.timings} == {
            (layer.name, name) for layer in LAYERS for name in ("convopt", "right")
        }
        for timing in outcome.timings:
            assert len(timing.rounds) == len(timing.canary) == 2
            assert all(seconds > 0 for samples in timing.rounds for seconds in samples)
            assert timing.difference < 1e-6
            assert timing.peak_rss > 1 << 20
        facts = {each.engine: each.facts for each in outcome.timings if each.layer == "small"}
        assert facts["right"]["seen"] == "right"
        assert facts["convopt"]["algorithm"] in facts["convopt"]["choice"]
        assert outcome.missing == {}
        assert outcome.not_timed == []

    def test_an_engine_far_behind_has_one_round(self, monkeypatch):
        monkeypatch.setattr(race, "HOPELESS", 3.0)
        rounds = {each.engine: len(each.rounds) for each in raced(["right", "slow"], LAYERS[:1], effort=Effort(3, 0.001, most=1)).timings}
        assert rounds["slow"] == 1
        assert 3 in rounds.values()

    def test_it_has_a_second_one_where_calls_are_short(self, monkeypatch):
        monkeypatch.setattr(race, "HOPELESS", 3.0)
        monkeypatch.setattr(race, "LONG", math.inf)
        rounds = {each.engine: len(each.rounds) for each in raced(["right", "slow"], LAYERS[:1], effort=Effort(6, 0.001, most=1)).timings}
        assert rounds["slow"] == 2

    def test_convopt_has_all_rounds_however_slow_it_was(self, monkeypatch):
        monkeypatch.setattr(race, "HOPELESS", 0.0)
        monkeypatch.setattr(race, "LONG", 0.0)
        rounds = {each.engine: len(each.rounds) for each in raced(["right"], LAYERS[:1], effort=Effort(4, 0.001, most=1)).timings}
        assert rounds == {"convopt": 4, "right": 4}, "and so has the fastest peer"

    def test_an_engine_behind_has_every_other_round(self, monkeypatch):
        monkeypatch.setattr(race, "BEHIND", 2.0)
        monkeypatch.setattr(race, "HOPELESS", math.inf)
        rounds = {each.engine: len(each.rounds) for each in raced(["right", "slow"], LAYERS[:1], effort=Effort(5, 0.001, most=1)).timings}
        assert rounds == {"convopt": 5, "right": 5, "slow": 3}, "the fastest peer has all, however far ahead of it convopt is"

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("wrong", "differs from convopt's by 1.0e-02"),
            ("cropped", "result has shape"),
            ("raising", "RuntimeError: no such kernel"),
            ("crashing", "SIGSEGV"),
        ],
    )
    def test_what_is_wrong_is_not_timed(self, name, reason):
        outcome = raced([name])
        assert {each.engine for each in outcome.timings} == {"convopt"}
        assert [each["layer"] for each in outcome.not_timed] == ["small", "tiny_dw"], "a broken engine gets another chance"
        assert all(reason in each["failed"] for each in outcome.not_timed)

    def test_patience_ends(self, monkeypatch):
        monkeypatch.setattr(process, "PATIENCE", 8.0)
        outcome = raced(["hanging"], LAYERS[:1])
        assert outcome.not_timed[0]["failed"] == "no answer within 8 s"

    def test_absent_engines_are_said(self):
        outcome = raced(["absent", "right"])
        assert "a_package_nobody_has" in outcome.missing["absent"]
        assert {each.engine for each in outcome.timings} == {"convopt", "right"}

    def test_engines_may_decline(self):
        outcome = raced(["picky"])
        assert [(each["layer"], each["not_served"]) for each in outcome.not_timed] == [("tiny_dw", "no groups")]

    def test_memory_is_of_one_layer(self):
        grown = {each.engine: each.facts["grown"] for each in raced(["right", "hungry"], LAYERS[:1]).timings}
        assert grown["hungry"] > 64 << 20
        assert grown["right"] < 32 << 20

    def test_rounds_go_on_until_two_agree(self, monkeypatch):
        monkeypatch.setattr(race, "SETTLED", -1.0)
        monkeypatch.setattr(race, "HOPELESS", math.inf)
        rounds = {each.engine: len(each.rounds) for each in raced(["right"], LAYERS[:1]).timings}
        assert rounds == {"convopt": 2 * BRIEF.most, "right": 2 * BRIEF.most}
        monkeypatch.setattr(race, "SETTLED", math.inf)
        monkeypatch.setattr(race, "SLOW", math.inf)
        rounds = {each.engine: len(each.rounds) for each in raced(["right"], LAYERS[:1]).timings}
        assert rounds == {"convopt": 2, "right": 2}

    def test_no_process_is_left(self):
        before = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.count("planted_right")
        raced(["right"], LAYERS[:1])
        assert subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.count("planted_right") == before


def test_the_fastest_round_is_believed_where_another_agrees():
    timing = Timing("layer", "convopt", 1, [[1.0], [1.2], [1.004]], 0.0, canary=[1.0, 1.0, 1.0])
    assert timing.settled
    assert timing.fastest == 1.0
    assert not replace(timing, canary=[1.0, 1.0, 2.0]).settled, "the round that agrees was disturbed"
    assert not replace(timing, rounds=[[1.0], [1.2], [1.1]]).settled


def test_padding_rule():
    for rule in ("SAME", "VALID"):
        assert race.padding_rule(ConvShape.from_arguments((1, 9, 9, 1), (4, 3, 1, 1), 2, rule)) == rule
    assert race.padding_rule(ConvShape.from_arguments((1, 9, 9, 1), (3, 3, 1, 1), 1, ((2, 0), (1, 1)))) is None


def test_workers_import_nothing_of_convopt():
    """They run where convopt is not installed."""
    for file in process.WORKER.parent.glob("*.py"):
        assert file.name in ("own.py", "__init__.py") or "import convopt" not in file.read_text()
    assert not [line for line in (process.WORKER.parent / "__init__.py").read_text().splitlines() if line.startswith("from convopt")]
    assert {engine.module for engine in ENGINES.values()} <= {file.stem for file in process.WORKER.parent.glob("*.py")}


def test_public_list_is_what_is_raced():
    layers = networks.network(verb.LIST)
    assert len(layers) == 38
    assert set(verb.QUICK) < {layer.name for layer in layers}
