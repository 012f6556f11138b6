"""The cache: what one process writes another reads, and whatever happens to the files costs a miss at most."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

from convopt.tuning import cache, machine, store


def files(cache_folder):
    return sorted(cache_folder.glob("*.log"))


def forget():
    """What a new process knows: nothing but the directory."""
    for each in cache._stores.values():
        each.close()
    cache._stores.clear()


def assert_warned_once(seen, text):
    assert [warning.category for warning in seen] == [RuntimeWarning]
    assert text in str(seen[0].message)


def test_a_value_is_found_again_here_and_after_loading(cache_folder):
    assert cache.get("a") is None
    cache.put("a", {"x": 1})
    cache.put("b", [1, 2.5, "three"])
    cache.put("a", {"x": 2})
    assert cache.get("a") == {"x": 2}
    forget()
    assert cache.get("a") == {"x": 2}
    assert cache.get("b") == [1, 2.5, "three"]
    assert sorted(cache.keys()) == ["a", "b"]


def test_reading_creates_nothing_and_writing_a_private_directory(cache_folder):
    assert cache.get("a") is None
    assert not cache_folder.exists()
    cache.put("a", 1)
    assert cache_folder.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files(cache_folder))


def test_the_place_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("CONVOPT_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.path() == tmp_path / "convopt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.path() == tmp_path / "home" / ".cache" / "convopt"
    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(tmp_path / "chosen"))
    assert cache.path() == tmp_path / "chosen"


def test_another_machine_has_values_of_its_own(cache_folder, monkeypatch):
    cache.put("a", 1)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(machine, "fingerprint", lambda: "other-cpu/avx2/32K-1024K-32768K/8")
        assert cache.get("a") is None
        cache.put("a", 2)
        assert cache.get("a") == 2
    forget()
    assert cache.get("a") == 1


def test_the_fingerprint_names_the_instruction_set(isa):
    assert f"/{isa}/" in machine.fingerprint()
    assert " " not in machine.fingerprint()


def test_clear_forgets_here_and_on_disk(cache_folder):
    cache.put("a", 1)
    before = cache.generation()
    (cache_folder / "notes.txt").write_text("not ours")
    assert cache.clear() == 1
    assert cache.generation() != before
    assert cache.get("a") is None
    assert [file.name for file in cache_folder.iterdir()] == ["notes.txt"]
    cache.put("a", 2)
    forget()
    assert cache.get("a") == 2


def test_writing_goes_on_after_somebody_else_cleared_the_directory(cache_folder):
    cache.put("a", 1)
    for file in files(cache_folder):
        file.unlink()
    cache.put("b", 2)
    forget()
    assert cache.get("b") == 2


@pytest.mark.parametrize("key", ["with blank", "line\nfeed", ""])
def test_keys_that_would_break_the_lines_are_refused(cache_folder, key):
    with pytest.raises(ValueError, match="key is"):
        cache.put(key, 1)


def test_truncation_at_every_byte_costs_only_what_was_behind_it(cache_folder):
    values = {f"key{i}": {"n": i, "text": "x" * i} for i in range(5)}
    for key, value in values.items():
        cache.put(key, value)
    (file,) = files(cache_folder)
    forget()
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        complete = max(0, whole[:length].count(b"\n") - 1)
        forget()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a torn last line is nothing unusual
            found = [cache.get(key) for key in values]
        assert found == [value if i < complete else None for i, value in enumerate(values.values())]


def test_bit_flips_are_never_believed(cache_folder):
    values = {f"key{i}": {"n": i, "text": "abcdefghij"} for i in range(20)}
    for key, value in values.items():
        cache.put(key, value)
    (file,) = files(cache_folder)
    forget()
    whole = bytearray(file.read_bytes())
    chance = random.Random(1)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(1000):
            bit = chance.randrange(len(whole) * 8)
            whole[bit // 8] ^= 1 << bit % 8
            file.write_bytes(whole)
            whole[bit // 8] ^= 1 << bit % 8
            forget()
            assert all(cache.get(key) in (None, value) for key, value in values.items())
            found = sum(cache.get(key) is not None for key in values)
            assert found >= 18 or bit // 8 < whole.index(b"\n") + 1  # a flipped line feed joins two lines; the header is everything
    assert [warning.category for warning in seen] == [RuntimeWarning]


def test_an_older_sound_line_serves_when_the_newest_is_damaged(cache_folder):
    cache.put("a", "old")
    cache.put("a", "new")
    (file,) = files(cache_folder)
    forget()
    file.write_bytes(file.read_bytes().replace(b'"new"', b'"nex"'))
    assert cache.get("a") == "old"


def test_foreign_files_are_ignored(cache_folder):
    cache.put("a", 1)
    (file,) = files(cache_folder)
    forget()
    stem = file.name.rsplit("-", 2)[0]
    (cache_folder / f"{stem}-1-aa.log").write_bytes(os.urandom(5000))
    (cache_folder / f"{stem}-2-bb.log").write_bytes(b"")
    (cache_folder / f"{stem}-3-cc.log").mkdir()
    (cache_folder / f"{stem}-5-ee.log").write_bytes(
        file.read_bytes().replace(b"convopt-cache 1", b"convopt-cache 9").replace(b" a 1", b" a 7")
    )
    os.mkfifo(cache_folder / f"{stem}-4-dd.log")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cache.get("a") == 1
        assert cache.get("b") is None


def test_a_symbolic_link_to_a_file_is_not_followed(cache_folder, tmp_path):
    cache.put("a", 1)
    (file,) = files(cache_folder)
    forget()
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(RuntimeWarning, match="cannot read"):
        assert cache.get("a") is None


def spoil_symlink(cache_folder):
    cache_folder.parent.joinpath("real").mkdir()
    cache_folder.symlink_to(cache_folder.parent / "real")


def spoil_file(cache_folder):
    cache_folder.write_text("a file where the directory should be")


def spoil_shared(cache_folder):
    cache_folder.mkdir()
    cache_folder.chmod(0o777)


def spoil_loop(cache_folder):
    cache_folder.symlink_to(cache_folder)


@pytest.mark.parametrize("spoil", [spoil_symlink, spoil_file, spoil_shared, spoil_loop])
def test_an_unusable_directory_means_one_warning_and_memory_only(cache_folder, spoil):
    spoil(cache_folder)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert cache.get("a") is None
        cache.put("a", 1)
        cache.put("b", 2)
        assert (cache.get("a"), cache.get("b")) == (1, 2)
        forget()
        assert cache.get("a") is None
        cache.clear()
    assert_warned_once(seen, "cannot use the cache")


def test_a_directory_of_somebody_else_is_not_used(cache_folder, monkeypatch):
    cache_folder.mkdir()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.warns(RuntimeWarning, match="belongs to user"):
        cache.put("a", 1)
    assert list(cache_folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_directory_means_one_warning(cache_folder):
    cache_folder.mkdir(mode=0o500)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        cache.put("a", 1)
        cache.put("b", 1)
    assert_warned_once(seen, "cannot write the cache")
    assert cache.get("a") == 1


@pytest.mark.parametrize("written", [0, 10])
def test_a_full_disk_means_one_warning_and_no_damage(cache_folder, monkeypatch, written):
    cache.put("before", 1)
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:written]))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        cache.put("a", 1)
        cache.put("b", 2)
    assert_warned_once(seen, "cannot write the cache")
    assert cache.get("b") == 2
    monkeypatch.setattr(os, "write", real)
    forget()
    assert (cache.get("before"), cache.get("a")) == (1, None)


WRITER = """
import sys
from convopt.tuning import cache
for i in range(int(sys.argv[2]) if len(sys.argv) > 2 else 100):
    cache.put(f"{NAME}-{i}", {"n": i})
