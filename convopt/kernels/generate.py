"""Writes the straight-line C that the build compiles: one header per row of GENERATED, into generated/.

Run by setup.py before anything is compiled. The headers are not committed; a file whose text would not change is left
alone, so that a repeated build compiles nothing.
"""

from __future__ import annotations

import pathlib
import runpy
import sys
from collections.abc import Callable

HERE = pathlib.Path(__file__).resolve().parent


def _header_of(generator: str) -> Callable[[], str]:
    """``header`` of a generator beside this file, run by path: the package itself cannot be imported before it is built."""
    return lambda: str(runpy.run_path(str(HERE / generator))["header"]())


#: header name -> function that returns its text
GENERATED: dict[str, Callable[[], str]] = {
    "fft-codelets.h": _header_of("fourier.py"),
    "winograd-transforms.h": _header_of("cooktoom.py"),
}


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
