"""Collecting the problems that programs ask convopt for: every process in whose environment CONVOPT_RECORD names a file appends
to it the key of each problem that it meets, once. ``convopt tune --record -- COMMAND`` is made of that.
"""

from __future__ import annotations

import os
from pathlib import Path

from convopt.errors import ShapeError

from .candidates import Request
from .store import warn

VARIABLE = "CONVOPT_RECORD"

_noted: set[tuple[str, str]] = set()


def note(request: Request) -> None:
    """Write the problem down, if somebody asked for that and this process did not yet."""
    file = os.environ.get(VARIABLE)
    if not file:
        return
    entry = (file, request.key())
    if entry in _noted:
        return
    _noted.add(entry)
    try:
        with open(file, "ab", buffering=0) as stream:  # one write of one line: processes may share the file
            stream.write(f"{request.key()}\n".encode())
    except OSError as error:
        warn(f"cannot record to {file}: {error}")


def read(file: str | Path) -> list[Request]:
    """The problems of such a file, each once, in the order they were met. Raises ShapeError, OSError."""
    try:
        lines = Path(file).read_text().splitlines()
    except UnicodeDecodeError as error:
        raise ShapeError(f"{file}: not a text file: {error}") from None
    found: dict[Request, None] = {}
    for number, line in enumerate(lines, 1):
        try:
            found[Request.parse(line.strip())] = None
        except ShapeError as error:
            raise ShapeError(f"{file}, line {number}: {error}") from None
    return list(found)
