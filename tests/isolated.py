"""Calls as texts, each run in a process of its own: what it raises, and what it changed by then.

As a program: reads one call a line as JSON and answers each with a line of JSON.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path

import layouts
import numpy as np
from numpy import inf, nan  # noqa: F401 for the calls

import mlpfast
from mlpfast import callbacks, kernels

SECONDS, BYTES = 30, 8 << 30  # that a call may use more
X, Y = np.random.default_rng(0).standard_normal((4, 3)), np.array([0, 1, 0, 1])
memory = np.ones(99, np.float32)


def at(array, first):
    """A place for such an array in `memory`."""
    return memory[first : first + array.size].reshape(array.shape)


def wide(*shape, dtype=np.float32):
    """A huge array of one zero."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def empty(*shape):
    return np.empty(shape, np.float32)


def same(a, b):
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def fitted(**options):
    """The weights that a fit makes, as bytes."""
    trainer = mlpfast.Trainer(mlpfast.MLP([3, 4, 2]), mlpfast.SGD(0.1))
    trainer.fit(X, Y, **{"epochs": 2, "batch_size": 2, **options})
    return [p.tobytes() for p in trainer.model.parameters]


def names():
    """What a call may use. Arrays are named by their shape, m = 3, n = 5, k = 4; capitals are written to."""
    rng, size = np.random.default_rng(0), dict(m=3, n=5, k=4)
    arrays = {
        name: rng.uniform(0.1, 1, [size[letter] for letter in name]).astype(np.float32)
        for name in ("m", "n", "mk", "kn", "mn")
    }
    arrays |= {name.upper(): arrays[name] + 1 for name in ("n", "mn", "kn", "mk")}
    arrays |= {"V": arrays["mn"] + 2, "labels": np.array([0, 4, 2])}
    trainer = mlpfast.Trainer(mlpfast.MLP([3, 4, 2]), mlpfast.SGD(0.1, momentum=0.9))
    trainer.fit(X, Y, epochs=1, batch_size=2)
    modules = (kernels, mlpfast, callbacks, layouts, sys.modules[__name__])
    ours = {name: value for module in modules for name, value in vars(module).items()}
    return {**ours, **arrays, "trainer": trainer, "model": trainer.model}


def outcome(call):
    """Names of the exception's classes, its text, what was changed. Then the model can still be trained."""
    given = names()
    trainer, model = given["trainer"], given["model"]
    kept = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
    kept |= {f"parameters[{i}]": p for i, p in enumerate(model.parameters)}
    kept |= {"velocity": trainer.optimizer.velocity, "progress": trainer._progress}
    before, threads = {name: array.copy() for name, array in kept.items()}, mlpfast.get_num_threads()
    classes, text = [], ""
    try:
        exec(call, given)
    except BaseException as error:
        classes, text = [kind.__name__ for kind in type(error).__mro__], str(error)
    changed = [name for name, array in kept.items() if array.tobytes() != before[name].tobytes()]
    changed += ["threads"] if mlpfast.get_num_threads() != threads else []
    mlpfast.Trainer(model, mlpfast.SGD(0.1)).fit(X, Y, epochs=1, batch_size=2)
    return classes, text, changed


def answer(line):
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        limit = BYTES + resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        os.write(1, json.dumps(outcome(json.loads(line))).encode() + b"\n")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        print(json.dumps(([f"the process ended with {code}"], "", [])), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        answer(line)
