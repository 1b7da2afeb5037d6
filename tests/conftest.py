"""Fixtures: isa, tiles, dtype, threads, use_isa, rng, torch, data_dir. Those of ISA and threads assert."""

import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.register_assert_rewrite("tolerances", "processes")


def pytest_generate_tests(metafunc):
    """A test with the fixture `isa` runs once on every ISA of this machine that has kernels of its own.

    One with the fixture `tiles` runs on those that multiply tiles, and lend the other kernels.
    """
    from mlpfast import _cpu

    for fixture, wanted in (("isa", True), ("tiles", False)):
        if fixture in metafunc.fixturenames:
            names = [name for name, vectors in _cpu.available_isas() if vectors is wanted]
            metafunc.parametrize(fixture, names, indirect=True)


@contextmanager
def using_isa(name):
    from mlpfast import _cpu

    before = _cpu.isa()
    _cpu.set_isa(name)
    try:
        assert _cpu.isa() == name
        yield name
    finally:
        _cpu.set_isa(before)


@contextmanager
def using_threads(n):
    import mlpfast

    before = mlpfast.get_num_threads()
    with mlpfast.threads(n):
        assert mlpfast.get_num_threads() == n
        yield n
    assert mlpfast.get_num_threads() == before


@pytest.fixture
def isa(request):
    """Name of the ISA whose kernels run in this test."""
    with using_isa(request.param):
        yield request.param


@pytest.fixture
def tiles(request):
    """Name of the ISA whose tiles multiply in this test."""
    with using_isa(request.param):
        yield request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    """A test with this fixture runs once in each dtype that kernels compute in."""
    return request.param


@pytest.fixture
def use_isa():
    """use_isa(name): a context manager, for tests that compare ISAs."""
    return using_isa


@pytest.fixture
def threads():
    """threads(n): a context manager."""
    return using_threads


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed (pip install torch)")


@pytest.fixture(scope="session")
def data_dir():
    """The folder of datasets that MLPFAST_DATA names."""
    folder = os.environ.get("MLPFAST_DATA")
    if not folder:
        pytest.skip("MLPFAST_DATA does not name a folder of datasets")
    return Path(folder)
