"""What users decide instead of the tuner: pins and blocks, from the environment and from files."""

import numpy as np
import pytest

import convopt
from convopt.errors import ShapeError, UnsupportedError
from convopt.shape import ConvShape
from convopt.tuning import cache, planner, rules
from convopt.tuning.candidates import Request

SHAPE = ConvShape(1, 14, 14, 32, 64, 3, 3, pads=((1, 1), (1, 1)))
REQUEST = Request(SHAPE, bias=False, activation=None, threads=1, constant_filters=True)
X, W = np.ones(SHAPE.input_shape, np.float32), np.ones(SHAPE.filters_shape, np.float32)


@pytest.fixture
def rules_file(cache_folder):
    """Writes the user's rules."""

    def write(text, folder=cache_folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / rules.FILE).write_text(text)
        cache.load()

    return write


def chosen(request=REQUEST, tune="estimate"):
    choice = planner.choose(request, tune)
    return choice.algorithm, choice.source


@pytest.mark.usefixtures("cache_folder")
def test_an_algorithm_is_pinned_by_the_environment(monkeypatch):
    monkeypatch.setenv("CONVOPT_PIN", "im2col:nv=2")
    choice = planner.choose(REQUEST, "measure")
    assert (choice.algorithm, choice.params["nv"], choice.source) == ("im2col", 2, "pinned")
    assert choice.explain().startswith("im2col:nv=2: pinned by CONVOPT_PIN")
    monkeypatch.setenv("CONVOPT_PIN", "direct")
    assert chosen() == ("direct", "pinned")
    monkeypatch.delenv("CONVOPT_PIN")
    assert chosen()[1] == "estimate"


@pytest.mark.usefixtures("cache_folder")
def test_pins_are_for_the_problems_they_match(monkeypatch):
    monkeypatch.setenv("CONVOPT_PIN", "*_t2_* direct ; n1h14*_t1_const im2col")
    assert chosen() == ("im2col", "pinned")
    assert planner._pinned(Request(SHAPE, True, None, 3, True), "estimate", "auto", planner.NORMAL) is None
    assert planner._pinned(Request(SHAPE, True, None, 2, True), "estimate", "auto", planner.NORMAL).algorithm == "direct"


@pytest.mark.usefixtures("cache_folder")
def test_a_pin_that_cannot_serve_is_passed_over(monkeypatch):
    monkeypatch.setenv("CONVOPT_PIN", "depthwise:none=1; winograd; direct")
    strided = Request(ConvShape(1, 14, 14, 32, 64, 1, 1, (2, 2)), False, None, 1, True)
    assert chosen(strided) == ("direct", "pinned")


@pytest.mark.usefixtures("cache_folder")
def test_a_callers_word_goes_before_a_pin_and_a_block(monkeypatch):
    monkeypatch.setenv("CONVOPT_PIN", "im2col")
    monkeypatch.setenv("CONVOPT_BLOCK", "direct")
    choice = planner.choose(REQUEST, "estimate", "direct")
    assert (choice.algorithm, choice.source) == ("direct", "named")


@pytest.mark.usefixtures("cache_folder")
def test_what_is_blocked_is_not_chosen_and_says_so(monkeypatch):
    first = planner.choose(REQUEST, "estimate").algorithm
    monkeypatch.setenv("CONVOPT_BLOCK", f"{first}; fft")
    choice = planner.choose(REQUEST, "measure")
    assert choice.algorithm not in (first, "fft")
    verdicts = {each.verdict for each in choice.contenders if each.algorithm in (first, "fft")}
    assert verdicts == {"blocked by CONVOPT_BLOCK"}
    assert all(each.seconds is None for each in choice.contenders if each.algorithm in (first, "fft"))


@pytest.mark.usefixtures("cache_folder")
def test_blocking_what_was_measured_chooses_among_the_others(monkeypatch):
    before = planner.choose(REQUEST, "measure")
    monkeypatch.setenv("CONVOPT_BLOCK", before.contenders[0].label)
    after = planner.choose(REQUEST, "cached")
    assert after.contenders[0].label != before.contenders[0].label
    monkeypatch.delenv("CONVOPT_BLOCK")
    assert planner.choose(REQUEST, "cached").contenders[0].label == before.contenders[0].label


@pytest.mark.usefixtures("cache_folder")
def test_blocking_everything_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setenv("CONVOPT_BLOCK", ";".join(convopt.algorithms(X.shape, W.shape, padding="SAME")))
    with pytest.raises(UnsupportedError, match=r"every algorithm for n1h14.* is blocked by CONVOPT_BLOCK"):
        planner.choose(REQUEST, "estimate")


def test_rules_come_from_files_too(rules_file, cache_folder):
    rules_file("# mine\n\npin n1h14* direct:nv=1  # for a reason\nblock * fft\n")
    choice = planner.choose(REQUEST, "estimate")
    assert (choice.algorithm, choice.params["nv"]) == ("direct", 1)
    assert choice.reason == f"pinned by {cache_folder / rules.FILE}, line 3"
    assert [rule.kind for rule in rules.rules()] == ["pin", "block"]


def test_the_environment_goes_before_the_user_before_the_others(rules_file, tmp_path, monkeypatch):
    rules_file("pin * im2col\n", tmp_path / "shared")
    monkeypatch.setenv("CONVOPT_SHARED_CACHE", str(tmp_path / "shared"))
    cache.load()
    assert chosen() == ("im2col", "pinned")
    rules_file("pin * direct\n")
    assert chosen() == ("direct", "pinned")
    monkeypatch.setenv("CONVOPT_PIN", "winograd")
    assert chosen() == ("winograd", "pinned")


@pytest.mark.parametrize("rule", ["nobody", "* auto", "a b c", "direct:nv"])
@pytest.mark.parametrize("variable", ["CONVOPT_PIN", "CONVOPT_BLOCK"])
@pytest.mark.usefixtures("cache_folder")
def test_an_impossible_rule_in_the_environment_is_an_error(monkeypatch, variable, rule):
    monkeypatch.setenv(variable, rule)
    with pytest.raises(ShapeError, match=variable):
        convopt.conv2d(X, W, padding="SAME", max_workspace=2**40)


@pytest.mark.parametrize("line", ["pin *", "forbid * fft", "pin * nobody", "\x00"])
def test_an_impossible_rule_in_a_file_is_one_warning(rules_file, line):
    rules_file(f"pin * direct\n{line}\n")
    with pytest.warns(RuntimeWarning, match=r"rules.txt, line 2"):
        choice = chosen()
    assert choice == ("direct", "pinned")


def test_pins_reach_the_public_calls(rules_file):
    rules_file("pin * direct\n")
    assert convopt.plan(X.shape, W, padding="SAME").algorithm == "direct"
    assert "pinned by" in convopt.explain(X.shape, W.shape, padding="SAME")


def test_deterministic_choices_obey_pins(rules_file):
    rules_file("pin * im2col\n")
    assert convopt.plan(X.shape, W, padding="SAME", deterministic=True).algorithm == "im2col"
