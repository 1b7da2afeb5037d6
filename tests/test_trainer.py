"""Trainer.fit: what it records, how it goes on and stops."""

import copy
import gc
import pickle
import threading

import numpy as np
import pytest
from problems import Problem, state, trained
from tolerances import assert_same

import mlpfast
from mlpfast import MLP, SGD, DivergenceError, History, Trainer

MOMENTUM = dict(momentum=0.9, weight_decay=0.01)
PROBLEM = Problem((9, 16, 4), 53, 8, sgd=MOMENTUM)
COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda t: pickle.loads(pickle.dumps(t))}


def test_an_optimizer_of_another_dtype(rng):
    data, trainer = PROBLEM.data(rng), PROBLEM.trainer()
    trainer.fit(*data, epochs=1, batch_size=8)
    unowned = pickle.loads(pickle.dumps(trainer.optimizer))
    for optimizer in (trainer.optimizer, unowned):
        with pytest.raises(ValueError, match="new optimizer"):
            Trainer(MLP(PROBLEM.sizes, dtype="float64"), optimizer).fit(*data, epochs=1, batch_size=8)


def test_an_optimizer_of_a_model_that_is_gone(rng):
    """The same as of one that lives; it starts anew where its velocity is taken away."""
    data, first = PROBLEM.data(rng), PROBLEM.trainer()
    first.fit(*data, epochs=1, batch_size=8)
    second, optimizer = PROBLEM.trainer(), first.optimizer
    second.optimizer = optimizer
    del first
    gc.collect()
    with pytest.raises(ValueError, match="new optimizer"):
        second.fit(*data, epochs=1, batch_size=8)
    optimizer.velocity = None
    second.fit(*data, epochs=1, batch_size=8)
    assert_same(state(second), trained(PROBLEM, data)[:-1])


def test_a_copied_optimizer_has_a_velocity_of_its_own(rng):
    data, first = PROBLEM.data(rng), PROBLEM.trainer()
    first.fit(*data, epochs=1, batch_size=8)
    for duplicate in (copy.copy(first.optimizer), copy.deepcopy(first.optimizer)):
        assert_same([duplicate.velocity], [first.optimizer.velocity])
        assert not np.shares_memory(duplicate.velocity, first.optimizer.velocity)


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copied_trainer_counts_for_itself(duplicate, rng):
    """From where the first one was, within an epoch."""
    (x, y), first = PROBLEM.data(rng), PROBLEM.trainer()
    spoiled = x.copy()
    spoiled[29] = np.nan
    with pytest.raises(DivergenceError):
        first.fit(spoiled, y, epochs=1, batch_size=8, shuffle=False)
    second = duplicate(first)
    second.fit(x, y, epochs=1, batch_size=8, shuffle=False)
    assert (first.epoch, first.position, second.epoch, second.position) == (0, 24, 1, 0)
    assert_same(state(second), trained(PROBLEM, (x, y), shuffle=False)[:-1])


def test_weights_of_any_dtype(dtype, rng):
    problem = PROBLEM.of(dtype)
    data, weights = problem.data(rng), np.arange(53) % 3
    want = problem.trainer()
    want.fit(*data, epochs=1, batch_size=8, sample_weight=weights)
    for kind in ("f2", "f4", "f8", "g", "u1"):
        got = problem.trainer()
        got.fit(*data, epochs=1, batch_size=8, sample_weight=weights.astype(kind))
        assert_same(got.model.parameters, want.model.parameters)


def test_another_model_while_one_is_trained(rng):
    trainer = PROBLEM.trainer()

    def replace(trainer, record):
        trainer.model = MLP([9, 2])

    with pytest.raises(ValueError, match=r"trainer\.model was replaced"):
        trainer.fit(*PROBLEM.data(rng), epochs=2, batch_size=8, callbacks=[replace])


def test_another_optimizer_while_it_is_trained(rng):
    """Or none: it is checked before each epoch."""
    trainer = PROBLEM.trainer()

    def replace(trainer, record):
        trainer.optimizer = None

    with pytest.raises(TypeError, match="Trainer: optimizer is a NoneType, expected SGD"):
        trainer.fit(*PROBLEM.data(rng), epochs=2, batch_size=8, callbacks=[replace])


def test_another_precision_while_it_is_trained(tiles, rng):
    """Counts from the next call of fit on."""
    problem = Problem((64, 130, 128), 256, 256)
    data, trainer = problem.data(rng), problem.trainer()

    def change(trainer, record):
        trainer.model.precision = "medium"

    trainer.model.precision = "ieee"
    trainer.fit(*data, epochs=2, batch_size=256, callbacks=[change])
    want = problem.trainer()
    want.model.precision = "ieee"
    want.fit(*data, epochs=2, batch_size=256)
    assert_same(trainer.model.parameters, want.model.parameters)


