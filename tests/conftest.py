"""Settings and fixtures every test may use."""

import atexit
import os
import shutil
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Before convopt is imported: tests neither read nor write the user's cache, and no setting of the user's shell sways them.
for _name in (
    "CONVOPT_TUNE",
    "CONVOPT_ACCURACY",
    "CONVOPT_MAX_WORKSPACE",
    "CONVOPT_PIN",
    "CONVOPT_BLOCK",
    "CONVOPT_RECORD",
    "CONVOPT_DETERMINISTIC",
):
    os.environ.pop(_name, None)
os.environ["CONVOPT_CACHE_DIR"] = tempfile.mkdtemp(prefix="convopt-tests-")
os.environ["CONVOPT_SHARED_CACHE"] = ""
atexit.register(shutil.rmtree, os.environ["CONVOPT_CACHE_DIR"], ignore_errors=True)

import convopt  # noqa: E402
from convopt.kernels import registry  # noqa: E402
from convopt.tensorflow import Reference  # noqa: E402
from convopt.tuning import cache, store  # noqa: E402

# The same examples in every run; `isa` may stay as it is between the examples of one test.
settings.register_profile("convopt", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("convopt")


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """A cache directory of this test alone, not made yet, and a process that has not warned about any."""
    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CONVOPT_SHARED_CACHE", "")
    monkeypatch.setattr(store, "_warned", False)
    monkeypatch.setattr(cache, "_stores", {})
    cache._generation += 1
    yield tmp_path / "cache"
    for each in cache._stores.values():
        each.close()
    cache._generation += 1


@pytest.fixture(params=["generic", "avx2", "avx512"])
def isa(request):
    """Each instruction set of this machine in turn; planned convolvers use it."""
    before = registry.isa()
    if request.param not in registry.isas():
        pytest.skip(f"this machine does not run {request.param}")
    registry.select(request.param)
    yield request.param
    registry.select(before)


@pytest.fixture(scope="session")
def tensorflow():
    """tf.nn.conv2d in one process of its own, oneDNN off."""
    with Reference() as running:
        try:
            running.conv2d(np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1)))
        except convopt.UnsupportedError as error:
            pytest.skip(str(error))
        yield running


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Engines of this test's own making among the known ones, and a cache of their own."""
    from planted import PLANTED

    from convopt.bench.engines import ENGINES, Engine

    for name, source in PLANTED.items():
        (tmp_path / f"planted_{name}.py").write_text(source)
        monkeypatch.setitem(ENGINES, name, Engine(name, name.title(), f"planted_{name}", ("numpy",)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs a command line in this process, in a folder of its own."""
    from typer.testing import CliRunner

    from convopt.cli.app import app

    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
