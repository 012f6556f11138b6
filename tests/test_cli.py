"""The command line, in this process (typer's runner) and as users start it."""

import collections
import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("typer", reason="the command line's extras are not installed: pip install 'convopt[cli]'")

from typer.testing import CliRunner

from convopt.cli import check as check_module
from convopt.cli import info
from convopt.cli.app import app
from convopt.cli.terminal import byte_count, duration
from convopt.kernels import registry

CONVOPT = [sys.executable, "-m", "convopt.cli"]


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs a command line in this process, with a tuning cache of its own."""
    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def assert_refused(result, *words):
    """One line on standard error, exit status 2, nothing on standard output."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("convopt: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def test_help_lists_the_verbs(cli):
    result = cli("--help")
    assert result.exit_code == 0
    for verb in ("demo", "tune", "check", "info"):
        assert verb in result.stdout


def test_info(cli, tmp_path):
    facts = json.loads(cli("info", "--json").stdout)
    assert facts["isa"] == {"in_use": registry.isa(), "available": list(registry.isas())}
    assert facts["cache"].startswith(str(tmp_path))
    assert facts["threads"]["default"] >= 1
    text = cli("info").stdout
    for words in (facts["version"], facts["cpu"]["microarchitecture"], registry.isa(), "tuning cache"):
        assert words in text


def test_info_finds_traps(tmp_path):
    (tmp_path / "file").write_text("")
    environment = {
        **os.environ,
        "CONVOPT_ISA": "generic",
        "CONVOPT_NUM_THREADS": "64",
        "CONVOPT_CACHE_DIR": str(tmp_path / "file" / "cache"),
    }
    facts = json.loads(subprocess.run([*CONVOPT, "info", "--json"], env=environment, capture_output=True, check=True).stdout)
    traps = "\n".join(facts["traps"])
    assert "64 threads on" in traps
    assert "cannot be written" in traps
    assert ("CONVOPT_ISA holds convopt to generic" in traps) == (facts["isa"]["available"] != ["generic"])
    assert facts["environment"]["CONVOPT_ISA"] == "generic"


LAYERS = """
# two small layers
first  1x8x8x4   3x3x4x8  pad=SAME x2
second 1x8x8x8   1x1x8x4
"""


def test_tune_measures_once_and_remembers(cli, tmp_path):
    file = tmp_path / "layers.txt"
    file.write_text(LAYERS)
    rows = json.loads(cli("tune", file, "--threads", "1,2", "--json").stdout)["results"]
    assert [(row["layer"], row["threads"], row["count"]) for row in rows] == [
        ("first", 1, 2),
        ("second", 1, 1),
        ("first", 2, 2),
        ("second", 2, 1),
    ]
    for row in rows:
        assert row["source"] == "measured"
        assert row["seconds"] > 0
        assert row["gflops"] > 0
        assert row["error"] < 1e-5
    again = json.loads(cli("tune", file, "--threads", "1,2", "--json").stdout)["results"]
    assert [row["choice"] for row in again] == [row["choice"] for row in rows]


def test_tune_prints_a_table(cli, tmp_path):
    file = tmp_path / "layers.txt"
    file.write_text(LAYERS)
    result = cli("tune", file, "--threads", "1")
    assert result.exit_code == 0
    for words in ("first x2", "second", "3x3x4x8", "GFLOP/s", "runner-up", "All layers, 1 thread:"):
        assert words in result.stdout
    assert "…" not in result.stdout


@pytest.mark.parametrize("network", ["lenet5", "alexnet", "resnet50", "vgg16", "mobilenetv2"])
def test_tune_knows_the_networks(cli, network):
    result = cli("tune", "--network", network, "--level", "estimate", "--threads", "1", "--json")
    rows = json.loads(result.stdout)["results"]
    assert len(rows) >= 3
    assert {row["source"] for row in rows} == {"estimate"}
    assert {row["seconds"] for row in rows} == {None}


def test_tune_refuses_mistakes(cli, tmp_path):
    file = tmp_path / "layers.txt"
    file.write_text("first 1x8x8x4 3x3x5x8\n")
    assert_refused(cli("tune", file), "line 1", "4 channels")
    assert_refused(cli("tune", tmp_path / "absent.txt"), "absent.txt", "No such file")
    assert_refused(cli("tune", tmp_path), "cannot be read")
    assert_refused(cli("tune"), "either a FILE of layers or --network NAME")
    assert_refused(cli("tune", file, "--network", "lenet5"), "either a FILE")
    assert_refused(cli("tune", "--network", "lenet6"), "'lenet6'", "lenet5")
    assert_refused(cli("tune", "--network", "lenet5", "--threads", "two"), "--threads is 'two'")
    assert_refused(cli("tune", "--network", "lenet5", "--threads", "0"), "--threads is '0'")
    assert_refused(cli("tune", "--network", "lenet5", "--level", "guess"), "--level is 'guess'")
    assert_refused(cli("tune", "--network", "lenet5", "--activation", "tanh"), "--activation is 'tanh'")
    file.write_text("# nothing but a comment\n")
    assert_refused(cli("tune", file), "lists no layer")


@pytest.fixture
def few_cases(monkeypatch):
    monkeypatch.setattr(check_module, "QUICK", 12)


@pytest.fixture
def with_tensorflow():
    find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('tensorflow') is None)"
    if subprocess.run([sys.executable, "-c", find]).returncode:
        pytest.skip("TensorFlow is not installed: pip install 'convopt[tensorflow]'")


