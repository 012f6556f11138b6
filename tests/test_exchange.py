"""Entries of the cache: carried between caches of one machine, kept in layers, forgotten when they can serve no more."""

import os
import time

import pytest

import convopt
from convopt.algorithms import ALGORITHMS
from convopt.errors import ShapeError, UnsupportedError
from convopt.shape import ConvShape
from convopt.tuning import cache, exchange, machine, records
from convopt.tuning.candidates import Request
from convopt.tuning.records import Record

SHAPE = ConvShape(1, 14, 14, 32, 64, 3, 3, pads=((1, 1), (1, 1)))
REQUEST = Request(SHAPE, bias=True, activation="relu6", threads=2, constant_filters=True)
OTHER_MACHINE = "other-cpu/avx2/32K-1024K-32768K/8"


def record(number, fastest, algorithm="direct", **more):
    values = {"revision": ALGORITHMS[algorithm].REVISION, "workspace_bytes": 0, "packed_bytes": 0, "error": 1e-7, "samples": 5}
    return Record(**{"algorithm": algorithm, "params": (("nv", number),), "seconds": fastest, "fastest": fastest, **values, **more})


def remember(key, *known, written=None):
    cache.put(key, records.to_json(known), written)


def forget():
    """What a new process knows."""
    for each in cache._stores.values():
        each.close()
    cache._stores.clear()


def at(folder, monkeypatch):
    """Go on as another process would, with another user's directory."""
    forget()
    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(folder))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("constant", [False, True])
def test_a_request_is_found_in_its_key(bias, activation, constant):
    request = Request(SHAPE, bias, activation, 12, constant)
    assert Request.parse(request.key()) == request


@pytest.mark.parametrize("key", ["", "machine", SHAPE.key(), f"{REQUEST.key()}_direct", REQUEST.key().replace("_t2", "_t0")])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ShapeError, match="key is"):
        Request.parse(key)


def test_entries_tell_what_was_measured(cache_folder):
    remember(REQUEST.key(), record(1, 2e-3), record(2, 1e-3))
    remember(f"{REQUEST.key()}_direct", record(1, 2e-3))
    cache.put("machine", {"peak": 1.0})
    both = exchange.entries()
    assert [(entry.request, entry.algorithm, len(entry.records)) for entry in both] == [(REQUEST, "auto", 2), (REQUEST, "direct", 1)]
    assert both[0].best.label == "direct:nv=2"
    assert both[0].layer == cache_folder
    assert abs(both[0].written / 1e9 - time.time()) < 60


def test_what_is_exported_can_be_merged_elsewhere(cache_folder, tmp_path, monkeypatch):
    remember(REQUEST.key(), record(1, 2e-3))
    cache.put("machine", {"peak": 1.0})
    assert convopt.cache.export(tmp_path / "file") == 2
    at(tmp_path / "elsewhere", monkeypatch)
    assert exchange.entries() == []
    assert convopt.cache.merge(tmp_path / "file") == 2
    assert convopt.cache.merge(tmp_path / "file") == 0
    forget()
    assert [entry.request for entry in exchange.entries()] == [REQUEST]
    assert cache.get("machine") == {"peak": 1.0}


def test_merging_keeps_all_candidates_and_of_each_the_newer_record(cache_folder, tmp_path, monkeypatch):
    remember(REQUEST.key(), record(1, 2e-3), record(2, 5e-3), written=2000)
    exchange.export(tmp_path / "newer")
    at(tmp_path / "elsewhere", monkeypatch)
    remember(REQUEST.key(), record(1, 9e-3), record(3, 3e-3), written=1000)
    assert convopt.cache.merge(tmp_path / "newer") == 1
    forget()
    (entry,) = exchange.entries()
    assert {each.label: each.fastest for each in entry.records} == {"direct:nv=1": 2e-3, "direct:nv=2": 5e-3, "direct:nv=3": 3e-3}
    assert entry.written == 2000


def test_files_are_merged_into_a_file_without_touching_the_cache(cache_folder, tmp_path, monkeypatch):
    remember(REQUEST.key(), record(1, 2e-3))
    exchange.export(tmp_path / "first")
    at(tmp_path / "elsewhere", monkeypatch)
    remember("n_other", record(1, 2e-3))
    exchange.export(tmp_path / "second")
    at(tmp_path / "third", monkeypatch)
    assert exchange.merge_files([tmp_path / "first", tmp_path / "second"], tmp_path / "both") == 2
    assert not (tmp_path / "third").exists()
    assert convopt.cache.merge(tmp_path / "both") == 2


