"""IDX files made by hand, for tests."""

import gzip
import struct
from collections.abc import Callable

import numpy as np
import pytest

as_stored = pytest.mark.parametrize("store", [bytes, gzip.compress], ids=["plain", "gzip"])
Store = Callable[[bytes], bytes]


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def header(*shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
