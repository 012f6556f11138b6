"""Benchmarks: the race with planted engines, the file it leaves, and what two such files say of each other."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line's extras are not installed: pip install 'convopt[cli]'")

from typer.testing import CliRunner

from convopt.bench import compare, engines, limits, process, race, results, run, sweep
from convopt.bench.engines import ENGINES, PEERS, Engine
from convopt.bench.race import Effort, Outcome, Timing
from convopt.cli import bench as verb
from convopt.cli import info
from convopt.cli.app import app
from convopt.shape import ConvShape
from convopt.tuning import networks

LAYERS = networks.read_shapes(["small 1x9x8x4 3x3x4x8 pad=SAME stride=2", "tiny_dw 1x6x6x4 3x3x1x4 x3"])
BRIEF = Effort(rounds=2, seconds=0.001)

#: An engine that is right, in a few lines; the others below break it in one way each.
RIGHT = """
import numpy as np

def start(engine, threads):
    print("engines print what they like")

def prepare(engine, threads, problem):
    x = np.pad(problem.x, ((0, 0), *problem.pads, (0, 0)))
    r, s, group_c, k = problem.w.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (r, s), axis=(1, 2))
    windows = windows[:, :: problem.strides[0], :: problem.strides[1]]
    def call():
        parts = []
        for g in range(problem.groups):
            inputs, outputs = slice(g * group_c, (g + 1) * group_c), slice(g * k // problem.groups, (g + 1) * k // problem.groups)
            parts.append(np.einsum("nhwcrs,rsck->nhwk", windows[..., inputs, :, :], problem.w[..., outputs]))
        return np.concatenate(parts, -1)
    return call, lambda y: y, {"seen": engine}
"""
PLANTED = {
    "right": RIGHT,
    "wrong": RIGHT.replace("lambda y: y,", "lambda y: y * 1.01,"),
    "cropped": RIGHT.replace("lambda y: y,", "lambda y: y[:, 1:],"),
    "raising": RIGHT.replace("def call():", "def call():\n        raise RuntimeError('no such kernel')"),
    "crashing": RIGHT.replace("def call():", "def call():\n        import os; os.kill(os.getpid(), 11)"),
    "hanging": RIGHT.replace("def call():", "def call():\n        import time; time.sleep(60)"),
    "slow": RIGHT.replace("def call():", "def call():\n        import time; time.sleep(0.05)"),
    "hungry": RIGHT.replace("    x = np", "    held = np.ones(16 << 20, np.float32)\n    x = np", 1),
    "absent": "import a_package_nobody_has",
    "picky": RIGHT.replace(
        "    x = np", "    from problem import NotServedError\n    if problem.groups > 1: raise NotServedError('no groups')\n    x = np"
    ),
}


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Engines of this test's own making among the known ones, and a cache of their own."""
    for name, source in PLANTED.items():
        (tmp_path / f"planted_{name}.py").write_text(source)
        monkeypatch.setitem(ENGINES, name, Engine(name, name.title(), f"planted_{name}", ("numpy",)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(tmp_path / "cache"))


def raced(names, layers=LAYERS, threads=(1,), effort=BRIEF):
    doing = []
    outcome = race.race(layers, names, threads, effort, sys.executable, lambda count, what: doing.extend([what] * count))
    assert len(doing) == race.steps(layers, list(dict.fromkeys(("convopt", *names))), threads)
    return outcome


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


def planted_results(tmp_path, name="run", factor=1.0, noise=0.0, slow=(), threads=(1, 2), peers=PEERS[:3], seed=0):
    """A results file of made-up times: `factor` times slower in all, 10 % slower on the layers in `slow`."""
    draw = np.random.default_rng(seed)
    layers = networks.network("public")[:12]
    timings = []
    for count in threads:
        for layer in layers:
            for engine in ("convopt", *peers):
                base = layer.shape.flops / (60e9 if engine == "convopt" else 40e9) / count * factor
                base *= 1.1 if engine == "convopt" and layer.name in slow else 1.0
                rounds = [[base * (1 + noise * draw.random()) for _ in range(4)] for _ in range(5)]
                facts = {}
                if engine == "convopt":
                    contenders = [
                        {"label": "direct:nv=3", "algorithm": "direct", "seconds": base, "error": 2e-7, "estimate": 2e-3},
                        {"label": "winograd:t=6", "algorithm": "winograd", "seconds": base * 1.3, "error": 5e-6, "estimate": 1e-3},
                    ]
                    facts = {"choice": "direct:nv=3", "algorithm": "direct", "error": 2e-7, "contenders": contenders}
                    facts |= {"tuning_seconds": 0.25, "workspace_bytes": 4096, "packed_bytes": 1 << 16, "packing_seconds": base * 0.2}
                timings.append(Timing(layer.name, engine, count, rounds, 1e-7, facts, 1 << 26))
    outcome = Outcome(timings, [{"layer": layers[0].name, "engine": "ncnn", "threads": 1, "failed": "broke <down>"}], {"jax": "No module"})
    cells = [
        {"kernel": k, "channels": c, "size": 56, "algorithm": "fft" if k > 3 else "direct", "label": "x", "seconds": 1e-3, "gflops": 9.0,
         "second": "direct", "second_seconds": 2e-3 if k > 1 else None}
        for k in (1, 3, 7) for c in (1, 16)
    ]  # fmt: skip
    level = [{"level": "L1", "bytes": 1, "gbps": 200.0}, {"level": "memory", "bytes": 1, "gbps": 12.0}]
    extra = {"limits": {str(count): {"gflops": 100.0 * count, "bandwidth": level} for count in threads}}
    extra["sweep"] = {"threads": 1, "cells": cells}
    extra |= planted_studies(threads, ("convopt", *peers))
    settings = {"rounds": 5, "seconds": 0.04, "remembered": False, "quick": False}
    versions = {"torch": "1.0", "convopt": "0.1"}
    value = results.document(outcome, layers, "public", info.gather(), versions, settings, **extra)
    return results.save(value, to=tmp_path / f"{name}.json")


def planted_studies(threads, names):
    """What the studies leave, of made-up times."""
    seconds = {name: 2e-3 * (1 + number) for number, name in enumerate(names)}
    forward = {name: {"seconds": value, "median": value, "noise": 0.0, "grown": 1 << 25} for name, value in seconds.items()}
    entry = {"title": "VGG-16", "flops": 10**9, "sums": {}, "forward": {str(count): forward for count in threads}}
    points = [
        {"value": value, "flops": 1, "algorithm": "direct", "seconds": {n: s * value for n, s in seconds.items()}} for value in (1, 2, 4)
    ]
    return {
        "networks": {"vgg16": entry | {"sums": {str(count): seconds for count in threads}}},
        "growth": {"threads": 1, "curves": dict.fromkeys(("batch", "channels", "image", "kernel"), points)},
        "calls": {str(count): dict.fromkeys(names, 1e-06) for count in threads},
        "footprints": dict.fromkeys(names, 1 << 25),
        "took": 90.0,
    }


class TestResults:
    def test_what_is_written_is_read(self, tmp_path):
        read = results.read(planted_results(tmp_path, noise=0.02))
        assert read.threads == [1, 2]
        assert read.engines == ["convopt", *PEERS[:3]]
        assert len(read.rows) == 12 * 4 * 2
        row = read.of("convopt", 2)["resnet50_3x3_64@56"]
        assert row.gflops == pytest.approx(120, rel=0.02)
        assert row.shape == next(layer.shape for layer in networks.network("public") if layer.name == row.layer)
        assert read.ratios(1)[row.layer] == pytest.approx(1.5, rel=0.03)
        assert read.about["noise"]["grade"] == "A"
        assert read.about["isa"] in ("generic", "avx2", "avx512")

    @pytest.mark.parametrize(("noise", "grade"), [(0.0, "A"), (0.1, "B"), (0.6, "C"), (6.0, "D")])
    def test_noise_has_a_grade(self, tmp_path, noise, grade):
        assert results.read(planted_results(tmp_path, noise=noise)).about["noise"]["grade"] == grade

    def test_pytest_benchmark_reads_it(self, tmp_path):
        pytest.importorskip("pytest_benchmark")
        path = planted_results(tmp_path)
        code = "import sys; from pytest_benchmark.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "compare", path, "--group-by=group"], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert "vgg16_3x3_3_64@224[convopt-1]" in done.stdout + done.stderr

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda text: text[: len(text) // 2], "not JSON"),
            (lambda text: "[1, 2]", "not results of convopt bench"),
            (lambda text: '{"benchmarks": [], "machine_info": {}}', "not results of convopt bench: KeyError: 'convopt'"),
            (lambda text: text.replace('"format": 1', '"format": 99'), "format 99"),
            (lambda text: text.replace('"engine": "torch_nchw"', '"engine": "abacus"'), "engines abacus are unknown"),
            (lambda text: text.replace('"min": ', '"min": -', 1), "not results of convopt bench"),
            (lambda text: text.replace('"shape": "n1', '"shape": "m1', 1), "not results of convopt bench"),
        ],
    )
    def test_other_files_are_named(self, tmp_path, damage, reason):
        path = planted_results(tmp_path)
        path.write_text(damage(path.read_text()))
        with pytest.raises(results.ResultsError, match=reason) as error:
            results.read(path)
        assert str(path) in str(error.value)

    def test_latest_skips_what_it_cannot_read(self, tmp_path):
        folder = tmp_path / "results" / "cpu"
        folder.mkdir(parents=True)
        planted_results(folder, "2026-01-01-a")
        (folder / "2026-01-02-b.json").write_text("{")
        found, skipped = results.latest(tmp_path / "results")
        assert found.path.name == "2026-01-01-a.json"
        assert len(skipped) == 1
        assert "2026-01-02-b.json" in skipped[0]
        assert results.latest(tmp_path / "nothing") == (None, [])

    def test_a_file_is_named_by_cpu_date_and_commit(self, tmp_path):
        value = json.loads(planted_results(tmp_path).read_text())
        value["machine_info"]["cpu"]["brand_raw"] = "Best CPU (R) 9000 @ 2.0GHz"
        value["datetime"], value["commit_info"]["id"] = "2026-02-03T04:05:06+00:00", "0123456789abcdef"
        path = results.save(value, tmp_path)
        assert path.relative_to(tmp_path).as_posix() == "best-cpu-r-9000-2-0ghz/2026-02-03-012345678.json"


#: What is made slower.
LAYER = ("vgg16_3x3_3_64@224",)


class TestCompare:
    def both(self, tmp_path, **changes):
        old = results.read(planted_results(tmp_path, "old", noise=0.01))
        return compare.compare(old, results.read(planted_results(tmp_path, "new", **{"noise": 0.01, "seed": 1} | changes)))

    def test_noise_is_no_regression(self, tmp_path):
        found = self.both(tmp_path)
        assert found.slower == []
        assert found.geomeans[1] == pytest.approx(1, abs=0.02)

    def test_ten_percent_is_one(self, tmp_path):
        found = self.both(tmp_path, slow=("vgg16_3x3_3_64@224",))
        assert {(each.layer, each.threads) for each in found.slower} == {("vgg16_3x3_3_64@224", 1), ("vgg16_3x3_3_64@224", 2)}

    @pytest.mark.parametrize("seed", range(2, 8))
    def test_disturbed_rounds_are_no_regression(self, tmp_path, seed):
        """Most rounds late by up to a third, as on a shared machine."""
        found = self.both(tmp_path, noise=0.35, seed=seed, slow=("resnet50_3x3_64@56",))
        assert {each.layer for each in found.slower} <= {"resnet50_3x3_64@56"}

    def test_a_noisy_run_is_not_believed(self, tmp_path):
        assert self.both(tmp_path, slow=("vgg16_3x3_3_64@224",), noise=1.0).slower == []

    def test_a_layer_on_which_peers_vary_is_not_believed(self, tmp_path):
        old, new = (results.read(planted_results(tmp_path, name, noise=0.01, slow=slow)) for name, slow in (("old", ()), ("new", LAYER)))
        rows = [replace(row, seconds=row.seconds * 1.2) if row.layer in LAYER and row.engine in PEERS[:2] else row for row in new.rows]
        assert {each.layer for each in compare.compare(old, new).slower} == set(LAYER)
        assert compare.compare(old, replace(new, rows=rows)).slower == []

    def test_suspects_are_worth_another_look(self, tmp_path):
        old = results.read(planted_results(tmp_path, "old", noise=0.01))
        new = results.read(planted_results(tmp_path, "new", noise=0.01, slow=LAYER))
        times = {
            layer: {row.engine: row.seconds for row in new.rows if (row.layer, row.threads) == (layer, 1)} for layer in new.of("convopt", 1)
        }
        assert compare.suspects(old, times, 1) == set(LAYER)

    def test_a_slower_machine_is_no_regression(self, tmp_path):
        found = self.both(tmp_path, factor=1.3)
        assert found.slower == []
        assert found.drifts[1] == pytest.approx(1.3, rel=0.02)

    def test_without_peers_a_slower_machine_cannot_be_told(self, tmp_path):
        old = results.read(planted_results(tmp_path, "old", peers=()))
        assert len(compare.compare(old, results.read(planted_results(tmp_path, "new", peers=(), factor=1.3))).slower) == 24

    def test_other_machines_do_not_compare(self, tmp_path):
        old = results.read(planted_results(tmp_path, "old"))
        with pytest.raises(results.ResultsError, match="CPU is Other"):
            compare.compare(old, replace(old, machine={"cpu": {"brand_raw": "Other"}}))
        with pytest.raises(results.ResultsError, match="instruction set is mmx"):
            compare.compare(old, replace(old, about={**old.about, "isa": "mmx"}))
        with pytest.raises(results.ResultsError, match="no layer in common"):
            compare.compare(old, replace(old, rows=[]))


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs a command line in this process, in a folder of its own."""
    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


class TestCommand:
    @pytest.mark.usefixtures("planted")
    def test_bench_writes_and_shows(self, cli, tmp_path, monkeypatch):
        monkeypatch.setattr(run.limits, "measure", lambda threads, step: [step("limits") for _ in threads] and {})
        file = tmp_path / "layers.txt"
        file.write_text("first 1x9x8x4 3x3x4x8 pad=SAME\nsecond 1x6x6x4 3x3x1x4\n")
        words = ("bench", file, "--engines", "right,absent", "--threads", "1", "--rounds", "2", "--seconds", "0.001")
        result = cli(*words)
        assert result.exit_code == 0, result.output
        for text in ("first", "second", "Right", "geometric mean of 2 layers", "Noise: grade"):
            assert text in result.stdout
        assert "skipped Absent" in result.stderr
        (path,) = (tmp_path / "results").glob("*/*.json")
        assert results.read(path).engines == ["convopt", "right"] or {row.engine for row in results.read(path).rows} == {"convopt", "right"}
        facts = json.loads(cli(*words, "--output", tmp_path / "x.json", "--json").stdout)
        assert facts["file"] == str(tmp_path / "x.json")
        assert len(facts["benchmarks"]) == 4

    @pytest.mark.usefixtures("planted")
    def test_against_an_earlier_run(self, cli, tmp_path, monkeypatch):
        """What looks slower is measured again: one that was never as fast as claimed stays slower."""
        monkeypatch.setattr(run.limits, "measure", lambda threads, step: {})
        (tmp_path / "layers.txt").write_text("first 1x9x8x4 3x3x4x8 pad=SAME\n")
        words = ("bench", "layers.txt", "--engines", "right", "--threads", "1", "--rounds", "2", "--seconds", "0.001")
        assert cli(*words, "--output", "old.json").exit_code == 0
        old = json.loads((tmp_path / "old.json").read_text())
        for each in old["benchmarks"]:
            if each["params"]["engine"] == "convopt":
                each["stats"]["min"] /= 100
        (tmp_path / "older.json").write_text(json.dumps(old))
        result = cli(*words, "--output", "new.json", "--against", "older.json")
        assert result.exit_code == 1, result.output
        assert "1 slower" in result.stdout
        rounds = {row.engine: len(row.facts["rounds"]) for row in results.read(tmp_path / "new.json").rows}
        assert rounds["convopt"] >= 2 + 4

    def test_compare(self, cli, tmp_path):
        planted_results(tmp_path, "old", noise=0.01)
        planted_results(tmp_path, "new", noise=0.01, seed=1, slow=("vgg16_3x3_3_64@224",))
        assert cli("bench", "--compare", "old.json", "old.json").exit_code == 0
        result = cli("bench", "--compare", "old.json", "new.json")
        assert result.exit_code == 1
        assert "2 slower" in result.stdout
        facts = json.loads(cli("bench", "--compare", "old.json", "new.json", "--json").stdout)
        assert {each["layer"] for each in facts["changes"] if each["verdict"] == "slower"} == {"vgg16_3x3_3_64@224"}

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--engines", "abacus"), ("'abacus'", "known are convopt, convopt_fresh, torch_nchw")),
            (("--network", "lenet6"), ("'lenet6'", "lenet5", "public")),
            (("--layers", "resnet99"), ("'resnet99'", "resnet50_3x3_64@56")),
            (("--threads", "none"), ("--threads is 'none'",)),
            (("--study", "weather"), ("'weather'", "networks, growth, map, none")),
            (("--against", "absent.json"), ("absent.json: cannot be read: No such file",)),
            (("absent.txt",), ("absent.txt", "No such file")),
            (("--compare", "absent.json", "absent.json"), ("absent.json: cannot be read: No such file",)),
        ],
    )
    def test_mistakes_are_one_line(self, cli, words, said):
        result = cli("bench", *words)
        assert result.exit_code == 2, result.output
        assert result.stderr.count("\n") == 1
        for text in said:
            assert text in result.stderr

    @pytest.mark.parametrize("option", ["format=NCHW", "dtype=float64"])
    def test_only_what_engines_share_is_compared(self, cli, tmp_path, option):
        (tmp_path / "layers.txt").write_text(f"first 1x9x8x4 3x3x4x8 {option}\n")
        result = cli("bench", "layers.txt")
        assert result.exit_code == 2
        assert "layer first is" in result.stderr


def test_limits_are_plausible(monkeypatch):
    monkeypatch.setattr(limits, "SAMPLE", 0.001)
    monkeypatch.setattr(limits, "MEMORY", 1 << 22)
    monkeypatch.setattr(limits.machine, "cache_bytes", lambda level: {1: 1 << 15, 2: 1 << 20, 3: 1 << 22}[level])
    found = limits.measure([1, 2])
    first = {threads: each["gflops"] for threads, each in found.items()}
    limits.measure_again(found)
    assert all(found[threads]["gflops"] >= gflops for threads, gflops in first.items())
    for threads in ("1", "2"):
        assert 1 < found[threads]["gflops"] < 2000
        assert [level["level"] for level in found[threads]["bandwidth"]] == ["L1", "L2", "L3", "memory"]
        assert all(0.2 < level["gbps"] < 5000 for level in found[threads]["bandwidth"])


@pytest.mark.usefixtures("isa")
def test_the_peak_counts_what_it_does():
    from convopt.kernels import limits as kernels

    assert kernels.multiply_add(1000, 2) == 2 * kernels.multiply_add(1000, 1) == 2000 * kernels.multiply_add(1, 1)
    kernels.read(np.ones((2, 1024), np.float32), 3)


def test_the_map_has_a_cell_per_problem(monkeypatch, cache_folder):
    monkeypatch.setattr(sweep, "KERNELS", (1, 3))
    monkeypatch.setattr(sweep, "CHANNELS", (1, 4))
    monkeypatch.setattr(sweep, "SIZES", (7,))
    doing = []
    found = sweep.measure(1, doing.append)
    assert len(found["cells"]) == len(doing) == len(sweep.cells()) == 4
    assert all(cell["seconds"] > 0 and cell["label"].startswith(cell["algorithm"]) for cell in found["cells"])


def test_every_problem_of_the_map_is_affordable():
    assert 60 < len(sweep.cells()) < 120
    assert max(shape.flops for shape in sweep.cells()) <= sweep.MOST_FLOPS


def test_engines_are_named_once():
    assert list(ENGINES)[:2] == ["convopt", "convopt_fresh"]
    assert len({engine.title for engine in ENGINES.values()}) == len(ENGINES)
    assert tuple(name for name in ENGINES if not name.startswith("convopt")) == engines.PEERS
