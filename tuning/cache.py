"""What is remembered between processes: small JSON values, one per key, for this machine.

Three layers, each a directory of files as ``store`` writes them. The user's own is read and written: CONVOPT_CACHE_DIR, else
convopt under XDG_CACHE_HOME, else ~/.cache/convopt. Where it has nothing under a key, shared ones are asked, which are only
read: the directories of CONVOPT_SHARED_CACHE (separated by colons), else /var/cache/convopt; then what came with convopt.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import machine
from .store import SUFFIX, VERSION, Item, Store, open_directory, warn

#: Where an administrator may put what was tuned for all users.
SYSTEM = Path("/var/cache/convopt")
#: What comes with convopt.
SHIPPED = Path(__file__).with_name("shipped")


def path() -> Path:
    """The user's directory."""
    chosen = os.environ.get("CONVOPT_CACHE_DIR")
    if chosen:
        return Path(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):  # a user without a home
        return Path(os.environ.get("TMPDIR", "/tmp"), f"convopt-{os.geteuid()}")
    return Path(base, "convopt")


def shared_paths() -> list[Path]:
    """The directories that are read where the user's has nothing, in this order; some may not exist."""
    named = os.environ.get("CONVOPT_SHARED_CACHE")
    shared = [SYSTEM] if named is None else [Path(part) for part in named.split(os.pathsep) if part]
    return [*shared, SHIPPED]


_stores: dict[tuple[Path, str], Store] = {}
_guard = threading.RLock()


def _after_fork_in_child() -> None:
    global _guard
    _guard = threading.RLock()  # whoever held it is not here to release it


os.register_at_fork(after_in_child=_after_fork_in_child)
_generation = 0


def _store(directory: Path | None = None) -> Store:
    """The user's store, or that of a shared directory."""
    place = (directory or path(), machine.fingerprint())
    store = _stores.get(place)
    if store is None:
        store = _stores[place] = Store(*place, own=directory is None)
    return store


def _layers() -> list[Store]:
    """Every store that is asked, the user's first."""
    own = path()
    return [_store(), *(_store(shared) for shared in shared_paths() if shared != own)]


def get(key: str) -> Any:
    """What is remembered under a key for this machine, None if nothing is."""
    with _guard:
        return next((value for value in (layer.get(key) for layer in _layers()) if value is not None), None)


def put(key: str, value: Any, written: int | None = None) -> None:
    """Remember a JSON value under a key (a text without blanks), for this machine, in the user's directory.

    written: nanoseconds since 1970, now unless given.
    """
    global _generation
    with _guard:
        _store().put(key, value, written)
        _generation += 1


def load() -> int:
    """Read the directories again, for what other processes wrote since; returns how many keys are known."""
    global _generation
    with _guard:
        _generation += 1
        layers = _layers()
        for layer in layers:
            layer.load()
        return len(frozenset().union(*(layer.names() for layer in layers)))


def keys() -> list[str]:
    """Every key with a sound value for this machine."""
    with _guard:
        return list(items())


def items() -> dict[str, tuple[Path, Item]]:
    """Every key with what ``get`` finds under it, and the directory that has it."""
    with _guard:
        found: dict[str, tuple[Path, Item]] = {}
        for layer in _layers():
            for item in layer.items():
                found.setdefault(item.key, (layer.directory, item))
        return found


def rewrite(change: Callable[[Item], Any]) -> int:
    """Keep change(item) of each item of the user's directory, nothing where that is None; files become one.

    Returns how many files were merged: those that other living processes write to are left alone. Raises OSError.
    """
    global _generation
    with _guard:
        _generation += 1
        return _store().rewrite(change)


def clear() -> int:
    """Forget everything of every machine in the user's directory, and here; returns how many files are gone."""
    return _remove(lambda name: True)


def clear_other_machines() -> int:
    """Remove from the user's directory what is of other machines or instruction sets; returns how many files are gone."""
    own = _store().prefix
    return _remove(lambda name: not name.startswith(own))


def _remove(unwanted: Callable[[str], bool]) -> int:
    global _generation
    removed = 0
    with _guard:
        _generation += 1
        for store in _stores.values():
            store.close()
        _stores.clear()
        try:
            with open_directory(path(), create=False) as folder:
                for name in _files(os.listdir(folder)):
                    if unwanted(name):
                        os.unlink(name, dir_fd=folder)
                        removed += 1
        except FileNotFoundError:
            pass
        except OSError as error:
            warn(f"cannot clear the cache in {path()}: {error}")
    return removed


def _files(names: list[str]) -> Iterator[str]:
    """Those that are of the cache, of any machine."""
    return (name for name in names if name.startswith(f"{VERSION}-") and name.endswith((SUFFIX, ".tmp")))


def generation() -> int:
    """A number that changes whenever what is remembered may have changed."""
    return _generation