def test_how_gradients_are_applied_does_not_change_while_it_is_trained(rng):
    data, trainer = PROBLEM.data(rng), PROBLEM.trainer()

    def change(trainer, record):
        trainer.fused = not trainer.fused

    trainer.fit(*data, epochs=3, batch_size=8, callbacks=[change])
    assert_same(state(trainer), trained(PROBLEM, data, epochs=3)[:-1])


def test_history(rng):
    x, y = PROBLEM.data(rng)
    history = PROBLEM.trainer().fit(x, y, epochs=3, batch_size=8)
    assert isinstance(history, History) and [r["epoch"] for r in history.epochs] == [1, 2, 3]
    for record in history.epochs:
        assert set(record) == {"epoch", "train_loss", "train_accuracy", "seconds"}
        assert record["seconds"] > 0
    trainer = PROBLEM.trainer()
    record = trainer.fit(x, y, epochs=1, batch_size=8, validation_data=(x[:20], y[:20])).epochs[0]
    judged = trainer.model.evaluate(x[:20], y[:20])
    assert (record["val_loss"], record["val_accuracy"]) == (judged["loss"], judged["accuracy"])


@pytest.mark.parametrize("batch", [1, 8, 53])
def test_train_metrics_are_those_of_evaluate(batch, rng):
    """Without learning, an epoch is an evaluation."""
    problem = Problem((9, 16, 4), 53, batch, lr=0.0)
    x, y = problem.data(rng)
    record = problem.trainer().fit(x, y, epochs=1, batch_size=batch).epochs[0]
    judged = problem.trainer().model.evaluate(x, y)
    assert record["train_accuracy"] == judged["accuracy"]
    assert record["train_loss"] == pytest.approx(judged["loss"], rel=1e-6)


@pytest.mark.parametrize("weights", [dict(sample_weight=[0.0] * 53), dict(class_weight=[0] * 4)], ids=str)
def test_no_weight_at_all_changes_nothing(weights, rng):
    problem = Problem((9, 16, 4), 53, 8)
    *parameters, record = trained(problem, problem.data(rng), **weights)
    assert_same(parameters, problem.trainer().model.parameters)
    assert record[0][1] == 0.0


@pytest.mark.parametrize("fused", [True, False])
def test_a_second_fit_continues(fused, rng):
    data, trainer = PROBLEM.data(rng), PROBLEM.trainer(fused)
    first = trainer.fit(*data, epochs=2, batch_size=8).epochs
    last = trainer.fit(*data, epochs=3, batch_size=8).epochs
    assert [r["epoch"] for r in first + last] == [1, 2, 3, 4, 5] and trainer.epoch == 5
    assert_same(state(trainer), trained(PROBLEM, data, epochs=5)[:-1])


def test_callbacks_see_each_epoch_and_any_may_stop(rng):
    seen, data, trainer = [], PROBLEM.data(rng), PROBLEM.trainer()

    def watch(its_trainer, record):
        assert its_trainer is trainer
        seen.append(dict(record))

    callbacks = (
        c for c in (watch, lambda _, record: record["epoch"] == 3, watch)
    )  # read once, used each epoch
    history = trainer.fit(*data, epochs=9, batch_size=8, callbacks=callbacks)
    assert len(history.epochs) == trainer.epoch == 3
    assert seen == [r for r in history.epochs for _ in range(2)]


@pytest.mark.parametrize("result", [1, 0.0, "stop", [], np.zeros(2)], ids=str)
def test_a_callback_returns_true_false_or_nothing(result, rng):
    data, trainer = PROBLEM.data(rng), PROBLEM.trainer()

    def wrong(*_):
        return result

    with pytest.raises(TypeError, match=r"fit: the result of the callback <function .*wrong.*True"):
        trainer.fit(*data, epochs=2, batch_size=8, callbacks=[wrong])
    history = trainer.fit(*data, epochs=2, batch_size=8, callbacks=[lambda *_: np.True_])
    assert len(history.epochs) == 1 and trainer.epoch == 2


def test_an_exception_in_a_callback_leaves_model_and_history(rng):
    data, trainer = PROBLEM.data(rng), PROBLEM.trainer()
    with pytest.raises(KeyError):
        trainer.fit(*data, epochs=2, batch_size=8, callbacks=[lambda _, record: record["nothing"]])
    assert [r["epoch"] for r in trainer.history.epochs] == [1]
    trainer.fit(*data, epochs=1, batch_size=8)
    assert_same(state(trainer), trained(PROBLEM, data, epochs=2)[:-1])


