"""Steps of a training are recorded while other threads, and callers' graphs, use the GPU as well."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from problems import pair
from tolerances import assert_same

import mlpfast
from mlpfast import SGD, Trainer


@pytest.fixture
def fits(cuda, rng):
    """On a GPU and on the CPU: trainings long enough to be recorded."""
    models = pair((5, 6, 2))
    given = dict(x=rng.random((90, 5), np.float32), y=rng.integers(0, 2, 90), epochs=4, batch_size=20)
    yield [lambda m=m: Trainer(m, SGD(0.1, momentum=0.9)).fit(**given) for m in models]
    assert_same(*(m.parameters for m in models))


def test_a_recording_that_is_spoilt(fits, monkeypatch):
    """Its steps are asked for one by one."""
    monkeypatch.setenv("SHIM_SPOILT", "1")
    for fit in fits:
        fit()


def test_waiting_for_the_gpu_while_another_thread_trains(fits, monkeypatch):
    monkeypatch.setenv("SHIM_RECORDING", "20000")
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(fits[0])
        while not training.done():
            mlpfast.cuda.synchronize()
        training.result()
    fits[1]()


def test_training_while_a_caller_records(fits, monkeypatch):
    """A graph, on a stream of theirs."""
    monkeypatch.setenv("SHIM_CAPTURING", "5")
    for fit in fits:
        fit()
