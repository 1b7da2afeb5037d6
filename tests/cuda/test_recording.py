"""Steps of a training are recorded, and asked for again as one."""

import numpy as np
import pytest
from problems import pair
from tolerances import assert_same

from mlpfast import MLP, SGD, DeviceError, Trainer


@pytest.fixture
def fits(cuda, rng):
    """On a GPU and on the CPU: trainings long enough to be recorded."""
    models = pair((5, 6, 2))
    given = dict(x=rng.random((90, 5), np.float32), y=rng.integers(0, 2, 90), epochs=4, batch_size=20)
    yield [lambda m=m: Trainer(m, SGD(0.1, momentum=0.9)).fit(**given) for m in models]
    assert_same(*(m.parameters for m in models))


def test_without_room_for_a_recording(fits, monkeypatch):
    """Its steps are asked for one by one."""
    monkeypatch.setenv("SHIM_NO_GRAPH", "2")
    monkeypatch.setenv("SHIM_NO_LAUNCH", "2")
    for fit in fits:
        fit()


def test_a_recording_that_fails(cuda, rng, monkeypatch):
    if cuda != "shim":
        pytest.skip("for the GPU that the CPU plays")
    monkeypatch.setenv("SHIM_NO_LAUNCH", "2")
    trainer = Trainer(MLP((5, 6, 2), device="cuda"), SGD(0.1))
    with pytest.raises(DeviceError, match="a recorded call failed"):
        trainer.fit(rng.random((90, 5), np.float32), rng.integers(0, 2, 90), epochs=4, batch_size=20)


def test_training_while_a_caller_records(fits, monkeypatch):
    """A graph, on a stream of theirs."""
    monkeypatch.setenv("SHIM_CAPTURING", "5")
    for fit in fits:
        fit()