def test_another_machines_file_is_refused_whole(cache_folder, tmp_path, monkeypatch):
    remember(REQUEST.key(), record(1, 2e-3))
    exchange.export(tmp_path / "here")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(machine, "fingerprint", lambda: OTHER_MACHINE)
        remember(REQUEST.key(), record(1, 1e-3))
        exchange.export(tmp_path / "there")
    at(tmp_path / "elsewhere", monkeypatch)
    with pytest.raises(UnsupportedError, match=f"measured on {OTHER_MACHINE}; this machine is"):
        convopt.cache.merge(tmp_path / "here", tmp_path / "there")
    assert exchange.entries() == []
    with pytest.raises(UnsupportedError, match="nothing to do with each other"):
        exchange.merge_files([tmp_path / "here", tmp_path / "there"], tmp_path / "both")


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 100, b"convopt-cache 9 x\n", b"convopt-cache 1\n"])
def test_what_is_no_exported_file_is_refused(cache_folder, tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ShapeError, match="no file of convopt's cache"):
        convopt.cache.merge(tmp_path / "file")


def test_damage_in_an_exported_file_costs_what_was_damaged(cache_folder, tmp_path, monkeypatch):
    for number in range(5):
        remember(f"key{number}", record(number, 1e-3))
    exchange.export(tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(whole.replace(b'"nv":3', b'"nv":4')[:-20])
    at(tmp_path / "elsewhere", monkeypatch)
    assert convopt.cache.merge(tmp_path / "file") == 3


def test_pruning_forgets_what_can_serve_no_more(cache_folder, monkeypatch):
    remember("dead", record(1, 1e-3, revision=0))
    remember("half", record(1, 1e-3, revision=0), record(2, 1e-3))
    remember("gone", Record("nobody", (), 1, 0, 0))
    remember("old", record(1, 1e-3), written=time.time_ns() - 10 * exchange.DAY)
    cache.put("machine", {"peak": 1.0})
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(machine, "fingerprint", lambda: OTHER_MACHINE)
        remember("foreign", record(1, 1e-3))
    forget()
    assert exchange.prune() == (2, 0)
    forget()
    assert sorted(cache.keys()) == ["half", "machine", "old"]
    assert [each.label for each in records.from_json(cache.get("half"))] == ["direct:nv=2"]
    assert exchange.prune(days=5, other_machines=True) == (1, 1)
    assert sorted(cache.keys()) == ["half", "machine"]
    remember("after", record(1, 1e-3))
    forget()
    assert sorted(cache.keys()) == ["after", "half", "machine"]


def test_pruning_nothing_is_no_error(cache_folder):
    assert exchange.prune(days=1, other_machines=True) == (0, 0)


# Layers


@pytest.fixture
def shared_folder(cache_folder, tmp_path, monkeypatch):
    """A directory that somebody else filled, and an empty one of the user's."""
    at(tmp_path / "shared", monkeypatch)
    cache.put("both", "shared")
    cache.put("shared", "shared")
    at(cache_folder, monkeypatch)
    monkeypatch.setenv("CONVOPT_SHARED_CACHE", f"{tmp_path / 'absent'}:{tmp_path / 'shared'}")
    return tmp_path / "shared"


def test_the_users_own_goes_before_what_is_shared(shared_folder, cache_folder):
    cache.put("both", "user")
    cache.put("user", "user")
    assert [cache.get(key) for key in ("both", "shared", "user")] == ["user", "shared", "user"]
    assert sorted(cache.keys()) == ["both", "shared", "user"]
    assert cache.load() == 3
    assert {key: layer for key, (layer, _) in cache.items().items()} == {
        "both": cache_folder,
        "user": cache_folder,
        "shared": shared_folder,
    }


def test_what_is_shared_is_never_written(shared_folder, cache_folder):
    before = {file.name: file.read_bytes() for file in shared_folder.iterdir()}
    cache.put("both", "user")
    cache.rewrite(lambda item: None)
    cache.clear()
    assert {file.name: file.read_bytes() for file in shared_folder.iterdir()} == before
    assert cache.get("both") == "shared"


def test_a_shared_directory_may_be_somebody_elses_but_not_everybodys(shared_folder, monkeypatch):
    owner = os.geteuid()
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: owner + 1)
        forget()
        assert cache.get("shared") == "shared"
    forget()
    shared_folder.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="other users may write to it"):
        assert cache.get("shared") is None


def test_the_system_is_asked_unless_another_is_named(cache_folder, monkeypatch):
    monkeypatch.delenv("CONVOPT_SHARED_CACHE")
    assert cache.shared_paths() == [cache.SYSTEM, cache.SHIPPED]
    monkeypatch.setenv("CONVOPT_SHARED_CACHE", "")
    assert cache.shared_paths() == [cache.SHIPPED]


def test_pruned_files_are_merged_times_kept(cache_folder):
    for number in range(4):
        remember(f"key{number}", record(1, 1e-3), written=number + 1)
        forget()
    assert exchange.prune() == (0, 3)
    forget()
    assert {key: item.written for key, (_, item) in cache.items().items()} == {f"key{n}": n + 1 for n in range(4)}
