"""The choice of instruction set: set_isa, MLPFAST_ISA, and what either refuses."""

import pytest
from processes import python
from tolerances import VECTOR_ISAS

from mlpfast import _cpu

ISAS = [name for name, _ in _cpu.available_isas()]


def isa_of_a_new_process(**environment):
    code = "from mlpfast import _cpu; print(_cpu.isa())"
    return python("-c", code, without=["MLPFAST_ISA"], **environment)


def test_the_list():
    assert "scalar" in ISAS
    assert len(set(ISAS)) == len(ISAS)


def test_set_isa(isa):
    assert _cpu.isa() == _cpu.vectors() == isa


def test_tiles_borrow_the_best_vectors(tiles):
    assert _cpu.isa() == tiles
    assert _cpu.vectors() == VECTOR_ISAS[-1]


def test_the_best_is_the_default():
    assert isa_of_a_new_process().stdout.strip() == ISAS[-1]


@pytest.mark.parametrize("name", ISAS)
def test_environment_variable(name):
    assert isa_of_a_new_process(MLPFAST_ISA=name).stdout.strip() == name


def test_unknown_names_are_refused_with_the_list():
    before = _cpu.isa()
    with pytest.raises(ValueError, match=r"avx9000.*scalar"):
        _cpu.set_isa("avx9000")
    assert _cpu.isa() == before
    refused = isa_of_a_new_process(MLPFAST_ISA="avx9000")
    assert refused.returncode != 0
    assert "MLPFAST_ISA" in refused.stderr and "scalar" in refused.stderr