@pytest.mark.parametrize("function", ["train", "evaluate"])
def test_an_interruption_after_an_epochs_last_step_loses_no_record(function, rng, monkeypatch):
    (x, y), trainer, native = PROBLEM.data(rng), PROBLEM.trainer(), getattr(mlpfast._cpu, function)
    how = dict(batch_size=8, validation_data=(x, y))
    want = PROBLEM.trainer().fit(x, y, epochs=3, **how).epochs
    monkeypatch.setattr(mlpfast.trainer, "SECONDS_PER_CALL", 9)  # a call is an epoch

    def interrupted(*arguments):
        result = native(*arguments)
        if trainer.epoch == 1:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mlpfast._cpu, function, interrupted)
        trainer.fit(x, y, epochs=3, **how)
    records = trainer.history.epochs
    assert (trainer.epoch, trainer.position, len(records)) == (1, 53, 1)
    records = [*records, *trainer.fit(x, y, epochs=2, **how).epochs]
    for got, expected in zip(records, want, strict=True):
        assert {**got, "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_data_stop_before_their_step(fused, value, rng):
    """Row 29 is in the fourth batch of 8."""
    (x, y), trainer, whole = PROBLEM.data(rng), PROBLEM.trainer(fused), PROBLEM.trainer(fused)
    order = dict(batch_size=8, shuffle=False)
    for t in (trainer, whole):
        t.fit(x, y, epochs=1, **order)
    whole.fit(x[:24], y[:24], epochs=1, **order)
    spoiled = x.copy()
    spoiled[29] = value
    with pytest.raises(DivergenceError, match="epoch 2, step 4"):
        trainer.fit(spoiled, y, epochs=1, **order)
    assert_same(state(trainer), state(whole))
    record = trainer.fit(x, y, epochs=1, **order).epochs[0]  # continues at that batch
    whole.fit(x[24:], y[24:], epochs=1, **order)
    assert_same(state(trainer), state(whole))
    undisturbed = PROBLEM.trainer(fused).fit(x, y, epochs=2, **order).epochs[1]
    assert {**record, "seconds": 0} == {**undisturbed, "seconds": 0}


def test_another_order_of_rows_begins_the_epoch_again(rng):
    """The last batch of 5 rows diverges, and is then left out: not the order that was begun."""
    (x, y), trainer, whole = PROBLEM.data(rng), PROBLEM.trainer(), PROBLEM.trainer()
    x[50] = np.nan
    with pytest.raises(DivergenceError, match="step 7"):
        trainer.fit(x, y, epochs=1, batch_size=8, shuffle=False)
    record = trainer.fit(x, y, epochs=1, batch_size=8, shuffle=False, drop_last=True).epochs[0]
    whole.fit(x[:48], y[:48], epochs=2, batch_size=8, shuffle=False)
    assert record["epoch"] == 1 and np.isfinite(record["train_loss"])
    assert_same(trainer.model.parameters, whole.model.parameters)


def test_a_huge_learning_rate_diverges(rng):
    problem = Problem((9, 16, 4), 53, 8, lr=1e30)
    with pytest.raises(DivergenceError, match=r"epoch 1, step [2-7]"):
        trained(problem, problem.data(rng), epochs=5)


def test_a_batch_beyond_any_memory(rng):
    model, rows = MLP([1, 2**20, 2], seed=0), 2**24
    before = [p.copy() for p in model.parameters]
    x, y = (np.broadcast_to(np.uint8(0), shape) for shape in [(rows, 1), (rows,)])
    with pytest.raises(MemoryError, match=f"batch of {rows} rows takes .* bytes.* fewer rows"):
        Trainer(model, SGD(0.1)).fit(x, y, epochs=1, batch_size=rows)
    assert_same(model.parameters, before)


def test_a_busy_model_refuses(rng):
    data, trainer = PROBLEM.data(rng), PROBLEM.trainer()
    entered, leave = threading.Event(), threading.Event()

    def wait(*_):
        entered.set()
        leave.wait(20)

    other = threading.Thread(
        target=trainer.fit, args=data, kwargs=dict(epochs=1, batch_size=8, callbacks=[wait])
    )
    other.start()
    assert entered.wait(20)
    try:
        for another in (trainer, Trainer(trainer.model, SGD(0.1))):
            with pytest.raises(RuntimeError, match="copy"):
                another.fit(*data, epochs=1, batch_size=8)
        assert trainer.model.predict(data[0]).shape == (53,)
    finally:
        leave.set()
        other.join()
    trainer.fit(*data, epochs=1, batch_size=8)
    assert_same(state(trainer), trained(PROBLEM, data, epochs=2)[:-1])


def test_shapes_and_dtypes_of_examples_are_free(rng):
    x, y = PROBLEM.data(rng)
    want = trained(PROBLEM, (x, y))
    for labels in (y.tolist(), y.astype(np.uint8), y.astype(">i2"), np.repeat(y, 2)[::2]):
        assert_same(trained(PROBLEM, (x.reshape(53, 3, 3), labels)), want)
