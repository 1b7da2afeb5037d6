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


@pytest.mark.parametrize(
    "sizes",
    [(64, 8192, 10), (300, 40, 50, 10), (5, 3)],
    ids=["tensor cores", "slices", "a layer"],
)
def test_recorded_steps_are_those_of_a_stream(sizes, cuda, rng):
    """At "highest", bit for bit: a fit of a single step never records."""
    rows = 64 if sizes[1] > 1000 else 200
    x, y = rng.random((rows, sizes[0]), np.float32), rng.integers(0, sizes[-1], rows)
    once, again = (MLP(sizes, seed=1, device="cuda") for _ in range(2))
    at_once, one_by_one = (Trainer(m, SGD(0.1, momentum=0.9)) for m in (once, again))
    epochs = 2 if sizes[1] > 1000 else 8
    losses = [e["train_loss"] for e in at_once.fit(x, y, epochs=epochs, batch_size=rows).epochs]
    fits = [one_by_one.fit(x, y, epochs=1, batch_size=rows) for _ in range(epochs)]
    assert losses == [e["train_loss"] for fit in fits for e in fit.epochs]
    assert_same(once.parameters, again.parameters)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("sizes", [(300, 40, 50, 10), (200, 70), (30, 20, 10)], ids=str)
def test_recorded_steps_that_overlap(sizes, fused, weighted, cuda, rng, monkeypatch):
    """Five batches an epoch, the last smaller: one is brought while the weights of another are updated."""
    if cuda != "shim":
        pytest.skip("for the GPU that the CPU plays, whose recordings can fail")
    x, y = rng.random((290, sizes[0]), np.float32), rng.integers(0, sizes[-1], 290)
    weights = dict(sample_weight=rng.random(290), class_weight=rng.random(sizes[-1])) if weighted else {}
    models = [MLP(sizes, seed=1, device="cuda") for _ in range(2)]
    histories = []
    for m in models:
        trainer = Trainer(m, SGD(0.1, momentum=0.9))
        trainer.fused = fused
        histories.append(trainer.fit(x, y, epochs=6, batch_size=64, **weights).epochs)
        monkeypatch.setenv("SHIM_NO_GRAPH", "2")
    assert_same(*(m.parameters for m in models))
    assert [e["train_loss"] for e in histories[0]] == [e["train_loss"] for e in histories[1]]


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
