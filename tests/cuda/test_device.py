"""Where no GPU can be used: what is said, and that nothing else changes."""

import pickle
import sys

import numpy as np
import pytest
from processes import output_of

import mlpfast
from mlpfast import MLP, SGD, DeviceError, Trainer

STATES = {
    "no NVIDIA driver is installed": dict(SHIM_STATUS=35, SHIM_DRIVER=0),
    "driver, which supports CUDA 12.4, is too old for mlpfast, built with CUDA 13.0; update": dict(
        SHIM_STATUS=35, SHIM_DRIVER=12040
    ),
    "no NVIDIA GPU is visible; is CUDA_VISIBLE_DEVICES set": dict(SHIM_STATUS=100),
    "compute capability 10.3; reinstall it with MLPFAST_CUDA_ARCHS=103": dict(
        SHIM_KERNELS=98, SHIM_CAPABILITY=103
    ),
    "compute capability 6.1, mlpfast needs 7.5 or newer": dict(SHIM_KERNELS=209, SHIM_CAPABILITY=61),
    "driver, which supports CUDA 13.0, is too old for mlpfast, built with CUDA 13.0; update": dict(
        SHIM_KERNELS=222
    ),
    "CUDA does not start: .*; see whether nvidia-smi works": dict(SHIM_STATUS=802),
}


@pytest.fixture
def shimmed(shim, monkeypatch):
    """set(NAME=value, ...) makes the GPU that the CPU plays fail."""
    monkeypatch.setitem(sys.modules, "mlpfast._cuda", shim)
    return lambda **state: [monkeypatch.setenv(name, str(value)) for name, value in state.items()]


@pytest.mark.parametrize(("text", "state"), STATES.items(), ids=STATES)
def test_the_reason_is_given(text, state, shimmed):
    assert mlpfast.cuda.is_available()
    mlpfast.cuda.synchronize()
    shimmed(**state, SHIM_DEVICE=7)  # another device: what was found fit once is not asked again
    assert not mlpfast.cuda.is_available()
    for use in (mlpfast.cuda.synchronize, lambda: MLP([3, 2], device="cuda")):
        with pytest.raises(DeviceError, match=text):
            use()


def test_a_gpu_that_was_lost_meanwhile(shimmed):
    model = MLP([3, 2], device="cuda")
    shimmed(SHIM_STATUS=100)
    with pytest.raises(DeviceError, match="no NVIDIA GPU"):
        model.forward(np.ones((1, 3)))


def test_out_of_memory(shimmed):
    model = MLP([3, 2], device="cuda")
    shimmed(SHIM_MEMORY=1000)
    with pytest.raises(DeviceError, match=r"no \d+ bytes of memory left: 1000 of 1000 are free"):
        model.forward(np.ones((100, 3)))
    shimmed(SHIM_MEMORY=10**6)
    assert model.forward(np.ones((100, 3))).shape == (100, 2)


def test_wrong_devices():
    with pytest.raises(ValueError, match="unknown device 'tpu'; known are cpu, cuda"):
        MLP([3, 2], device="tpu")
    with pytest.raises(DeviceError, match="float32, dtype is 'float64'"):
        MLP([3, 2], device="cuda", dtype="float64")


def test_an_extension_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlpfast._cuda", None)
    assert not mlpfast.cuda.is_available()
    with pytest.raises(DeviceError, match=r"cannot be loaded|built without CUDA"):
        MLP([3, 2], device="cuda")


def test_a_callback_that_changes_the_device(shimmed):
    """Training goes on where it began, and leaves the change."""
    x, y = np.ones((40, 3), np.float32), np.zeros(40, int)
    models = [MLP([3, 2], seed=1, device="cuda") for _ in range(2)]

    def change(trainer, record):
        shimmed(SHIM_DEVICE=1)

    for model, callbacks in zip(models, ([], [change]), strict=True):
        Trainer(model, SGD(0.1)).fit(x, y, epochs=3, batch_size=8, callbacks=callbacks)
    assert all(map(np.array_equal, *(m.parameters for m in models)))
    assert mlpfast.cuda.from_numpy([1.0]).device == 1


def test_files_know_no_device(shimmed, tmp_path):
    """A model trained on a GPU is read on any machine; copies stay where they are."""
    model = MLP([3, 2], device="cuda")
    assert model.copy().device == pickle.loads(pickle.dumps(model)).device == "cuda"
    model.save(tmp_path / "model.safetensors")
    assert MLP.load(tmp_path / "model.safetensors").device == "cpu"
    assert MLP.load(tmp_path / "model.safetensors", device="cuda").device == "cuda"
    with pytest.raises(ValueError, match="unknown device 'tpu'"):
        MLP.load(tmp_path / "model.safetensors", device="tpu")


def test_forked_children_are_told(shim_path):
    """The GPU of a parent is none of theirs."""
    code = f"""if True:
        import importlib.util, os, sys
        import numpy as np
        spec = importlib.util.spec_from_file_location("shim._cuda", {str(shim_path)!r})
        sys.modules["mlpfast._cuda"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        import mlpfast
        model = mlpfast.MLP([3, 2], device="cuda")
        if os.fork() == 0:
            try:
                model.forward(np.ones((1, 3)))
            except mlpfast.DeviceError as error:
                os._exit("forked" not in str(error))
            os._exit(2)
        assert os.wait()[1] == 0
        model.forward(np.ones((1, 3)))
    """
    output_of(code)
