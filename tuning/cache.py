"""What is remembered between processes: a store of small JSON values, one per key, for one machine.

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
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import machine

VERSION = 1
MAGIC = b"convopt-cache"
SUFFIX = ".log"
#: Files of one machine that are merged into one once there are more.
MANY_FILES = 16
#: A file that is larger is not ours, or has gone wrong.
LARGEST_FILE = 1 << 28

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def path() -> Path:
    """The directory: CONVOPT_CACHE_DIR, else convopt under XDG_CACHE_HOME, else under ~/.cache."""
    chosen = os.environ.get("CONVOPT_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):  # a user without a home
        return Path(os.environ.get("TMPDIR", "/tmp"), f"convopt-{os.geteuid()}")
    return Path(base, "convopt")


class Store:
    """One directory as one process sees it for one fingerprint."""

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self.directory = directory
        self.fingerprint = fingerprint
        self._header = b"%s %d %s\n" % (MAGIC, VERSION, fingerprint.encode())
        self._prefix = f"{VERSION}-{zlib.crc32(fingerprint.encode()):08x}-"
        self._lines: dict[bytes, list[bytes]] = {}
        self._values: dict[str, Any] = {}
        self._file: int | None = None
        self._writer = 0
        self._writable = True
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
            _warn(f"cannot use the cache in {self.directory}: {error}")
        return len(self._lines)

    def get(self, key: str) -> Any:
        """The newest sound value of a key, None if there is none."""
        value = self._values.get(key)
        if value is None:
            value = self._sound_value(key.encode())
            if value is not None:
                self._values[key] = value
        return value

    def put(self, key: str, value: Any) -> None:
        """Remember a JSON value under a key without blanks, here and in the directory."""
        self._values[key] = value
        line = _line(key, value)
        self._lines.setdefault(key.encode(), []).append(line)
        if not self._writable:
            return
        try:
            self._append(line + b"\n")
        except OSError as error:
            self._writable = False
            _warn(f"cannot write the cache in {self.directory}: {error}")

    def keys(self) -> list[str]:
        """The keys that have a sound value."""
        return [key for key in (each.decode(errors="replace") for each in self._lines) if self.get(key) is not None]

    def _sound_value(self, key: bytes) -> Any:
        damaged = False
        for line in sorted(self._lines.get(key, ()), key=_time_of, reverse=True):
            payload = _payload(line)
            if payload is not None:
                with contextlib.suppress(ValueError, RecursionError):
                    return json.loads(payload)
            damaged = True
        if damaged:
            _warn(f"the cache in {self.directory} has damaged lines; what they held is measured again")
        return None

    def _read_all(self) -> dict[bytes, list[bytes]]:
        for _ in range(3):
            lines: dict[bytes, list[bytes]] = {}
            with _open_directory(self.directory, create=False) as folder, contextlib.suppress(FileNotFoundError):
                for name in self._names(folder):
                    self._read(name, folder, lines)
                return lines
        return lines  # files kept vanishing under us: another process is merging, and its result comes with the next load

    def _names(self, folder: int) -> list[str]:
        return sorted(name for name in os.listdir(folder) if name.startswith(self._prefix) and name.endswith(SUFFIX))

    def _read(self, name: str, folder: int, lines: dict[bytes, list[bytes]]) -> None:
        """Add a file's lines by key; checksums are not looked at yet. Foreign files add nothing."""
        try:
            data = _content(name, folder)
        except FileNotFoundError:
            raise
        except OSError as error:
            _warn(f"cannot read {self.directory / name}: {error}")
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
        with _open_directory(self.directory, create=True) as folder:
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
        name = f"{self._prefix}{os.getpid()}-{os.urandom(6).hex()}{SUFFIX}"
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
        if len(names) <= MANY_FILES:
            return
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
            if len(old) < 2:
                return
            newest: dict[bytes, bytes] = {}
            for lines in old.values():
                for key, versions in lines.items():
                    for line in versions:
                        if _payload(line) is not None and (key not in newest or _time_of(line) > _time_of(newest[key])):
                            newest[key] = line
            self._replace(folder, list(old), b"".join(line + b"\n" for line in newest.values()))

    def _replace(self, folder: int, names: list[str], lines: bytes) -> None:
        merged = f"{self._prefix}{os.getpid()}-{os.urandom(6).hex()}"
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


