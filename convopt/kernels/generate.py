"""Writes the straight-line C that the build compiles: one header per row of GENERATED, into generated/.

Run by setup.py before anything is compiled. The headers are not committed; a file whose text would not change is left
alone, so that a repeated build compiles nothing.
"""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import Callable

HERE = pathlib.Path(__file__).resolve().parent


def _written_by(module: str) -> Callable[[], str]:
    """The function `header` of a module beside this one, by its bare name: the package itself cannot be imported before it is built."""
    return lambda: str(importlib.import_module(module).header())


#: header name -> function that returns its text
GENERATED: dict[str, Callable[[], str]] = {"winograd-transforms.h": _written_by("cooktoom")}


def main() -> None:
    """Bring every generated header up to date."""
    target = HERE / "generated"
    target.mkdir(exist_ok=True)
    for name, text_of in GENERATED.items():
        path, text = target / name, text_of()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
