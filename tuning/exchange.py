"""Carrying what was measured from one cache to another of the same machine, and leaving behind what is no longer of use.

A file of ``export`` is one of the cache's own files. Where both sides know a problem, the records of both are kept, for
each candidate the newer one.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convopt.algorithms import ALGORITHMS
from convopt.errors import ShapeError, UnsupportedError

from . import cache, machine, records
from .candidates import Request
from .records import Record
from .store import Item, header, line_of, read_file

#: Nanoseconds of a day.
DAY = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of one problem. algorithm: the one whose candidates were measured alone, "auto" for all.

    layer: the directory it is in. written: nanoseconds since 1970.
    """

    key: str
    request: Request
    algorithm: str
    records: tuple[Record, ...]
    layer: Path
    written: int

    @property
    def best(self) -> Record | None:
        """What would be chosen under the usual limits."""
        return records.select(self.records, self.request)


def entries() -> list[Entry]:
    """Every problem that is remembered for this machine, in the order of the keys."""
    found = (_entry(item, layer) for layer, item in cache.items().values())
    return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.key)


def _entry(item: Item, layer: Path) -> Entry | None:
    known = records.from_json(item.value)
    if not known:
        return None
    problem, _, last = item.key.rpartition("_")
    problem, algorithm = (problem, last) if last in ALGORITHMS else (item.key, "auto")
    try:
        request = Request.parse(problem)
    except ShapeError:
        return None
    return Entry(item.key, request, algorithm, known, layer, item.written)


def export(file: str | Path) -> int:
    """Write all that is remembered for this machine to a file; returns how many entries. Raises OSError."""
    return _write(Path(file), machine.fingerprint(), (item for _, item in cache.items().values()))


def merge(*files: str | Path) -> int:
    """Take over what such files of the same machine hold; returns how many entries are new here or changed.

    Raises UnsupportedError for a file of another machine, ShapeError for what is no such file (nothing is taken over
    then), OSError where a file cannot be read.
    """
    own = machine.fingerprint()
    contents = [(file, *_read(Path(file))) for file in files]
    for file, fingerprint, _ in contents:
        if fingerprint != own:
            raise UnsupportedError(f"{file} was measured on {fingerprint}; this machine is {own}: times of one say nothing about the other")
    changed = set()
    here = {key: item for key, (_, item) in cache.items().items()}
    for _, _, items in contents:
        for item in items:
            both = _union(here.get(item.key), item)
            if item.key not in here or here[item.key].value != both.value:
                cache.put(both.key, both.value, both.written)
                here[item.key] = both
                changed.add(item.key)
    return len(changed)


def merge_files(files: Iterable[str | Path], into: str | Path) -> int:
    """Write what several files of one machine, whichever, hold together to a file; returns how many entries.

    Raises UnsupportedError where they are of different machines, ShapeError for what is no such file, OSError.
    """
    contents = [(file, *_read(Path(file))) for file in files]
    (first, fingerprint, _), *others = contents
    for file, other, _ in others:
        if other != fingerprint:
            raise UnsupportedError(f"{file} was measured on {other}, and {first} on {fingerprint}: they have nothing to do with each other")
    merged: dict[str, Item] = {}
    for _, _, items in contents:
        for item in items:
            merged[item.key] = _union(merged.get(item.key), item)
    return _write(Path(into), fingerprint, merged.values())


def prune(days: float | None = None, other_machines: bool = False) -> tuple[int, int]:
    """Forget what can no longer be chosen: records of earlier revisions, and of algorithms that are gone.

    days: also what was measured longer ago. other_machines: also all that is not of this machine and instruction set.
    Returns how many entries are gone, and how many files. Raises OSError.
    """
    before = cache.items()
    oldest = 0 if days is None else time.time_ns() - int(min(days * DAY, time.time_ns()))
    files = cache.clear_other_machines() if other_machines else 0

    def change(item: Item) -> Any:
        if item.written < oldest:
            return None
        known = records.from_json(item.value)
        if not known:
            return item.value
        alive = tuple(each for each in known if each.algorithm in ALGORITHMS and each.revision == ALGORITHMS[each.algorithm].REVISION)
        return records.to_json(alive) if alive else None

    files += max(0, cache.rewrite(change) - 1)
    return len(before) - len(cache.items()), files


def _union(first: Item | None, second: Item) -> Item:
    if first is None:
        return second
    old, new = sorted((first, second), key=lambda item: item.written)
    known = records.merge(records.from_json(old.value), records.from_json(new.value))
    return Item(new.key, new.written, records.to_json(known) if known else new.value)


def _read(file: Path) -> tuple[str, list[Item]]:
    try:
        fingerprint, items = read_file(file.read_bytes())
    except ValueError as error:
        raise ShapeError(f"{file} is no file of convopt's cache: {error}") from None
    newest: dict[str, Item] = {}
    for item in items:
        if item.key not in newest or item.written > newest[item.key].written:
            newest[item.key] = item
    return fingerprint, list(newest.values())


def _write(file: Path, fingerprint: str, items: Iterable[Item]) -> int:
    if not file.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    lines = list(_lines(items))
    aside = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        aside.write_bytes(header(fingerprint) + b"".join(lines))
        aside.replace(file)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    return len(lines)


def _lines(items: Iterable[Item]) -> Iterator[bytes]:
    return (line_of(item.key, item.value, item.written) + b"\n" for item in items)
