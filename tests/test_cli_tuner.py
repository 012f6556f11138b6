"""The command line's verbs around the tuner: explain, cache, verify."""

import json
import sys
import zipfile

import pytest

pytest.importorskip("typer", reason="the command line's extras are not installed: pip install 'convopt[cli]'")

from test_cli import assert_refused
from typer.testing import CliRunner

from convopt.cli import verify as verify_module
from convopt.cli.app import app
from convopt.tuning import cache, exchange, machine, records

SHAPE = ("1x8x8x4", "3x3x4x8", "pad=SAME", "--threads", "1")


@pytest.fixture
def cli(cache_folder, monkeypatch):
    """Runs a command line in this process, with a tuning cache of its own."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def tuned(cli, tmp_path):
    """The command line with two layers tuned."""
    (tmp_path / "layers.txt").write_text("first 1x8x8x4 3x3x4x8 pad=SAME\nsecond 1x8x8x8 1x1x8x4\n")
    assert cli("tune", tmp_path / "layers.txt", "--threads", "1", "--json").exit_code == 0
    return cli


def test_explain_estimates_and_times_nothing(cli, cache_folder):
    facts = json.loads(cli("explain", *SHAPE, "--json").stdout)
    assert facts["source"] == "estimate"
    assert facts["candidates"][0]["verdict"] == "chosen"
    assert facts["candidates"][0]["candidate"] == facts["choice"]
    assert {each["algorithm"] for each in facts["candidates"]} >= {"direct", "im2col"}
    assert all(each["seconds"] is None and each["estimate"] > 0 for each in facts["candidates"])
    assert not cache_folder.exists()


def test_explain_measures_when_told_to(cli):
    facts = json.loads(cli("explain", *SHAPE, "--tune", "measure", "--bias", "--activation", "relu", "--json").stdout)
    assert facts["source"] == "measured"
    assert facts["candidates"][0]["seconds"] > 0
    text = cli("explain", *SHAPE, "--bias", "--activation", "relu").stdout
    for words in ("estimate", "workspace", "chosen", "times slower", "measured earlier on this machine"):
        assert words in text


@pytest.mark.parametrize(
    "words",
    [
        ("conv1 1x8x8x4 3x3x4x8 pad=1",),
        ("n1h8w8c4k8r3s3_st1x1_di1x1_pa1-1x1-1_g1_nhwc_f32",),
        ('mb1ic4ih8oc8oh8kh3ph1n"conv1"',),
    ],
)
def test_explain_reads_a_shape_in_every_form(cli, words):
    assert json.loads(cli("explain", *words, "--json").stdout)["shape"] == "n1h8w8c4k8r3s3_st1x1_di1x1_pa1-1x1-1_g1_nhwc_f32"


KEY = "n1h8w8c4k8r3s3_st1x1_di1x1_pa1-1x1-1_g1_nhwc_f32_ebrelu_t1_fresh"


def test_a_key_of_the_cache_says_it_all(cli):
    rows = json.loads(cli("tune", KEY, "--effort", "quick", "--json").stdout)["results"]
    assert [row["source"] for row in rows] == ["measured"]
    assert [entry.key for entry in exchange.entries()] == [KEY]
    facts = json.loads(cli("explain", KEY, "--json").stdout)
    assert (facts["source"], facts["threads"], facts["shape"]) == ("cache", 1, KEY.partition("_e")[0])
    for verb in ("explain", "tune"):
        assert_refused(cli(verb, KEY, "--threads", "1"), "--threads is given; the key")
        assert_refused(cli(verb, KEY, "--fresh-filters"), "--fresh-filters is given; the key")
        assert_refused(cli(verb, KEY.replace("k8", "k0")), "filters")
    assert_refused(cli("tune", KEY, "--network", "lenet5"), "--network is given; the key")


def test_explain_obeys_limits(cli):
    facts = json.loads(cli("explain", *SHAPE, "--accuracy", "ieee", "--json").stdout)
    verdicts = {each["algorithm"]: each["verdict"] for each in facts["candidates"]}
    assert verdicts["winograd"] == "spreads NaN and Inf"
    facts = json.loads(cli("explain", *SHAPE, "--algorithm", "direct:nv=1", "--json").stdout)
    assert (facts["choice"], facts["source"]) == ("direct:nv=1", "named")


def test_explain_refuses_mistakes(cli):
    assert_refused(cli("explain", "1x8x8x4"), "expected a name, input sizes")
    assert_refused(cli("explain", *SHAPE, "--tune", "guess"), "tune is 'guess'")
    assert_refused(cli("explain", *SHAPE, "--tune", "cached"), "nothing is remembered")
    assert_refused(cli("explain", *SHAPE, "--accuracy", "good"), "accuracy is 'good'")
    assert_refused(cli("explain", *SHAPE, "--activation", "tanh"), "--activation is 'tanh'")
    assert_refused(cli("explain", *SHAPE, "--max-workspace", "1", "--algorithm", "winograd"), "max_workspace is 1 bytes")
    assert cli("explain").exit_code == 2


def test_cache_lists_and_shows(tuned, cache_folder):
    facts = json.loads(tuned("cache", "ls", "--json").stdout)
    assert facts["path"] == str(cache_folder)
    assert facts["machine"] == machine.fingerprint()
    assert [each["key"][:9] for each in facts["entries"]] == ["n1h8w8c4k", "n1h8w8c8k"]
    assert all(each["seconds"] > 0 and each["candidates"] > 1 for each in facts["entries"])
    assert len(json.loads(tuned("cache", "ls", "c8k4", "--json").stdout)["entries"]) == 1
    assert facts["entries"][0]["key"] in tuned("cache", "ls").stdout
    shown = json.loads(tuned("cache", "show", "c8k4", "--json").stdout)
    assert shown["key"] == facts["entries"][1]["key"]
    assert len(shown["records"]) == shown["candidates"]
    assert "chosen" in tuned("cache", "show", shown["key"]).stdout
    assert_refused(tuned("cache", "show", "n1h8"), "2 entries' have")
    assert_refused(tuned("cache", "show", "k77"), "in no entry's")


def test_cache_says_where_it_is(cli, cache_folder):
    assert cli("cache", "path").stdout == f"{cache_folder}\n"
    assert json.loads(cli("cache", "path", "--json").stdout)["machine"] == machine.fingerprint()


def test_cache_is_carried_elsewhere(tuned, tmp_path, monkeypatch):
    before = {entry.key: entry.records for entry in exchange.entries()}
    assert tuned("cache", "export", tmp_path / "file").exit_code == 0
    assert tuned("cache", "merge", tmp_path / "file", tmp_path / "file", "-o", tmp_path / "both").exit_code == 0
    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert json.loads(tuned("cache", "import", tmp_path / "both", "--json").stdout)["entries"] == 4
    assert {entry.key: entry.records for entry in exchange.entries()} == before
    monkeypatch.setattr(machine, "fingerprint", lambda: "other-cpu/avx2/32K/8")
    assert_refused(tuned("cache", "import", tmp_path / "both"), "was measured on", "this machine is other-cpu")


def test_cache_refuses_mistakes(cli, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert_refused(cli("cache", "import", tmp_path / "picture.png"), "is no file of convopt's cache")
    assert_refused(cli("cache", "import", tmp_path / "absent"), "absent", "No such file")
    assert_refused(cli("cache", "export", tmp_path / "absent" / "file"), "absent", "No such file")
    assert_refused(cli("cache", "clear"), "--yes")
    assert cli("cache", "prune", "--days", "-1").exit_code == 2


def test_cache_is_pruned_and_cleared(tuned, cache_folder):
    assert json.loads(tuned("cache", "prune", "--json").stdout) == {"entries": 0, "files": 0}
    assert json.loads(tuned("cache", "prune", "--days", "0", "--json").stdout)["entries"] == 4
    assert json.loads(tuned("cache", "ls", "--json").stdout)["entries"] == []
    assert tuned("cache", "clear", "--yes").exit_code == 0
    assert list(cache_folder.iterdir()) == []


def test_verify_measures_again(tuned):
    before = cache.items()
    result = tuned("verify", "--allow", "100", "--json")
    facts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert facts["entries"] == 2
    assert all(row["drift"] > 0 and row["regret"] >= 1 for row in facts["results"])
    assert cache.items() == before
    assert json.loads(tuned("verify", "c8k4", "--allow", "100", "--update", "--json").stdout)["entries"] == 1
    assert cache.items() != before


def test_verify_fails_when_choices_flip(tuned, monkeypatch):
    """What is remembered was measured on a day when the slowest candidate was the fastest."""
    for entry in exchange.entries():
        slowest = max((each for each in entry.records if each.fastest), key=lambda each: each.fastest)
        known = [each if each is not slowest else verify_module.Record(**{**_values(each), "fastest": 1e-9}) for each in entry.records]
        cache.put(entry.key, records.to_json(known))
    result = tuned("verify", "--sample", "1")
    assert result.exit_code == 1
    assert "flipped" in result.stdout


def _values(record):
    return {name: getattr(record, name) for name in record.__slots__}


def test_verify_needs_something_to_verify(cli):
    assert_refused(cli("verify"), "nothing is remembered")


PROGRAM = """
import numpy as np, convopt
x, w = np.ones((1, 12, 12, 8), np.float32), np.ones((3, 3, 8, 16), np.float32)
convopt.conv2d(x, w, threads=1)
convopt.plan(x.shape, w, bias=np.zeros(16, "f4"), activation="relu", tune="estimate", threads=1)
print("said the program")
raise SystemExit(3)
"""


def test_tune_records_a_program(cli, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    result = cli("tune", "--record", "--effort", "quick", "--json", "--", sys.executable, tmp_path / "program.py")
    facts = json.loads(result.stdout)
    assert [row["source"] for row in facts["results"]] == ["measured", "measured"]
    assert "exit status 3" in result.stderr
    assert sorted(entry.key.partition("_e")[2] for entry in exchange.entries()) == ["_t1_fresh", "brelu_t1_const"]


def test_tune_takes_a_recorded_file(cli, tmp_path):
    (tmp_path / "problems").write_text("n1h8w8c4k8r3s3_st1x1_di1x1_pa1-1x1-1_g1_nhwc_f32_ebrelu_t1_fresh\n" * 2)
    facts = json.loads(cli("tune", "--recorded", tmp_path / "problems", "--json").stdout)
    assert [row["shape"] for row in facts["results"]] == ["n1h8w8c4k8r3s3_st1x1_di1x1_pa1-1x1-1_g1_nhwc_f32"]
    assert [entry.key[-13:] for entry in exchange.entries()] == ["relu_t1_fresh"]


def test_tune_stops_when_its_time_is_up_and_goes_on_later(cli, tmp_path):
    result = cli("tune", "--network", "lenet5", "--threads", "1", "--time-limit", "0", "--json")
    assert json.loads(result.stdout)["left"] == 3
    assert "3 of 3 are left" in result.stderr
    result = cli("tune", "--network", "lenet5", "--threads", "1", "--effort", "quick", "--json")
    assert json.loads(result.stdout)["left"] == 0


def test_tune_refuses_new_mistakes(cli, tmp_path):
    assert_refused(cli("tune", "--record"), "--record needs a command")
    assert_refused(cli("tune", "--record", "--", "no-such-command"), "'no-such-command', which cannot be run")
    assert_refused(cli("tune", "--record", "--", sys.executable, "-c", ""), "asked convopt for nothing")
    assert_refused(cli("tune", "--record", "--bias", "--", "x"), "as the program had them")
    assert_refused(cli("tune", "--record", "--network", "lenet5"), "give only one")
    assert_refused(cli("tune", "layers.txt", "more"), "found 'more' after FILE")
    assert_refused(cli("tune", "--recorded", tmp_path / "absent"), "cannot be read")
    assert_refused(cli("tune", "--network", "lenet5", "--effort", "heroic"), "--effort is 'heroic'")
    (tmp_path / "model.keras").write_bytes(b"nonsense")
    assert_refused(cli("tune", tmp_path / "model.keras"), "no file that Keras 3 saved")
    assert_refused(cli("tune", "n1" + "h" * 300), "File name too long")
    assert_refused(cli("tune", 'mb1ic3ih8oc8oh6kh3n"' + "a" * 300 + '"', "--threads", "0"), "--threads is '0'")
    assert_refused(cli("cache", "export", "/"), "Is a directory")
    assert cli("cache", "prune", "--days", "inf").exit_code == 0


@pytest.mark.parametrize(
    "config",
    [
        [],
        None,
        {"config": {"layers": None}},
        {"class_name": "Conv2D", "config": {"name": "a"}, "build_config": {"input_shape": [None, 4, 4, 4]}},
        {
            "class_name": "Conv2D",
            "config": {"kernel_size": [1, 1], "filters": 4, "groups": 0, "strides": 1, "padding": "same", "dilation_rate": 1},
            "build_config": {"input_shape": [None, 4, 4, 4]},
        },
        {"class_name": "Conv2D", "config": {"kernel_size": "3"}, "build_config": {"input_shape": "1234"}},
    ],
)
def test_keras_files_that_make_no_sense_are_refused(cli, tmp_path, config):
    file = tmp_path / "model.keras"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    result = cli("tune", file)
    assert result.exit_code == 2
    assert "model.keras" in result.stderr


def test_markup_in_what_is_shown_is_shown(cli, monkeypatch):
    monkeypatch.setenv("CONVOPT_BLOCK", "*[/a]* fft")
    assert "*[/a]* fft" in cli("info").stdout


def test_what_is_remembered_is_said_to_be(cli):
    arguments = ("tune", "1x6x6x4", "3x3x4x8", "--threads", "1")
    cli(*arguments, "--effort", "quick")
    cache.load()  # as a new process does
    assert "verify --update" in cli(*arguments, "--effort", "thorough").stderr


def test_conv2d_takes_what_was_tuned_for_fresh_filters(cli):
    cli("tune", "1x6x6x4", "3x3x4x8", "--threads", "1", "--fresh-filters", "--effort", "quick")
    explained = cli("explain", "1x6x6x4", "3x3x4x8", "--threads", "1", "--fresh-filters", "--json")
    assert json.loads(explained.stdout)["source"] == "cache"


@pytest.mark.parametrize("words", [["1x6x6x4", "3x3x4x8", "pad=SAME"], ['mb1_ic4ih6_oc8oh6_kh3ph1_n"conv*2"']])
def test_a_layer_may_stand_on_the_command_line(cli, words):
    result = cli("tune", *words, "--threads", "1", "--level", "estimate", "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["results"]
    assert row["shape"].startswith("n1h6w6c4k8r3s3")
    assert "expected a name" in cli("tune", "1x6x6x4").stderr
