"""The scripts behind the tuner's figures run, and find no fault, at a size that says nothing about speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ("--network", "lenet5", "--random", "0", "--threads", "1")


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("store", ("--kills", "2", "--processes", "2", "--entries", "5", "--flips", "50")),
        ("dispatch", ("--entries", "100")),
        ("planted", (*SMALL, "--times", "5")),
        ("regret", (*SMALL, "--layers", "1")),
        ("flips", (*SMALL, "--layers", "1")),
        ("flips", (*SMALL, "--layers", "1", "--load")),
        ("resnet50", SMALL),
        ("model", (*SMALL, "--layers", "2")),
        ("ski_rental", (*SMALL, "--layers", "1", "--calls", "20")),
    ],
)
def test_a_figure_is_printed_and_kept(script, options, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); import pathlib, tuner_common, tuner_{script}; "
    code += f"tuner_common.RESULTS = pathlib.Path({str(tmp_path)!r}); tuner_{script}.main()"
    done = subprocess.run([sys.executable, "-c", code, *options, "--save"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*/tuner/*.json")
    figures = json.loads(file.read_text())["figures"]
    for name, value in figures.items():
        if name.endswith("(0)"):
            assert value == 0, name
        elif "rejected" in name:
            assert value == 5, name
