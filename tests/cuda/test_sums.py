"""Sums over many rows: blocks of threads share them, in one order, that of the CPU where it has one."""

import numpy as np
import pytest
from tolerances import same_bits

import mlpfast
from mlpfast import MLP, SGD, Trainer, kernels


# Where a second block comes in, and where rows, blocks of rows and blocks of threads end within each other.
@pytest.mark.parametrize(
    "shape", [(1024, 3), (1025, 33), (5000, 10), (40000, 1), (1100, 132 * 32 + 1)], ids=str
)
def test_columns(shape, gpu, rng):
    dy = rng.standard_normal(shape).astype(np.float32)
    assert same_bits(kernels.bias_add_backward(gpu(dy)).numpy(), kernels.bias_add_backward(dy))


@pytest.mark.parametrize("fused", [True, False])
def test_columns_of_large_batches(fused, gpu, rng):
    x, y = rng.random((5000, 3), np.float32), rng.integers(0, 4, 5000)
    models = [MLP((3, 40, 4), precision="ieee", seed=1, device=device) for device in ("cuda", "cpu")]
    for m in models:
        trainer = Trainer(m, SGD(0.1, momentum=0.9))
        trainer.fused = fused
        trainer.fit(x, y, epochs=1, batch_size=2100)
    assert all(map(same_bits, *(m.parameters for m in models)))


@pytest.mark.parametrize("rows", [1, 1023, 16 * 1024, 16 * 1024 + 1, 40000])
def test_losses(rows, gpu, rng):
    """A thread adds every 1024th in order, then threads a warp, and warps the block, halves to halves."""
    x, y = rng.standard_normal((rows, 2)).astype(np.float32), rng.integers(0, 2, rows)
    each, _ = kernels.softmax_cross_entropy(gpu(x), gpu(y), reduction="none")
    total, _ = kernels.softmax_cross_entropy(gpu(x), gpu(y), reduction="sum")
    lots = np.zeros((-(-rows // 1024), 1024))
    lots.ravel()[:rows] = each.numpy()
    sums = np.add.accumulate(lots)[-1].reshape(32, 32)
    for _ in range(2):
        for half in (16, 8, 4, 2, 1):
            sums[:, :half] += sums[:, half : 2 * half]
        sums = np.tile(sums[:, 0], (32, 1))
    assert total.numpy() == np.float32(sums[0, 0])
    y[rows // 2 :: 7] = 2
    kernels.softmax_cross_entropy(gpu(x), gpu(y))
    with pytest.raises(ValueError, match=rf"labels\[{rows // 2}\] is 2"):
        mlpfast.cuda.synchronize()
