"""Threads of native calls: shared by Python threads, made anew in forked children, more than the CPUs.

Each case in a process of its own, at two threads; whatever happens, the bits are those of one thread.
"""

import pytest
from processes import SANITIZED, output_of

HEAD = """if True:
    import functools, multiprocessing, os, resource, signal, sys, threading
    from concurrent.futures import ThreadPoolExecutor
    import numpy as np
    import mlpfast
    from mlpfast import kernels
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2000, 100), np.float32), rng.integers(0, 10, 2000)
    a, b = rng.standard_normal((150, 200), np.float32), rng.standard_normal((200, 130), np.float32)
    shared = mlpfast.MLP([100, 64, 10])
    def new():
        return mlpfast.Trainer(mlpfast.MLP([100, 64, 10]), mlpfast.SGD(0.01, momentum=0.9))
    def bits():
        trainer = new()
        trainer.fit(x, y, epochs=1, batch_size=500)
        results = *trainer.model.parameters, shared.forward(x), kernels.gemm(a, b), kernels.softmax(x)
        return [array.tobytes() for array in results]
    def team():
        return len(os.listdir("/proc/self/task"))
    mlpfast.set_num_threads(1)
    serial, alone = bits(), team()
    mlpfast.set_num_threads(2)
"""
CASES = {
    "rounding modes, set before workers are hired or after": """
    import ctypes, platform
    set_mode = ctypes.CDLL("libm.so.6").fesetround
    upward = 0x800 if platform.machine() == "x86_64" else 0x400000
    def product(threads, mode):
        mlpfast.set_num_threads(threads)
        set_mode(mode)
        result = kernels.gemm(a, b, precision="ieee").tobytes()
        set_mode(0)
        return result
    assert product(2, upward) == product(1, upward) != product(1, 0) == product(2, 0)
    assert product(2, upward) == product(1, upward)
""",
    "a hundred forked children": """
    assert bits() == serial
    for _ in range(100):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            mine = bits()
            os._exit(0 if mine == serial and team() == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bits() == serial and team() == alone + 1
""",
    "a forked child's child, while a thread trains": """
    trainer = new()
    train = functools.partial(trainer.fit, x, y, epochs=10**6, batch_size=500)
    threading.Thread(target=train, daemon=True).start()
    def descend(depth):
        child = os.fork() if depth else 0
        if child == 0:
            signal.alarm(20)
            assert bits() == serial
            if depth:
                descend(depth - 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for _ in range(10):
        descend(2)
    os._exit(0)
""",
    "other ways to make children": """
    assert bits() == serial
    want = new().fit(x, y, epochs=2, batch_size=500).epochs
    for way in "fork", "forkserver", "spawn":
        with multiprocessing.get_context(way).Pool(2) as pool:
            fit = functools.partial(new().fit, x, y, epochs=2, batch_size=500)
            histories = [pool.apply_async(fit) for _ in range(4)]
            outputs = pool.apply_async(shared.forward, [x]).get(50)
            assert outputs.tobytes() == serial[-3], way
            for history in histories:
                for record, wanted in zip(history.get(50).epochs, want, strict=True):
                    assert record["train_loss"] == wanted["train_loss"], way
""",
    "many of Python's threads": """
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: bits(), range(100)):
            assert result == serial
""",
    "a call while the team is busy": """
    trainer, stop = new(), threading.Event()
    how = dict(epochs=10**6, batch_size=500, callbacks=[lambda *_: stop.is_set()])
    thread = threading.Thread(target=trainer.fit, args=(x, y), kwargs=how)
    thread.start()
    for _ in range(50):
        assert bits() == serial
    assert team() == alone + 2  # that thread, and one member of the only team
    stop.set()
    thread.join()
""",
    "more threads than CPUs": """
    mlpfast.set_num_threads(8)
    assert bits() == serial and team() == alone + 7
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for task in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(task), os.sched_getaffinity(0))
    for _ in range(5):
        assert bits() == serial
""",
    "threads that the system refuses": """
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (6 << 20), most[1]))  # a stack takes 8 MB
    few, refused = bits(), team()
    resource.setrlimit(resource.RLIMIT_AS, most)
    assert few == serial and refused == alone
    assert bits() == serial and team() == alone + 1
""",
    "signals, which go to the program's own threads": """
    assert bits() == serial
    for task in set(os.listdir("/proc/self/task")) - {str(os.getpid())}:
        with open(f"/proc/self/task/{task}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        blocked = int(status["SigBlk"], 16)
        assert blocked >> signal.SIGINT - 1 & 1 and not blocked >> signal.SIGSEGV - 1 & 1
""",
}
HOW = dict(timeout=200, OPENBLAS_NUM_THREADS="1")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_process(name):
    if SANITIZED and "refuses" in name:
        pytest.skip("the sanitizer needs more address space than that")
    output_of(HEAD + CASES[name], **HOW)


def test_threadpoolctl():
    """Its limits hold for the thread that sets them, and end with their block."""
    pytest.importorskip("threadpoolctl")
    code = """if True:
        import mlpfast, threadpoolctl
        before = mlpfast.get_num_threads()
        assert any("libgomp" in library["filepath"] for library in threadpoolctl.threadpool_info())
        with threadpoolctl.threadpool_limits(1):
            assert mlpfast.get_num_threads() == 1
            with mlpfast.threads(3):
                assert mlpfast.get_num_threads() == 3
        assert mlpfast.get_num_threads() == before
    """
    output_of(code, **HOW)
