"""Fixtures every test may use."""

import pytest

from convopt.kernels import registry


@pytest.fixture(params=["generic", "avx2", "avx512"])
def isa(request):
    """Each instruction set of this machine in turn; planned convolvers use it."""
    before = registry.isa()
    if request.param not in registry.isas():
        pytest.skip(f"this machine does not run {request.param}")
    registry.select(request.param)
    yield request.param
    registry.select(before)
