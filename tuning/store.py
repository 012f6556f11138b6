"""The files behind the cache: one directory as one process sees it, small JSON values under keys, for one machine.

A directory holds one file per process that ever wrote, each appended to by its process alone, so writers never meet:

    <version>-<fingerprint's checksum>-<process>-<random>.log
        convopt-cache <version> <fingerprint>
        <checksum> <time> <key> <JSON>
        ...

Reading needs no lock: every file of this machine is read once, lines are only split, and a line's checksum is looked at
when its key is asked for. A damaged line is skipped, so damage costs at most what was in it; a torn last line is what
a killed writer leaves. Of several lines with one key the newest that is sound counts. When files have become many,
the first write of a process merges those whose writers are gone into one (written aside, synced, renamed).

Nothing here raises because of the directory: whatever is wrong with it, keys are merely not found, values are kept for
this process only, and one RuntimeWarning says why.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

VERSION = 1
MAGIC = b"convopt-cache"
SUFFIX = ".log"
#: Files of one machine that are merged into one once there are more.
MANY_FILES = 16
#: A file that is larger is not ours, or has gone wrong.
LARGEST_FILE = 1 << 28

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Item(NamedTuple):
    """A key with its newest sound value. written: nanoseconds since 1970."""

    key: str
    written: int
    value: Any


class Store:
    """One directory as one process sees it for one fingerprint.

    own: whether it is this user's, private and written to; else it is somebody's who shares it, and only read.
    """

    def __init__(self, directory: Path, fingerprint: str, own: bool = True) -> None:
        self.directory = directory
        self.fingerprint = fingerprint
        self.own = own
        self._header = header(fingerprint)
        self.prefix = f"{VERSION}-{zlib.crc32(fingerprint.encode()):08x}-"
        self._lines: dict[bytes, list[bytes]] = {}
        self._values: dict[str, Any] = {}
        self._file: int | None = None
        self._writer = 0
        self._writable = own
        self.load()

    def load(self) -> int:
        """Read the directory again; returns how many keys are known."""
        self._values.clear()
        try:
            self._lines = self._read_all()
        except FileNotFoundError:
            self._lines = {}
        except OSError as error:
            self._lines = {}
            self._writable = False
            warn(f"cannot use the cache in {self.directory}: {error}")
        return len(self._lines)

    def get(self, key: str) -> Any:
        """The newest sound value of a key, None if there is none."""
        value = self._values.get(key)
        if value is None:
            value = self._sound_value(key.encode())
            if value is not None:
                self._values[key] = value
        return value

    def put(self, key: str, value: Any, written: int | None = None) -> None:
        """Remember a JSON value under a key without blanks, here and in the directory; written: now, unless given."""
        line = line_of(key, value, written)
        self._values[key] = value
        self._lines.setdefault(key.encode(), []).append(line)
        if not self._writable:
            return
        try:
            self._append(line + b"\n")
        except OSError as error:
            self._writable = False
            warn(f"cannot write the cache in {self.directory}: {error}")

    def names(self) -> frozenset[bytes]:
        """The keys there are lines of, sound or not: quick."""
        return frozenset(self._lines)

    def items(self) -> Iterator[Item]:
        """Every key that has a sound value, with the newest one."""
        for key in list(self._lines):
            item = self._sound_item(key)
            if item is not None:
                yield item

    def _sound_value(self, key: bytes) -> Any:
        item = self._sound_item(key)
        return None if item is None else item.value

    def _sound_item(self, key: bytes) -> Item | None:
        damaged = False
        for line in sorted(self._lines.get(key, ()), key=_time_of, reverse=True):
            item = item_of(line)
            if item is not None:
                return item
            damaged = True
        if damaged:
            warn(f"the cache in {self.directory} has damaged lines; what they held is measured again")
        return None

    def _read_all(self) -> dict[bytes, list[bytes]]:
        for _ in range(3):
            lines: dict[bytes, list[bytes]] = {}
            with open_directory(self.directory, create=False, own=self.own) as folder, contextlib.suppress(FileNotFoundError):
                for name in self._names(folder):
                    self._read(name, folder, lines)
                return lines
        return lines  # files kept vanishing under us: another process is merging, and its result comes with the next load

    def _names(self, folder: int) -> list[str]:
        return sorted(name for name in os.listdir(folder) if name.startswith(self.prefix) and name.endswith(SUFFIX))

    def _read(self, name: str, folder: int, lines: dict[bytes, list[bytes]]) -> None:
        """Add a file's lines by key; checksums are not looked at yet. Foreign files add nothing."""
        try:
            data = _content(name, folder, self.own)
        except FileNotFoundError:
            raise
        except OSError as error:
            warn(f"cannot read {self.directory / name}: {error}")
            return
        if not data.startswith(self._header):
            return
        for line in data.split(b"\n")[1:-1]:
            fields = line.split(b" ", 3)
            if len(fields) == 4:
                lines.setdefault(fields[2], []).append(line)

    def _append(self, line: bytes) -> None:
        while True:
            if self._file is None or self._writer != os.getpid():
                self._open()
            assert self._file is not None
            _write(self._file, line)
            if os.fstat(self._file).st_nlink:
                return
            self.close()  # somebody cleared the directory: begin again

    def _open(self) -> None:
        self.close()
        with open_directory(self.directory, create=True) as folder:
            self._file, self._writer = self._create(folder), os.getpid()
            with contextlib.suppress(OSError):  # merging is a kindness to readers, not needed
                self._compact(folder)

    def close(self) -> None:
        """Close the file of this process; the next write makes a new one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _create(self, folder: int) -> int:
        """A new file of this process, locked to say that its writer lives; its descriptor."""
        name = f"{self.prefix}{os.getpid()}-{os.urandom(6).hex()}{SUFFIX}"
        file = os.open(name, _WRITE, 0o600, dir_fd=folder)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # already being merged away by another process
            os.close(file)
            return self._create(folder)
        except OSError:  # a file system without locks: nothing is ever merged there
            pass
        try:
            _write(file, self._header)
        except BaseException:
            os.close(file)
            raise
        return file

    def _compact(self, folder: int) -> None:
        """Merge the files whose writers are gone into one, if all files are many."""
        names = self._names(folder)
        if len(names) > MANY_FILES:
            self._merge(folder, names, lambda item: item.value, least=2)

    def rewrite(self, change: Callable[[Item], Any]) -> int:
        """Merge all files whose writers are gone into one that holds change(item) of each item, none where that is None.

        Returns how many files were merged. Raises OSError where the directory cannot be written.
        """
        self.close()
        try:
            with open_directory(self.directory, create=False) as folder:
                merged = self._merge(folder, self._names(folder), change, least=1)
        except FileNotFoundError:
            merged = 0
        self.load()
        return merged

    def _merge(self, folder: int, names: list[str], change: Callable[[Item], Any], least: int) -> int:
        """Merge such of these files as have no living writer, unless they are fewer than `least`; returns their number."""
        with contextlib.ExitStack() as held:
            old: dict[str, dict[bytes, list[bytes]]] = {}
            for name in names:
                # A file that can be locked has no living writer, and no other process merges it now.
                with contextlib.suppress(OSError):
                    file = os.open(name, _READ, dir_fd=folder)
                    held.callback(os.close, file)
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    old[name] = {}
                    self._read(name, folder, old[name])
            if len(old) < least:
                return 0
            newest: dict[str, Item] = {}
            for lines in old.values():
                for line in (line for versions in lines.values() for line in versions):
                    item = item_of(line)
                    if item is not None and (item.key not in newest or item.written > newest[item.key].written):
                        newest[item.key] = item
            changed = ((item, change(item)) for item in newest.values())
            lines_left = [line_of(item.key, value, item.written) for item, value in changed if value is not None]
            self._replace(folder, list(old), b"".join(line + b"\n" for line in lines_left))
        return len(old)

    def _replace(self, folder: int, names: list[str], lines: bytes) -> None:
        merged = f"{self.prefix}{os.getpid()}-{os.urandom(6).hex()}"
        file = os.open(f"{merged}.tmp", _WRITE, 0o600, dir_fd=folder)
        try:
            _write(file, self._header + lines)
            os.fsync(file)
            os.rename(f"{merged}.tmp", merged + SUFFIX, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(f"{merged}.tmp", dir_fd=folder)
            raise
        finally:
            os.close(file)
        os.fsync(folder)
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)


_warned = False


def header(fingerprint: str) -> bytes:
    """The first line of every file of a machine."""
    return b"%s %d %s\n" % (MAGIC, VERSION, fingerprint.encode())


def read_file(data: bytes) -> tuple[str, list[Item]]:
    """(fingerprint, sound items) of a file's content. Raises ValueError where it is no such file."""
    first, *lines = data.split(b"\n")
    match first.split(b" "):
        case [magic, version, fingerprint] if magic == MAGIC and version == b"%d" % VERSION:
            return fingerprint.decode(errors="replace"), [item for item in map(item_of, lines[:-1]) if item is not None]
    raise ValueError(f"its first line is not '{MAGIC.decode()} {VERSION} MACHINE'")


