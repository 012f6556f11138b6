"""The README's example is what users copy: it must run as it stands."""

import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_example_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(tmp_path))
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    exec(compile(example, str(README), "exec"), names)
    assert names["y"].shape == (8, 56, 56, 128)
    assert "chosen" in capsys.readouterr().out
