"""A native call on a GPU is a whole epoch; signals end it between two steps."""

import os
import signal

import numpy as np
import pytest
from tolerances import same_bits

from mlpfast import MLP, SGD, Trainer


@pytest.fixture
def learner(cuda, rng, monkeypatch):
    """A trainer, and the arguments of its fit; it looks for signals after each step."""
    monkeypatch.setattr("mlpfast.trainer.SECONDS_PER_CALL", 0.0)
    x, y = rng.random((200, 5), np.float32), rng.integers(0, 3, 200)
    return lambda device: Trainer(
        MLP((5, 6, 3), precision="ieee", seed=1, device=device), SGD(0.1, momentum=0.9)
    ), dict(x=x, y=y, batch_size=1)


def test_an_epoch_is_one_call(learner, monkeypatch):
    make, how = learner
    trainer, calls = make("cuda"), []
    train = trainer.model._native.train
    monkeypatch.setattr(trainer.model._native, "train", lambda *args: calls.append(args) or train(*args))
    trainer.fit(**how, epochs=3)
    assert len(calls) == 3 and trainer.epoch == 3


@pytest.mark.parametrize("fed", [False, True])
def test_interrupts(fed, learner, limit_memory, monkeypatch):
    """Training goes on from there, to the same bits; what else a handler does is nothing to it."""
    monkeypatch.setenv("SHIM_DEVICE", "0")
    if fed:
        limit_memory(7000)  # half of it does not hold the examples
    make, how = learner
    trainer, places = make("cuda"), []

    def handle(number, frame):
        os.environ["SHIM_DEVICE"] = "1"
        places.append(trainer.position)
        assert np.isfinite(trainer.model.forward(how["x"][:1])).all()
        if len(places) % 2 == 0:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handle)
    try:
        for _ in range(3):
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            with pytest.raises(KeyboardInterrupt):
                trainer.fit(**how, epochs=10**6)
            places.append(trainer.position)
            places.append(trainer.position)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert any(places)
    other = make("cpu")
    trainer.fit(**how, epochs=2)
    other.fit(**how, epochs=trainer.epoch)
    assert all(map(same_bits, trainer.model.parameters, other.model.parameters))
