"""Fixtures every test may use."""

import pytest
from convopt.tuning import cache

from convopt.kernels import registry


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory):
    """Tests neither read nor write what the user's own programs have remembered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVOPT_CACHE_DIR", str(tmp_path_factory.mktemp("convopt") / "cache"))
        yield


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """A cache directory of this test alone, not made yet, and a process that has not warned about any."""
    monkeypatch.setenv("CONVOPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", False)
    monkeypatch.setattr(cache, "_stores", {})
    cache._generation += 1
    yield tmp_path / "cache"
    for store in cache._stores.values():
        store.close()
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
