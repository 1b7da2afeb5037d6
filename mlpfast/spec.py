"""What a network is, as `mlpfast.MLP` is told: sizes, activations and options, checked."""

from collections.abc import Sequence
from itertools import pairwise

from mlpfast import _cpu
from mlpfast.arguments import choice, integer, listed, real, unfit
from mlpfast.init import initializer
from mlpfast.kernels import ACTIVATIONS

LOSSES = ("softmax_cross_entropy",)
OPTIONS = ("loss", "init", "input_scale", "input_shift", "seed", "precision")


def checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Of inputs, hidden layers and classes."""
    expected = "positive integers, at least two: [784, 256, 10]"
    given = listed("MLP", "sizes", sizes, expected)
    checked = tuple(integer("MLP", f"sizes[{i}]", n, 1) for i, n in enumerate(given))
    if len(checked) < 2:
        raise ValueError(unfit("MLP", "sizes", sizes, expected))
    if sum((i + 1) * o for i, o in pairwise(checked)) >= 2**40:
        raise ValueError(unfit("MLP", "sizes", sizes, "below 2^40 parameters in all"))
    return checked


def checked_options(
    loss: str, init: str, input_scale: float, input_shift: float, seed: int, precision: str
) -> tuple[str, str, float, float, int, str]:
    """The values of `OPTIONS`."""
    initializer(init)
    return (
        choice("MLP", "loss", loss, LOSSES),
        init,
        real("MLP", "input_scale", input_scale),
        real("MLP", "input_shift", input_shift),
        integer("MLP", "seed", seed, 0),
        choice("MLP", "precision", precision, _cpu.precisions()),
    )


def checked_activations(activation: str | Sequence[str], hidden: int) -> tuple[str, ...]:
    """One for each hidden layer."""
    if isinstance(activation, str):
        return (choice("MLP", "activation", activation, list(ACTIVATIONS)),) * hidden
    names = listed("MLP", "activation", activation, "a name, or a list of names")
    if len(names) != hidden:
        raise ValueError(f"MLP: activation has {len(names)} names, the network has {hidden} hidden layers")
    return tuple(choice("MLP", "activation", name, list(ACTIVATIONS)) for name in names)
