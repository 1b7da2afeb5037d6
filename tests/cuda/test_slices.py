"""Products of few outputs: blocks sum slices of k, a tile's last one adds these in order."""

import numpy as np
import pytest
from problems import floats
from tolerances import assert_within, same_bits

from mlpfast import MLP, SGD, Trainer, kernels

LAYOUTS = [(False, False), (False, True), (True, False), (True, True)]
# Too short to cut, by one, and just long enough; a slice's end beside a step's; primes.
SHAPES = [(1, 1, 127), (1, 1, 128), (33, 10, 129), (31, 37, 193), (256, 10, 256), (67, 97, 1031)]
# As many slices as blocks allow; as many tiles as are cut, and one more.
MOST = [(10, 10, 64 * 529), (350, 22 * 32, 140), (5 * 32, 53 * 32, 128)]
CASES = [(shape, layout) for shape in SHAPES for layout in LAYOUTS] + [(shape, LAYOUTS[0]) for shape in MOST]


def slices(m, n, k):
    """What plan_gemm makes of k."""
    tiles, steps = -(-m // 32) * -(-n // 32), -(-k // 32)
    count = max(1, min(528 // tiles, k // 64))
    ends = np.cumsum([steps // count + (s < steps % count) for s in range(count)]) * 32
    return [slice(end, stop) for end, stop in zip([0, *ends[:-1]], [*ends[:-1], k], strict=True)]


def product(a, b):
    """The sum of chains, as it is meant."""
    parts = slices(len(a), len(b.T), len(b))
    total, *others = (kernels.gemm(a[:, s], b[s], precision="ieee") for s in parts)
    for other in others:
        total = total + other
    return total


@pytest.mark.parametrize(("shape", "transposed"), CASES, ids=str)
def test_products(shape, transposed, gpu, rng):
    """Those bits, near the exact numbers; at "ieee" one chain, as on the CPU."""
    m, n, k = shape
    a, b = floats(rng, m, k), floats(rng, k, n)
    given = [np.ascontiguousarray(x.T) if t else x for x, t in zip((a, b), transposed, strict=True)]
    how = dict(transpose_a=transposed[0], transpose_b=transposed[1])
    on_gpu, want = [gpu(x) for x in given], product(a, b)
    for precision in ("highest", "medium"):
        got = kernels.gemm(*on_gpu, **how, precision=precision).numpy()
        assert same_bits(got, want)
    exact, size = a.astype(np.float64) @ b, np.abs(a).astype(np.float64) @ np.abs(b)
    assert_within(got, exact, "gemm", k=k, size=size)
    chain = kernels.gemm(*given, **how, precision="ieee")
    assert same_bits(kernels.gemm(*on_gpu, **how, precision="ieee").numpy(), chain)
    if len(slices(m, n, k)) > 1 and m * n > 100:
        assert not same_bits(got, chain)
        assert np.linalg.norm(got - exact) <= np.linalg.norm(chain - exact)


def test_what_becomes_of_sums(gpu, rng):
    x, w, b, saved = floats(rng, 37, 200), floats(rng, 200, 10), floats(rng, 10), floats(rng, 37, 10)
    total = product(x, w)
    got = kernels.linear(gpu(x), gpu(w), gpu(b), activation="tanh", scale=0.1).numpy()
    assert same_bits(got, kernels.activation("tanh", total * np.float32(0.1) + b))
    got = kernels.linear_backward_input(gpu(x), gpu(w.T.copy()), gpu(saved), activation="tanh").numpy()
    assert same_bits(got, kernels.activation_backward("tanh", total, saved))
    got = kernels.linear_backward_weights(gpu(x.T.copy()), gpu(w)).numpy()
    assert same_bits(got, total)
    out = gpu(saved)
    kernels.gemm(gpu(x), gpu(w), alpha=2.0, beta=-1.0, out=out)
    assert same_bits(out.numpy(), 2 * total - saved)


@pytest.mark.parametrize("mode", ["fused", "stored"])
def test_training(mode, cuda, gpu, rng):
    """Products of other numbers of tiles and slices follow each other, step by step, then as a recording."""
    x, y = rng.random((330, 300), np.float32), rng.integers(0, 10, 330)
    levels = ("ieee", "highest", "highest")[: 2 if cuda == "shim" else 3]  # it computes the same twice anyway
    models = [MLP((300, 40, 10), precision=p, seed=1, device="cuda") for p in levels]
    for m in models:
        trainer = Trainer(m, SGD(0.1, momentum=0.9))
        trainer.fused = mode == "fused"
        m.losses = [e["train_loss"] for e in trainer.fit(x, y, epochs=4, batch_size=150).epochs]
    chains, once, again = models[0], models[1], models[-1]
    assert all(map(same_bits, once.parameters, again.parameters)) and once.losses == again.losses
    assert not same_bits(once.parameters[0], chains.parameters[0])
    assert once.losses == pytest.approx(chains.losses, rel=1e-5)
    for got, want in zip(once.parameters, chains.parameters, strict=True):
        assert np.abs(got - want).max() <= 1e-5


def test_an_update_is_that_of_the_stored_gradient(gpu, rng):
    x, y = floats(rng, 200, 300), rng.integers(0, 10, 200)
    model = MLP((300, 10), seed=1, device="cuda")
    before = model.parameters[0].copy()
    _, (gradient, _) = model.loss_and_gradients(x, y)
    Trainer(model, SGD(0.1)).fit(x, y, epochs=1, batch_size=200, shuffle=False)
    kernels.sgd_step(before, gradient, lr=0.1)
    assert same_bits(model.parameters[0], before)
