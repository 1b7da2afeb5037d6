"""Every kernel and networks on arrays that end where the process has no rights: `guarded.py ISA SIDE DTYPE`.

An array lies against a forbidden page, which follows its last byte (SIDE "after") or precedes its first.
The bytes on its other side and between its rows must keep what they hold. Leaving an array is SIGSEGV.
"""

import ctypes
import faulthandler
import itertools
import mmap
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

import mlpfast
from mlpfast import _cpu, kernels

sys.path.append(str(Path(__file__).parent / "kernels"))
from test_every_op import OPS, inputs, run, shape
from tolerances import same_bits

PAGE, MARGIN, CANARY, NO_RIGHTS = mmap.PAGESIZE, 512, 0xA5, 0
AWKWARD = (1, 3, 5, 10, 15, 16, 17, 31, 33, 65)
SIZES = [
    dict(m=m, n=n, k=1 + (2 * i + j) % 40)
    for i, (m, n) in enumerate(itertools.product(AWKWARD, AWKWARD))
    for j in range(2)
]
# Copied panels of b, passes over k, several threads.
LARGE = [
    dict(m=97, n=33, k=1030),
    dict(m=131, n=129, k=65),
    dict(m=9, n=300, k=40),
    dict(m=1, n=1025, k=700),
    dict(m=2111, n=10, k=7),
]
NETWORKS = [(1, 2), (5, 3), (33, 17, 3), (16, 65, 15), (31, 1, 5, 33), (17, 33, 31, 10)]
FOR_TILES = [  # precision, m, n, k
    ("high", 128, 128, 64),
    ("high", 131, 137, 70),
    ("medium", 131, 137, 70),
    ("high", 160, 129, 65),
    ("highest", 261, 259, 523),
]