@contextlib.contextmanager
def open_directory(directory: Path, create: bool, own: bool = True) -> Iterator[int]:
    """A descriptor of the directory. One's own must be a real one that only this user may write to.

    One that somebody shares may be anybody's, but not everybody's.
    """
    if create:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if own else 0))
    try:
        about = os.fstat(folder)
        if own and about.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"it belongs to user {about.st_uid}")
        if about.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if own else 0)):
            raise PermissionError(errno.EPERM, "other users may write to it")
        yield folder
    finally:
        os.close(folder)


def _content(name: str, folder: int, own: bool) -> bytes:
    """All of a file; nothing where it is no plain file, one of a user who has no business there, or too large to be ours."""
    file = os.open(name, _READ, dir_fd=folder)
    try:
        about = os.fstat(file)
        trusted = {os.geteuid()} if own else {os.geteuid(), os.fstat(folder).st_uid, 0}
        if not stat.S_ISREG(about.st_mode) or about.st_uid not in trusted or about.st_size > LARGEST_FILE:
            return b""
        with open(file, "rb", closefd=False) as stream:
            return stream.read()
    finally:
        os.close(file)


def line_of(key: str, value: Any, written: int | None = None) -> bytes:
    """The line of a file, without its end. Raises ValueError for a key with blanks, TypeError for what JSON cannot hold."""
    if not key.isprintable() or " " in key or not key:
        raise ValueError(f"key is {key!r}; expected a text without blanks")
    moment = time.time_ns() if written is None else written
    rest = f"{moment:020d} {key} {json.dumps(value, separators=(',', ':'), allow_nan=False)}".encode()
    return b"%08x %s" % (zlib.crc32(rest), rest)


def item_of(line: bytes) -> Item | None:
    """What a line says, None if the line is not as it was written."""
    if line[:8] != b"%08x" % zlib.crc32(line[9:]):
        return None
    try:
        _, written, key, payload = line.split(b" ", 3)
        return Item(key.decode(), int(written), json.loads(payload))
    except (ValueError, RecursionError):
        return None


def _time_of(line: bytes) -> bytes:
    return line[9:29]


def _write(file: int, data: bytes) -> None:
    """All of it or an error; the last line of the file is then torn, and the file is not written to again."""
    written = os.write(file, data)
    if written != len(data):
        raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes could be written")


def warn(message: str) -> None:
    """At most one warning per process: whatever is wrong with the cache, results are right."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"convopt: {message}", RuntimeWarning, stacklevel=2)