_stores: dict[tuple[Path, str], Store] = {}
_guard = threading.RLock()
_generation = 0
_warned = False


def _store() -> Store:
    place = (path(), machine.fingerprint())
    store = _stores.get(place)
    if store is None:
        store = _stores[place] = Store(*place)
    return store


def get(key: str) -> Any:
    """What is remembered under a key for this machine, None if nothing is."""
    with _guard:
        return _store().get(key)


def put(key: str, value: Any) -> None:
    """Remember a JSON value under a key (a text without blanks), for this machine."""
    global _generation
    with _guard:
        _store().put(key, value)
        _generation += 1


def load() -> int:
    """Read the directory again, for what other processes wrote since; returns how many keys are known."""
    global _generation
    with _guard:
        _generation += 1
        return _store().load()


def keys() -> list[str]:
    """Every key with a sound value for this machine."""
    with _guard:
        return _store().keys()


def clear() -> int:
    """Forget everything of every machine, here and in the directory; returns how many files are gone."""
    global _generation
    removed = 0
    with _guard:
        _generation += 1
        for store in _stores.values():
            store.close()
        _stores.clear()
        try:
            with _open_directory(path(), create=False) as folder:
                for name in os.listdir(folder):
                    if name.startswith(f"{VERSION}-") and name.endswith((SUFFIX, ".tmp")):
                        os.unlink(name, dir_fd=folder)
                        removed += 1
        except FileNotFoundError:
            pass
        except OSError as error:
            _warn(f"cannot clear the cache in {path()}: {error}")
    return removed


def generation() -> int:
    """A number that changes whenever what is remembered may have changed."""
    return _generation


@contextlib.contextmanager
def _open_directory(directory: Path, create: bool) -> Iterator[int]:
    """A descriptor of the directory, which must be a real one that only this user may write to."""
    if create:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        about = os.fstat(folder)
        if about.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"it belongs to user {about.st_uid}")
        if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(errno.EPERM, "other users may write to it")
        yield folder
    finally:
        os.close(folder)


def _content(name: str, folder: int) -> bytes:
    """All of a file; nothing where it is no plain file of this user, or one too large to be ours."""
    file = os.open(name, _READ, dir_fd=folder)
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_size > LARGEST_FILE:
            return b""
        with open(file, "rb", closefd=False) as stream:
            return stream.read()
    finally:
        os.close(file)


def _line(key: str, value: Any) -> bytes:
    if not key.isprintable() or " " in key or not key:
        raise ValueError(f"key is {key!r}; expected a text without blanks")
    rest = f"{time.time_ns():020d} {key} {json.dumps(value, separators=(',', ':'), allow_nan=False)}".encode()
    return b"%08x %s" % (zlib.crc32(rest), rest)


def _time_of(line: bytes) -> bytes:
    return line[9:29]


def _payload(line: bytes) -> bytes | None:
    """The JSON text of a line, None if the line is not as it was written."""
    if line[:8] != b"%08x" % zlib.crc32(line[9:]):
        return None
    return line.split(b" ", 3)[3]


def _write(file: int, data: bytes) -> None:
    """All of it or an error; the last line of the file is then torn, and the file is not written to again."""
    written = os.write(file, data)
    if written != len(data):
        raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes could be written")


def _warn(message: str) -> None:
    """At most one warning per process: whatever is wrong with the cache, results are right."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"convopt: {message}", RuntimeWarning, stacklevel=2)
