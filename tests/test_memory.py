"""Kernels and networks touch no byte that is not theirs (guarded.py), and ten thousand calls keep none."""

import signal
from itertools import product
from pathlib import Path

import pytest
from processes import output_of, python
from tolerances import TILE_ISAS, VECTOR_ISAS

FOLDER = Path(__file__).parent
SLOW = {"scalar", "sse2"}  # each side with one dtype
BESIDE = [
    (isa, side, dtype)
    for isa in VECTOR_ISAS
    for side, dtype in product(("after", "before"), ("float32", "float64"))
    if isa not in SLOW or (side, dtype) in {("after", "float32"), ("before", "float64")}
]
BESIDE += [(isa, side, "float32") for isa, side in product(TILE_ISAS, ("after", "before"))]
BEYOND = """
import sys
folder, side, offset = sys.argv[1:]
sys.path.append(folder)
from guarded import *
array = Guarded(side, 100).hold(np.ones(3, np.float32))
ctypes.memset(array.ctypes.data + int(offset), 0, 1)
"""
# Grown by more than this is a leak: a hundred bytes a call.
LEAKS = """
import resource
import numpy as np
import mlpfast
from mlpfast import kernels as k

x, y = np.ones((20, 5), np.float32), np.arange(20) % 3
w, velocity = np.ones((5, 3), np.float32), np.zeros((5, 3), np.float32)
model = mlpfast.MLP([5, 4, 3])

def fit():
    mlpfast.Trainer(mlpfast.MLP([5, 4, 3]), mlpfast.SGD(0.1, momentum=0.9)).fit(x, y, epochs=2, batch_size=7)

def predict():
    model.predict(x.astype(np.uint8))
    model.predict_proba(x.T.copy().T)
    model.evaluate(x, y)
    model.loss_and_gradients(x, y)

def refused():
    for call in (lambda: k.gemm(x, x), lambda: k.relu(y), lambda: model.predict(w)):
        try:
            call()
        except (TypeError, ValueError):
            pass

def call_kernels():
    h = k.linear(x, w, activation="tanh")
    loss, dy = k.softmax_cross_entropy(h, y, sample_weight=np.ones(20, np.float32))
    k.linear_backward_input(k.activation_backward("tanh", dy, h), w)
    k.sgd_step(w, k.linear_backward_weights(x, dy), lr=1e-3, momentum=0.9, velocity=velocity)
    k.gemm(x[::2], w), k.bias_add(h, k.bias_add_backward(dy)), k.softmax(k.relu(h)), k.relu_backward(dy, h)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def measure(work):
    for _ in range(1000):
        work()
    before = resident()
    for _ in range(10_000):
        work()
    print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("isa_name", "side", "dtype_name"), BESIDE)
def test_arrays_beside_forbidden_pages(isa_name, side, dtype_name):
    done = python(FOLDER / "guarded.py", isa_name, side, dtype_name, timeout=250)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("side", "offset"), [("after", 12), ("before", -1)])
def test_a_step_onto_a_forbidden_page_is_fatal(side, offset):
    assert python("-c", BEYOND, FOLDER, side, offset).returncode in (-signal.SIGSEGV, 1)
    within = python("-c", BEYOND, FOLDER, side, 0)
    assert within.returncode == 0, within.stderr


@pytest.mark.slow
@pytest.mark.parametrize("work", ["fit", "predict", "call_kernels", "refused"])
def test_ten_thousand_calls_leak_nothing(work):
    assert int(output_of(f"{LEAKS}\nmeasure({work})", timeout=250)) <= 1 << 20
