"""The compiled extension as mlpfast uses it (csrc/bindings); every argument is positional."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]  # float32 or float64; the same throughout a call of network.cpp
Metrics = tuple[float, float, int, int]  # sum of losses, sum of weights, correct, rows
Spec = tuple[Any, ...]  # sizes, activations, alphas, input_scale, input_shift, precision
Rule = tuple[str, list[Array], tuple[float, float, bool, float]]

# config.cpp
class Busy:
    def __enter__(self) -> None: ...
    def __exit__(self, *args: object) -> None: ...

def isa() -> str: ...
def l2_bytes() -> int: ...
def set_l2_bytes(bytes: int, /) -> None: ...
def set_isa(name: str, /) -> None: ...
def available_isas() -> list[tuple[str, bool]]: ...
def num_threads() -> int: ...
def granted_cpus(root: str, groups: str, /) -> int: ...
def requested_threads() -> int: ...
def set_num_threads(n: int, /) -> None: ...
def max_threads() -> int: ...
def activations() -> dict[str, tuple[str, bool, float | None]]: ...
def precisions() -> list[str]: ...

# tiles.cpp
def explain(m: int, n: int, k: int, precision: str, dtype: str, /) -> tuple[int, int, int, int]: ...
def tile_fallbacks() -> int: ...
def tile_multiply(
    a: NDArray[np.uint16], b: NDArray[np.uint16], c: NDArray[np.float32], parts: int, /
) -> NDArray[np.float32]: ...
def byte_multiply(
    x: NDArray[np.uint8], b: NDArray[np.float32], shift: float, precision: str, transposed: bool, /
) -> NDArray[np.float32]: ...
def vectors() -> str: ...

# gemm.cpp
def gemm(
    a: ArrayLike,
    b: ArrayLike,
    transpose_a: bool,
    transpose_b: bool,
    alpha: float,
    beta: float,
    out: Array | None,
    precision: str,
    /,
) -> Array: ...
def linear(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None,
    activation: str,
    alpha: float | None,
    scale: float,
    out: Array | None,
    precision: str,
    /,
) -> Array: ...
def linear_backward_input(
    dy: ArrayLike,
    w: ArrayLike,
    saved: ArrayLike | None,
    activation: str,
    alpha: float | None,
    out: Array | None,
    precision: str,
    /,
) -> Array: ...
def linear_backward_weights(x: ArrayLike, dy: ArrayLike, out: Array | None, precision: str, /) -> Array: ...

# elementwise.cpp
def bias_add(x: ArrayLike, b: ArrayLike, out: Array | None, /) -> Array: ...
def bias_add_backward(dy: ArrayLike, out: Array | None, /) -> Array: ...
def relu(x: ArrayLike, out: Array | None, /) -> Array: ...
def relu_backward(dy: ArrayLike, y: ArrayLike, out: Array | None, /) -> Array: ...
def activation(name: str, x: ArrayLike, alpha: float | None, out: Array | None, /) -> Array: ...
def activation_backward(
    name: str, dy: ArrayLike, saved: ArrayLike, alpha: float | None, out: Array | None, /
) -> Array: ...

# softmax_xent.cpp
def softmax(x: ArrayLike, out: Array | None, /) -> Array: ...
def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    label_smoothing: float,
    ignore_index: int | None,
    class_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    reduction: str,
    out: Array | None,
    /,
) -> tuple[Any, Array]: ...

# optimizer.cpp
def sgd_step(
    w: Array,
    dw: ArrayLike,
    lr: float,
    momentum: float,
    velocity: Array | None,
    nesterov: bool,
    weight_decay: float,
    /,
) -> None: ...

# network.cpp
class Workspace: ...

def train(
    parameters: Array,
    spec: Spec,
    gradient: Array | None,
    rule: Rule,
    x: NDArray[Any],
    y: NDArray[np.int32],
    sample_weight: Array | None,
    class_weight: Array | None,
    order: tuple[int, int] | None,  # seed, epoch
    workspace: Workspace,
    progress: NDArray[np.float64],  # epochs, row, and sums of loss, weight, correct, rows; advanced
    how: tuple[int, bool, bool, float],  # batch, drop_last, fused, seconds
    /,
) -> bool: ...
def gradients(
    parameters: Array,
    spec: Spec,
    gradient: Array,
    x: NDArray[Any],
    y: NDArray[np.int32],
    workspace: Workspace,
    /,
) -> Metrics: ...
def predict(parameters: Array, spec: Spec, x: NDArray[Any], /) -> Array: ...
def evaluate(parameters: Array, spec: Spec, x: NDArray[Any], y: NDArray[np.int32], /) -> Metrics: ...
def shuffled(rows: int, seed: int, epoch: int, /) -> NDArray[np.int64]: ...
def labels(y: ArrayLike, rows: int, classes: int, function: str, /) -> NDArray[np.int32]: ...
def workspace(
    parameters: Array,
    spec: Spec,
    batch: int,
    x: NDArray[Any],
    labels: NDArray[np.int32],
    sample_weight: Array | None,
    class_weight: Array | None,
    /,
) -> Workspace: ...
