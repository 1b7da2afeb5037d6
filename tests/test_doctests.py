"""The examples in docstrings and in README.md run, and give what they show."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import mlpfast

MODULES = sorted(m.name for m in pkgutil.walk_packages(mlpfast.__path__, "mlpfast.") if "_cpu" not in m.name)
README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name.endswith("__main__"):
        pytest.skip("running it starts the command")
    result = doctest.testmod(importlib.import_module(name))
    mlpfast._cpu.set_num_threads(0)
    assert result.failed == 0


def test_readme_python(tmp_path, monkeypatch):
    """The blocks run one after another in one namespace, as a reader would paste them."""
    pytest.importorskip("sklearn", reason="README's example uses scikit-learn's digits")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert len(blocks) == 2
    scope = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["history"].epochs[-1]["val_accuracy"] > 0.93
    assert (tmp_path / "model.safetensors").exists()
