"""What once crashed, hung or locked up a process. Each in a process of its own; it must end well."""

import pytest
from processes import SANITIZED, output_of

HEAD = """if True:
    import os, signal, sys, threading, time
    import numpy as np
    import mlpfast
    from mlpfast import kernels as k
    def raises(kind, call):
        try:
            call()
        except kind as error:
            return str(error)
        raise AssertionError(f"no {kind}")
"""
CASES = {
    "a small stack": """
    threading.stack_size(256 * 1024)
    done = []
    a = np.ones((200, 200), np.float32)
    thread = threading.Thread(target=lambda: done.append(k.gemm(a, a, transpose_b=True)[0, 0]))
    thread.start()
    thread.join()
    assert done == [200]
""",
    "a daemon thread in native code at exit": """
    x, y = np.ones((4000, 500), np.float32), np.zeros(4000, int)
    trainer = mlpfast.Trainer(mlpfast.MLP([500, 300, 10]), mlpfast.SGD(1e-3))
    work = lambda: trainer.fit(x, y, epochs=10**6, batch_size=1000)
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.5)
""",
    "an input that changes shape while another is converted": """
    logits = np.zeros((100000, 2), np.float32)
    class Labels:
        def __array__(self, dtype=None, copy=None):
            logits.resize((1, 200000), refcheck=False)
            return np.zeros(100000, int)
    assert k.softmax_cross_entropy(logits, Labels())[1].shape == (100000, 2)
""",
    "labels that change their size while ignore_index is read": """
    labels = np.zeros(3_000_000, int)
    class Ignored:
        def __index__(self):
            labels.resize(1, refcheck=False)
            return -100
    logits = np.zeros((3_000_000, 2), np.float32)
    call = lambda: k.softmax_cross_entropy(logits, labels, ignore_index=Ignored())
    assert "labels has shape (1,)" in raises(ValueError, call)
""",
    "an error of the user's own": """
    class Stop:
        def __array__(self, dtype=None, copy=None):
            raise KeyboardInterrupt
    raises(KeyboardInterrupt, lambda: k.relu(Stop()))
    raises(KeyboardInterrupt, lambda: k.softmax_cross_entropy(np.zeros((1, 2), np.float32), Stop()))
""",
    "Ctrl-C while the model is being taken": """
    inside = False
    def interrupt(*_):
        global inside
        if inside:
            inside = False
            raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    x, y = np.ones((4, 2), np.float32), np.zeros(4, int)
    trainer = mlpfast.Trainer(mlpfast.MLP([2, 2]), mlpfast.SGD(1e-3))
    rng, end = np.random.default_rng(0), time.monotonic() + 3
    while time.monotonic() < end:
        try:
            inside = True
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(5e-6, 9e-5))
            trainer.fit(x, y, epochs=1, batch_size=4)
            inside = False
        except KeyboardInterrupt:
            pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    trainer.fit(x, y, epochs=1, batch_size=4)
""",
    "a pipe in a model file's place": """
    os.mkfifo("pipe")
    raises(mlpfast.CheckpointError, lambda: mlpfast.MLP.load("pipe"))
""",
    "a child of a parent that is training": """
    x, y = np.ones((4000, 100), np.float32), np.zeros(4000, int)
    model = mlpfast.MLP([100, 50, 10])
    def work(epochs):
        mlpfast.Trainer(model, mlpfast.SGD(1e-3)).fit(x, y, epochs=epochs, batch_size=100)
    threading.Thread(target=work, args=[10**6], daemon=True).start()
    time.sleep(0.3)
    assert "already" in raises(RuntimeError, lambda: work(1))
    child = os.fork()
    if child == 0:
        work(1)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    os._exit(0)
""",
    "a gradient that makes the weights bytes while it is converted": """
    w = np.zeros(4, np.float32)
    class Gradient:
        def __array__(self, dtype=None, copy=None):
            w.dtype = np.int8
            return np.zeros(16, np.float32)
    raises(TypeError, lambda: k.sgd_step(w, Gradient(), lr=1.0))
""",
    "no memory for products, or for those of other threads": """
    import resource
    def limit(more):
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        most = used + more if more else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    mlpfast.set_num_threads(2)
    a, out = np.ones((300, 300), np.float32), np.empty((300, 300), np.float32)
    limit(1 << 20)
    raises(MemoryError, lambda: k.gemm(a, a, out=out))
    for more in (5 << 20, 0):
        limit(more)
        assert (k.gemm(a, a, out=out) == 300).all()
""",
    "weights at the ends of their range": """
    for kind, most in ((np.float32, 2.0**100), (np.float64, 2.0**800)):
        for weight in (np.finfo(kind).tiny, most):
            for name in ("class_weight", "sample_weight"):
                weights = {name: np.full(2, weight, kind)}
                loss, d_logits = k.softmax_cross_entropy(np.zeros((2, 2), kind), [0, 1], **weights)
                assert np.allclose(loss, np.log(2)) and np.allclose(d_logits, [[-0.25, 0.25], [0.25, -0.25]])
                model = mlpfast.MLP([2, 2], dtype=np.dtype(kind).name)
                fit = mlpfast.Trainer(model, mlpfast.SGD(0.1)).fit
                record = fit(np.eye(2), [0, 1], epochs=9, batch_size=1, **weights).epochs[-1]
                assert 0 < record["train_loss"] < 10 and np.isfinite(model.parameters[0]).all()
""",
}


@pytest.mark.parametrize("name", CASES)
def test_process_survives(name, tmp_path):
    if SANITIZED and name.startswith("no memory"):
        pytest.skip("AddressSanitizer does not bear such a limit")
    output_of(HEAD + CASES[name], cwd=tmp_path)
