"""The parameters of a network: w1 [in, out], b1 [out], w2, b2, ... one after the other in one flat array."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpfast.arguments import Dtype

Floats = NDArray[np.floating[Any]]
Shapes = dict[str, tuple[int, ...]]  # by name, in order


def shapes_of(sizes: Sequence[int]) -> Shapes:
    """The shapes of the parameters of a network.

    Examples
    --------
    >>> shapes_of([784, 10])
    {'w1': (784, 10), 'b1': (10,)}
    """
    layers = enumerate(pairwise(sizes), 1)
    return {name: shape for i, (m, n) in layers for name, shape in ((f"w{i}", (m, n)), (f"b{i}", (n,)))}


def zeros(shapes: Shapes, dtype: Dtype) -> Floats:
    """A flat array for parameters, which starts on a cache line."""
    size = sum(map(math.prod, shapes.values()))
    block = np.zeros(size + 16, dtype)
    start = -block.ctypes.data % 64 // block.itemsize
    return block[start : start + size]


class Parameters(list[Floats]):
    """Views of the parameters. What is assigned to an item, or a slice, is copied into the views.

    Examples
    --------
    >>> flat = np.zeros(3)
    >>> w, b = parameters = Parameters(flat, {"w1": (1, 2), "b1": (1,)})
    >>> parameters[0] = [[1, 2]]
    >>> parameters[1] -= 3
    >>> flat
    array([ 1.,  2., -3.])
    """

    def __init__(self, flat: Floats, shapes: Shapes) -> None:
        super().__init__()
        end = 0
        for shape in shapes.values():
            start, end = end, end + math.prod(shape)
            self.append(flat[start:end].reshape(shape))

    def __setitem__(self, i: Any, value: Any) -> None:
        """Raises what NumPy raises where a value does not fit."""
        views, values = (self[i], value) if isinstance(i, slice) else ([self[i]], [value])
        for view, new in zip(views, values, strict=True):
            view[...] = new