"""


def test_eight_processes_write_at_once_and_nothing_is_lost(cache_folder):
    environment = {**os.environ, "CONVOPT_CACHE_DIR": str(cache_folder)}
    writers = [subprocess.Popen([sys.executable, "-c", WRITER.replace("{NAME}", f"w{w}")], env=environment) for w in range(8)]
    assert [writer.wait(60) for writer in writers] == [0] * 8
    assert all(cache.get(f"w{w}-{i}") == {"n": i} for w in range(8) for i in range(100))


def test_threads_of_one_process_share_one_file(cache_folder):
    threads = [threading.Thread(target=lambda t=t: [cache.put(f"t{t}-{i}", i) for i in range(50)]) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files(cache_folder)) == 1
    forget()
    assert all(cache.get(f"t{t}-{i}") == i for t in range(4) for i in range(50))


KILLED = """
from convopt.tuning import cache
import itertools
for i in itertools.count():
    cache.put(f"key{i}", {"n": i, "ballast": "x" * 2000})
    print(i, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_had_finished(cache_folder):
    environment = {**os.environ, "CONVOPT_CACHE_DIR": str(cache_folder)}
    for delay in (0.0, 0.003, 0.01):
        writer = subprocess.Popen([sys.executable, "-c", KILLED], env=environment, stdout=subprocess.PIPE, text=True)
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split("\n")
        finished = int(rest[-2]) if len(rest) > 1 else 0
        forget()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert all(cache.get(f"key{i}")["n"] == i for i in range(finished + 1))
        for file in files(cache_folder):
            file.unlink()


def test_many_files_of_finished_processes_are_merged(cache_folder):
    for i in range(store.MANY_FILES + 5):
        cache.put(f"key{i}", i)
        cache.put("shared", i)
        forget()
    assert len(files(cache_folder)) <= store.MANY_FILES + 1
    assert [cache.get(f"key{i}") for i in range(store.MANY_FILES + 5)] == list(range(store.MANY_FILES + 5))
    assert cache.get("shared") == store.MANY_FILES + 4
    assert not list(cache_folder.glob("*.tmp"))


def test_merging_leaves_the_files_of_living_writers_alone(cache_folder):
    living = store.Store(cache_folder, machine.fingerprint())
    living.put("living", 1)
    for i in range(store.MANY_FILES + 5):
        cache.put(f"key{i}", i)
        forget()
    living.put("living", 2)
    living.close()
    forget()
    assert cache.get("living") == 2


def test_a_forked_child_writes_a_file_of_its_own(cache_folder):
    cache.put("parent", 1)
    child = os.fork()
    if child == 0:
        cache.put("child", 2)
        os._exit(0)
    os.waitpid(child, 0)
    cache.put("parent", 3)
    assert len(files(cache_folder)) == 2
    forget()
    assert (cache.get("parent"), cache.get("child")) == (3, 2)


def test_ten_thousand_entries_load_quickly(cache_folder):
    opened = store.Store(cache_folder, machine.fingerprint())
    record = {"records": [{"algorithm": "direct", "params": {"nv": n}, "seconds": 1e-3, "error": 1e-7} for n in range(6)]}
    opened.put("first", record)
    opened.close()
    (file,) = files(cache_folder)
    with file.open("ab") as stream:
        stream.writelines(store.line_of(f"key{i}", record) + b"\n" for i in range(10_000))
    times = []
    for _ in range(15):
        start = time.perf_counter()
        opened = store.Store(cache_folder, machine.fingerprint())
        times.append(time.perf_counter() - start)
    assert opened.get("key9999") == record
    assert min(times) < 0.05


def test_no_value_needs_pickle(cache_folder):
    with pytest.raises(TypeError):
        cache.put("a", object())
    cache.put("b", {"nested": [1, None, True]})
    assert json.loads(files(cache_folder)[0].read_bytes().split(b"\n")[1].split(b" ", 3)[3]) == {"nested": [1, None, True]}