class Guarded:
    """Memory for one array at a time, between two pages without rights."""

    def __init__(self, side, size):
        self.side, pages = side, -(-(size + MARGIN) // PAGE)
        whole = np.frombuffer(mmap.mmap(-1, (pages + 2) * PAGE), np.uint8)
        self.bytes = whole[PAGE:-PAGE]
        protect = ctypes.CDLL(None).mprotect
        for page in (whole[:PAGE], whole[-PAGE:]):
            assert protect(ctypes.c_void_p(page.ctypes.data), ctypes.c_size_t(PAGE), NO_RIGHTS) == 0

    def hold(self, x, gap=0):
        """A copy of x against the page; `gap` elements lie between its rows."""
        pitch = x.shape[-1] + gap
        size = ((x.size // x.shape[-1] - 1) * pitch + x.shape[-1]) * x.itemsize
        after = self.side == "after"
        self.near = self.bytes[-size - MARGIN :] if after else self.bytes[: size + MARGIN]
        self.near[:] = CANARY
        flat = (self.near[-size:] if after else self.near[:size]).view(x.dtype)
        strides = (pitch * x.itemsize, x.itemsize)[-x.ndim :]
        self.held, self.given = np.lib.stride_tricks.as_strided(flat, x.shape, strides), x.copy()
        self.held[...] = x
        self.before = self.near.copy()
        return self.held

    def only_held_changed(self):
        result, self.held[...] = self.held.copy(), self.given
        same = np.array_equal(self.near, self.before)
        self.held[...] = result
        return same


class Memory:
    """A Guarded for each name of an array."""

    def __init__(self, side):
        self.places = defaultdict(lambda: Guarded(side, 8 << 20))
        self.used = set()

    def hold(self, name, x, layout="plain"):
        self.used.add(name)
        if layout == "columns adjacent" and x.ndim == 2:
            return self.places[name].hold(x.T).T
        return self.places[name].hold(x, gap=7 if layout == "rows apart" and x.ndim == 2 else 0)

    def check(self, what):
        for name in self.used:
            assert self.places[name].only_held_changed(), f"{what}: bytes beside {name} have changed"
        self.used.clear()


def every_op():
    yield from OPS.items()
    for name in kernels.ACTIVATIONS:
        for op in ("linear", "linear_backward_input relu"):
            options = {**OPS[op].options, "activation": name}
            yield f"{op} {name}", replace(OPS[op], options=options)


def check_op(memory, name, op, size, layout, rng, dtype):
    arrays, named = inputs(op, size, rng, dtype)
    want = run(op, arrays, named)
    held = [memory.hold(f"argument {i}", x, layout) for i, x in enumerate(arrays)]
    more = {key: memory.hold(key, x) for key, x in named.items()}
    if op.out:
        more["out"] = memory.hold("out", np.zeros(shape(op.out, size), dtype))
    result = getattr(kernels, op.function)(*op.name, *held, **more, **op.options)
    got = [held[0], more["velocity"]] if op.in_place else result if isinstance(result, tuple) else [result]
    for x, y in zip(got, want, strict=True):
        assert same_bits(x, y), (name, size, layout)
    memory.check((name, size, layout))


def check_ops(memory, rng, dtype):
    for name, op in every_op():
        words = {"".join(sorted(w)) for w in op.arrays}
        layouts = ["plain", "rows apart", "columns adjacent"] if words & {"km", "kn"} else ["plain"]
        sizes = SIZES if "k" in "".join(words) else [s for i, s in enumerate(SIZES) if i % 2 == 0]
        for size, layout in zip(sizes, itertools.cycle(layouts), strict=False):
            check_op(memory, name, op, size, layout, rng, dtype)
        for size, layout in itertools.product(LARGE, layouts):
            check_op(memory, name, op, size, layout, rng, dtype)


def trained(sizes, activation, x, y, w, place, fused):
    """Parameters, velocity, loss, accuracy and outputs; `place` says where each array lies."""
    model = mlpfast.MLP(sizes, activation=activation, input_scale=0.01, dtype=w.dtype.name)
    model._flat = place("parameters", model._flat)
    trainer = mlpfast.Trainer(model, mlpfast.SGD(0.01, momentum=0.9, weight_decay=0.1))
    trainer.optimizer.velocity = place("velocity", np.zeros_like(model._flat))
    trainer.fused = fused
    trainer._progress = place("progress", np.zeros(6))
    x, w = place("x", x), place("sample_weight", w)
    classes = place("class_weight", np.linspace(1, 2, sizes[-1], dtype=w.dtype))
    batch = max(1, len(x) // 2)
    trainer.fit(x, place("y", y), epochs=1, batch_size=batch, sample_weight=w, class_weight=classes)
    metrics = model.evaluate(x, y)
    return [model._flat, trainer.optimizer.velocity, np.array([*metrics.values()]), model.forward(x)]


def check_tiles(memory, rng, dtype):
    for (level, m, n, k), *transposes in itertools.product(FOR_TILES, (False, True), (False, True)):
        how = dict(zip(("transpose_a", "transpose_b"), transposes, strict=True), precision=level)
        a = rng.standard_normal((k, m) if how["transpose_a"] else (m, k), dtype)
        b = rng.standard_normal((n, k) if how["transpose_b"] else (k, n), dtype)
        a[3, 3] = np.inf  # a block of multiply-adds among the tiles
        out = memory.hold("out", np.zeros((m, n), dtype))
        assert same_bits(
            kernels.gemm(memory.hold("a", a), memory.hold("b", b), out=out, **how), kernels.gemm(a, b, **how)
        )
        memory.check((m, n, k, how))
    check_networks(memory, rng, dtype, [(131, 140, 133, 3)], [133])
    check_networks(memory, rng, dtype, [(403, 523, 3)], [301])


def check_networks(memory, rng, dtype, networks=NETWORKS, counts=(1, 17, 130)):
    activations = itertools.cycle(kernels.ACTIVATIONS)
    for sizes, rows, given in itertools.product(networks, counts, (np.uint8, dtype)):
        x = rng.integers(0, 256, (rows, sizes[0])).astype(given)
        y, w = rng.integers(0, sizes[-1], rows).astype(np.int32), rng.random(rows, dtype)
        for activation, fused in zip((next(activations), next(activations)), (True, False), strict=True):
            what = (sizes, activation, x, y, w)
            want = trained(*what, lambda _, array: array, fused)
            for got, expected in zip(trained(*what, memory.hold, fused), want, strict=True):
                assert same_bits(got, expected), (sizes, rows, given, activation)
            memory.check((sizes, rows, given, activation))


if __name__ == "__main__":
    faulthandler.enable()
    _cpu.set_isa(sys.argv[1])
    mlpfast.set_num_threads(3)
    vectors = dict(_cpu.available_isas())[sys.argv[1]]
    for check in (check_ops, check_networks) if vectors else (check_tiles,):
        check(Memory(sys.argv[2]), np.random.default_rng(0), getattr(np, sys.argv[3]))