@pytest.mark.usefixtures("few_cases", "with_tensorflow")
class TestCheck:
    def test_agreement(self, cli):
        result = cli("check", "--quick", "--json")
        assert result.exit_code == 0, result.stdout
        facts = json.loads(result.stdout)
        assert facts["cases"] == 12
        assert facts["mismatches"] == []
        assert sum(row["cases"] for row in facts["results"] if row["algorithm"] == "auto") == 12

    def test_mismatch_is_reported_and_fails(self, cli, monkeypatch):
        original = check_module.compare

        def wrong_when_strided(case, algorithm, expected):
            return (0.5, "error 0.5") if case.strides == 2 else original(case, algorithm, expected)

        monkeypatch.setattr(check_module, "compare", wrong_when_strided)
        monkeypatch.setattr(check_module, "QUICK", 25)
        result = cli("check", "--quick")
        assert result.exit_code == 1
        assert "mismatch" in result.stdout
        assert "error 0.5" in result.stdout


def test_a_quick_check_draws_from_every_kind_alike():
    kinds = collections.Counter(case.kind for case in check_module.grid(check_module.QUICK))
    assert set(kinds) == {"ordinary", "1x1", "strided", "dilated", "grouped", "depthwise"}
    assert max(kinds.values()) - min(kinds.values()) <= 1


def test_check_compares_for_real():
    case = check_module.grid(1)[0]
    x, w = case.arrays()
    wrong = check_module.convopt.conv2d(x, w, case.strides, case.padding, case.data_format, case.dilations) * 1.001
    error, complaint = check_module.compare(case, "auto", wrong)
    assert error == pytest.approx(0.001, rel=0.05)
    assert "the limit is" in complaint
    assert check_module.compare(case, "auto", wrong[..., :-1])[1].startswith("result is")
    assert "UnsupportedError" in check_module.compare(case, "nonsense", wrong)[1]


@pytest.fixture(scope="module")
def demo_cache(tmp_path_factory):
    """One tuning cache for all demos: measuring is another test's subject."""
    return str(tmp_path_factory.mktemp("demo-cache"))


def test_demo_quick_saves_pictures(cli, tmp_path, monkeypatch, demo_cache):
    monkeypatch.setenv("CONVOPT_CACHE_DIR", demo_cache)
    result = cli("demo", "--quick", "--output", tmp_path / "out" / "pictures", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert "digits" not in facts
    assert [each["filter"] for each in facts["pictures"]["filters"]] == ["outline", "sobel", "emboss", "sharpen", "blur", "motion"]
    assert all(each["error"] < 1e-5 for each in facts["pictures"]["filters"])
    picture = tmp_path / "out" / "pictures" / "feature-maps.png"
    assert facts["pictures"]["picture"] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(facts["lenet5"]["results"]) == 3


def test_demo_refuses_an_impossible_folder(cli, tmp_path):
    (tmp_path / "file").write_text("")
    assert_refused(cli("demo", "--quick", "--output", tmp_path / "file"), "--output", "cannot be made")


@pytest.mark.slow
@pytest.mark.usefixtures("with_tensorflow")
def test_demo_agrees_with_keras(tmp_path, demo_cache):
    environment = {**os.environ, "CONVOPT_CACHE_DIR": demo_cache}
    done = subprocess.run([*CONVOPT, "demo", "--output", tmp_path, "--json"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    digits = json.loads(done.stdout)["digits"]
    assert digits["same_predictions"] == digits["digits"] == 500
    assert digits["convopt_accuracy"] == digits["keras_accuracy"] > 0.9
    assert digits["largest_difference"] < 1e-4
    assert (tmp_path / "digits.png").stat().st_size > 10_000


def test_interruption_is_one_line_and_130(tmp_path):
    environment = {**os.environ, "CONVOPT_CACHE_DIR": str(tmp_path)}
    process = subprocess.Popen(
        [*CONVOPT, "tune", "--network", "vgg16"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job, which this test may run in, ignores the signal, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not any(tmp_path.iterdir()):  # at work once it has something to remember
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert "convopt: interrupted" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("module", ["typer", "rich", "archspec"])
def test_missing_extras_are_named(module):
    code = f"import sys; sys.modules['{module}'] = None; sys.argv = ['convopt', 'info']; import convopt.cli; convopt.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"convopt: the command line needs {module}")
    assert "pip install 'convopt[cli]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_is_installed():
    command = os.path.join(os.path.dirname(sys.executable), "convopt")
    if not os.path.exists(command):
        pytest.skip("convopt runs from a source tree here")
    done = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "tune" in done.stdout


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5e-7, "0.15 us"), (2.344e-4, "234 us"), (9.999e-4, "1 ms"), (0.0123, "12.3 ms"), (61.0, "61 s")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_byte_count():
    assert [byte_count(size) for size in (0, 1000, 1536, 3 << 20, 5 << 40)] == ["0 B", "1000 B", "1.5 KiB", "3 MiB", "5120 GiB"]


@pytest.mark.parametrize(
    ("family", "model", "name"),
    [(23, 1, "zen"), (23, 49, "zen2"), (25, 1, "zen3"), (25, 17, "zen4"), (25, 80, "zen3"), (25, 97, "zen4"), (6, 1, "guess")],
)
def test_a_virtual_machine_that_hides_features_does_not_hide_what_the_cpu_is(monkeypatch, family, model, name):
    cpuinfo = {"vendor_id": "AuthenticAMD", "cpu family": str(family), "model": str(model)}
    monkeypatch.setattr(info.machine, "cpu_fields", lambda: cpuinfo)
    assert info._microarchitecture("guess") == name
