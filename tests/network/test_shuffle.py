"""The keyed shuffle: a permutation, another for each seed and epoch, uniform, and the order fit takes."""

from itertools import permutations

import numpy as np
import pytest
from problems import Problem, trained
from tolerances import same_bits

from mlpfast import _cpu

SIZES = [1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 1000, 1023, 1025, 60000]


def orders(n, count, seed=0):
    """Orders of `count` epochs, [count, n]."""
    return np.stack([_cpu.shuffled(n, seed, epoch) for epoch in range(count)])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("key", [(0, 0), (1, 0), (0, 1), (2**64 - 1, 2**64 - 1)], ids=str)
def test_permutation(n, key):
    order = _cpu.shuffled(n, *key)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(order, _cpu.shuffled(n, *key))


@pytest.mark.parametrize("n", [n for n in SIZES if n > 100])
def test_seeds_and_epochs_differ(n):
    keys = [(0, 0), (1, 0), (0, 1), (1, 1), (2**32, 0), (0, 2**32), (2**63, 5)]
    found = [_cpu.shuffled(n, *key) for key in keys] + [np.arange(n)]
    for i, a in enumerate(found):
        for b in found[:i]:
            assert (a == b).mean() < 0.05


def chi_square(counts, freedom):
    """How far counts are from equal: in deviations of the chi-square distribution above its mean."""
    expected = counts.mean()
    return (((counts - expected) ** 2).sum() / expected - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize("n", [2, 3, 5, 17, 64, 100, 257])
def test_every_row_is_as_likely_at_every_position(n):
    found = orders(n, 100 * n)
    counts = np.stack([np.bincount(found[:, i], minlength=n) for i in range(n)])
    assert chi_square(counts, n * (n - 1)) < 4  # sums of rows and columns are fixed


@pytest.mark.parametrize("n", [1008, 60000])
def test_neighbours_are_unrelated(n):
    """Steps from a row to the next, in 16 equal classes of the distance around a circle."""
    found = orders(n, 3 + 60000 // n)
    steps = (np.diff(found, axis=1) % n) * 16 // n
    assert chi_square(np.bincount(steps.ravel(), minlength=16), 15) < 4


def test_all_permutations_of_four_appear():
    found, counts = np.unique(orders(4, 4800), axis=0, return_counts=True)
    assert [tuple(row) for row in found] == list(permutations(range(4)))
    assert chi_square(counts, 23) < 4


def test_fit_takes_the_rows_in_this_order(rng):
    problem = Problem((9, 16, 4), 53, 8)
    x, y = problem.data(rng)
    order = np.concatenate([_cpu.shuffled(53, 7, epoch) for epoch in range(3)])
    trainer = problem.trainer()
    for part in np.split(order, 3):
        trainer.fit(x[part], y[part], epochs=1, batch_size=8, shuffle=False)
    want = trained(problem, (x, y), epochs=3, seed=7)
    for got, expected in zip(trainer.model.parameters, want, strict=False):
        assert same_bits(got, expected)


def test_the_seed_of_fit_counts_modulo_2_to_64(rng):
    problem = Problem((9, 16, 4), 53, 8)
    data = problem.data(rng)
    for a, b in zip(trained(problem, data, seed=-1), trained(problem, data, seed=2**64 - 1), strict=True):
        assert same_bits(a, b)
