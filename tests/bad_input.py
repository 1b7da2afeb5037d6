"""Examples that a model of 3 features and 2 classes refuses, each with the exception that says so."""

import numpy as np

FEATURES = {
    "a feature too many": (np.zeros((4, 4)), ValueError),
    "a feature too few": (np.zeros((4, 2)), ValueError),
    "one row": (np.zeros(3), ValueError),
    "a number": (1.0, ValueError),
    "images of another size": (np.zeros((4, 2, 2)), ValueError),
    "no features": (np.zeros((4, 0)), ValueError),
    "rows of different lengths": ([[1, 2, 3], [1, 2]], ValueError),
    "complex": (np.zeros((4, 3), complex), TypeError),
    "texts": (np.full((4, 3), "1"), TypeError),
    "objects": (np.full((4, 3), None), TypeError),
    "dates": (np.zeros((4, 3), "datetime64[s]"), TypeError),
    "records": (np.zeros((4, 3), "f4,f4"), TypeError),
    "None": (None, TypeError),
}
LABELS = {
    "too many": ([0, 1, 0, 1, 0], ValueError),
    "too few": ([0, 1], ValueError),
    "a column": ([[0], [1], [0], [1]], ValueError),
    "a class too large": ([0, 1, 2, 1], ValueError),
    "negative": ([0, 1, -1, 1], ValueError),
    "beyond 32 bits": ([0, 1, 2**32, 1], ValueError),
    "beyond 63 bits": (np.full(4, 2**64 - 1, np.uint64), ValueError),
    "beyond 64 bits": ([0, 1, 10**30, 1], TypeError),
    "floats": ([0.0, 1.0, 0.0, 1.0], TypeError),
    "NaN": ([0, 1, float("nan"), 1], TypeError),
    "bool": ([False, True, False, True], TypeError),
    "texts": (["0", "1", "0", "1"], TypeError),
    "None": (None, TypeError),
}
EMPTY = {
    "an empty list": [],
    "no rows": np.zeros((0, 3)),
    "no rows, of an array": np.zeros((4, 3), np.float32)[4:],
}
