"""Around training: importing, Ctrl-C, fork, subnormal numbers. Each in a process of its own."""

import signal
import subprocess
import sys
import time

import pytest
from processes import output_of, python

HEAD = """if True:
    import multiprocessing, os, signal, sys
    import numpy as np
    import mlpfast
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4000, 100), np.float32), rng.integers(0, 10, 4000)
    def new():
        return mlpfast.Trainer(mlpfast.MLP([100, 64, 10]), mlpfast.SGD(0.01, momentum=0.9))
"""
ENDLESS = """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # one who works in the background ignores it
    trainer, wide, many = new(), mlpfast.MLP([64, 2048, 2048, 10]), np.zeros((400_000, 64), np.uint8)
    labels = np.zeros(len(many), int)
    print("ready", flush=True)
    try:
        {work}
    except KeyboardInterrupt:
        assert np.isfinite(trainer.model.evaluate(x, y)["loss"])
        trainer.fit(x, y, epochs=1, batch_size=1000)
        print("went on", flush=True)
"""
WORK = {
    "training": "trainer.fit(x, y, epochs=10**9, batch_size=1000)",
    "prediction": "wide.predict(many)",
    "evaluation": "wide.evaluate(many, labels)",
}
# The alarm strikes within native calls; training goes on after each, and ends where an undisturbed one does.
INTERRUPTED = """
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    mlpfast.trainer.SECONDS_PER_CALL = 0.0002  # a fraction of an epoch
    disturbed, whole, struck = new(), new(), []
    for i in range(12):
        signal.setitimer(signal.ITIMER_REAL, 0.011 + 0.003 * i)
        try:
            disturbed.fit(x, y, epochs=10**6, batch_size=16)
        except KeyboardInterrupt:
            struck.append(disturbed.position)
    assert len(struck) == 12 and len(set(struck)) > 1, struck
    mlpfast.trainer.SECONDS_PER_CALL = 9  # an epoch and more: strikes at its end, if not between calls
    while disturbed.position < len(x):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            disturbed.fit(x, y, epochs=10**6, batch_size=16)
        except KeyboardInterrupt:
            pass
    total = disturbed.epoch + 2
    history = disturbed.fit(x, y, epochs=total - disturbed.epoch, batch_size=16)
    assert [record["epoch"] for record in history.epochs] == [total - 1, total]
    whole.fit(x, y, epochs=total, batch_size=16)
    for a, b in zip(disturbed.model.parameters, whole.model.parameters):
        assert np.array_equal(a, b)
"""
FORKED = """
    mlpfast.set_num_threads(2)
    def work(_):
        trainer = new()
        trainer.fit(x, y, epochs=1, batch_size=512)
        return trainer.model.forward(x[:700])
    want = work(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for outputs in pool.map_async(work, range(3)).get(20):
            assert np.array_equal(outputs, want)
    assert np.array_equal(work(0), want)
"""
SUBNORMALS = """
    new().fit(x, y, epochs=1, batch_size=512)
    assert np.float32(1e-40) * np.float32(1) != 0
    assert np.float64(1e-310) * 1.0 != 0
"""
IMPORT = """if True:
    import os, sys, numpy as np
    threads, state = os.listdir("/proc/self/task"), np.random.get_state()[1].copy()
    import mlpfast, mlpfast.cli, mlpfast.callbacks
    assert os.listdir("/proc/self/task") == threads
    assert (np.random.get_state()[1] == state).all()
    assert np.float32(1e-40) * np.float32(1) != 0
    print(*{"matplotlib", "rich", "sklearn", "scipy", "torch"} & set(sys.modules), end="")
"""


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_ctrl_c_is_honoured_within_a_second(work):
    code = HEAD + ENDLESS.format(work=work)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "went on\n"
        assert time.monotonic() - start < 1
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    "code", [INTERRUPTED, FORKED, SUBNORMALS], ids=["interrupted training", "fork", "subnormal numbers"]
)
def test_process(code):
    output_of(HEAD + code)


def test_importing_changes_nothing():
    """No output, no thread, no optional package; subnormal numbers and NumPy's generator are as they were."""
    done = python("-W", "error", "-c", IMPORT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
