"""Benchmarks: the file that a race leaves, and what two such files say of each other."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line's extras are not installed: pip install 'convopt[cli]'")


from planted import planted_results

from convopt.algorithms import parallel
from convopt.bench import compare, engines, limits, results, run, sweep
from convopt.bench.engines import ENGINES, PEERS
from convopt.tuning import networks


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
            (lambda text: text.replace('"isa": ', '"is": '), "not results of convopt bench: KeyError: 'isa'"),
            (lambda text: text.replace('"grade": ', '"mark": '), "not results of convopt bench: KeyError: 'grade'"),
            (lambda text: text.replace('"sweep": {', '"sweep": 7, "swept": {'), "TypeError: convopt.sweep is 7"),
            (lambda text: text.replace('"engine": "convopt"', '"engine": "torch_nchw"'), "convopt was not timed"),
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

    def test_what_noise_hides_in_one_layer_shows_in_all_of_an_algorithm(self, tmp_path):
        """Made slower by 10 % on purpose, all layers, while samples take up to 2.2 times as long: few are in time."""
        layers = tuple(layer.name for layer in networks.network("public"))
        found = self.both(tmp_path, noise=1.2, slow=layers)
        assert len(found.slower) < len(found.changes) / 2, "hidden in most"
        assert [(each.algorithm, each.threads, each.verdict) for each in found.trends] == [("direct", 1, "slower"), ("direct", 2, "slower")]
        assert found.regressions == len(found.slower) + 2
        assert [each.verdict for each in self.both(tmp_path, noise=1.2).trends] == ["", ""]

    def test_another_choice_is_no_trend(self, tmp_path):
        old, new = (results.read(planted_results(tmp_path, name)) for name in ("old", "new"))
        rows = [replace(row, facts={**row.facts, "algorithm": "fft"}) for row in new.rows]
        assert compare.compare(old, replace(new, rows=rows)).trends == []

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

    def test_a_machine_that_is_slower_for_some_is_no_regression(self, tmp_path):
        """Convopt by 12 %; engines that have not changed by 0 to 30 %, as where another has the second core at times."""
        old, new = (results.read(planted_results(tmp_path, name, noise=0.01)) for name in ("old", "new"))
        factors = {"convopt": 1.12} | dict(zip(PEERS, itertools.cycle((1.0, 1.1, 1.2, 1.3)), strict=False))
        rows = [replace(row, seconds=row.seconds * factors.get(row.engine, 1.0)) for row in new.rows]
        assert compare.compare(old, replace(new, rows=rows)).regressions == 0
        alone = [replace(row, seconds=row.seconds * (1.12 if row.engine == "convopt" else 1.0)) for row in new.rows]
        assert compare.compare(old, replace(new, rows=alone)).regressions > 0

    def test_peers_of_few_rounds_say_nothing_of_the_machine(self, tmp_path):
        old, new = (results.read(planted_results(tmp_path, name, noise=0.01)) for name in ("old", "new"))
        behind = PEERS[len(PEERS) // 2 :]
        rows = [
            replace(row, seconds=row.seconds * 1.5, facts={**row.facts, "rounds": row.facts["rounds"][:1]}) if row.engine in behind else row
            for row in new.rows
        ]
        assert compare.compare(old, replace(new, rows=rows)).drifts[1] == pytest.approx(1, abs=0.02)

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
    def test_more_threads_than_cores_are_remarked_on(self, cli, tmp_path, monkeypatch):
        monkeypatch.setattr(run.limits, "measure", lambda threads, step: [step("limits") for _ in threads] and {})
        monkeypatch.setattr(parallel, "usable_cores", lambda: 1)
        file = tmp_path / "layers.txt"
        file.write_text("first 1x9x8x4 3x3x4x8 pad=SAME\n")
        result = cli("bench", file, "--engines", "right", "--threads", "2", "--rounds", "1", "--seconds", "0.001")
        assert result.exit_code == 0, result.output
        assert "2 threads share 1 core(s)" in result.stderr

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
            (("--python", "absent-python"), ("--python is 'absent-python'", "can be run")),
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
