"""The kernels as functions on arrays, of NumPy or of any library with DLPack or the CUDA Array Interface.

A function computes in float64 where any array it is given, ``out`` too, is float64, and otherwise in float32.
Arrays are of these two dtypes and of any stride, byte order and alignment; lists do not decide the dtype.
``out`` is a writeable C-contiguous array of the computation's dtype, or None for a new one. float64 ignores
``precision``. Wrong shapes and values raise ValueError, wrong dtypes TypeError.

Arrays on one GPU are computed there, in float32; they must be contiguous. ``stream`` is PyTorch's, CuPy's or
an address; None is the library's current one, else the legacy default stream. Calls do not wait for the GPU.
Where the stream records a graph, arrays of `mlpfast.cuda` from before must be ready when it is launched.
Results are of the caller's library. `mlpfast.kernels.reference` holds the same functions in NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np  # noqa: F401, for the examples
from numpy.typing import ArrayLike

from mlpfast import _cpu, arguments, arrays

Array = Any  # of NumPy, or of the library whose arrays were given

ACTIVATIONS: dict[str, tuple[str, bool, float | None]] = _cpu.activations()
"""Name -> (what the backward pass reads: "input" or "output", takes alpha, default alpha)."""


def gemm(
    a: ArrayLike,
    b: ArrayLike,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
    out: Array | None = None,
    precision: str = "highest",
    stream: Any = None,
) -> Array:
    """Matrix product ``alpha * op(a) @ op(b) + beta * out``, GEMM of BLAS; op transposes if asked.

    Parameters
    ----------
    a : floats [m, k], or [k, m] with ``transpose_a``
    b : floats [k, n], or [n, k] with ``transpose_b``
    beta : needs ``out`` when it is not 0; when it is 0, ``out`` is not read
    out : floats [m, n], must not overlap ``a`` or ``b``
    precision : "ieee", "highest", "high" or "medium", a floor of accuracy
    stream : of PyTorch or CuPy, or the address of one that outlives the results, on which arrays of a GPU
        are computed; what is made on 2, CUDA's default stream of each thread, is for that thread only

    Raises
    ------
    ValueError, TypeError
        If a shape or value, or a dtype, does not fit.

    Examples
    --------
    >>> a = np.array([[1, 2], [3, 4]], np.float32)
    >>> gemm(a, a, transpose_b=True)
    array([[ 5., 11.],
           [11., 25.]], dtype=float32)
    """
    return arrays.call("gemm", stream, a, b, transpose_a, transpose_b, alpha, beta, out, precision)


def explain(
    m: int, n: int, k: int, *, precision: str = "highest", dtype: str = "float32"
) -> tuple[str, tuple[int, int], int]:
    """How a product of [m, k] and [k, n] is computed here.

    Parameters
    ----------
    m, n, k : the product's shape, not negative
    precision, dtype : as in `gemm`; "float32", "float64", or "uint8" of features that a network predicts from

    Returns
    -------
    path : the instruction set and its method: multiply-adds, or products of integers or bf16 parts
    tile : rows and columns of the block that is summed at a time
    threads : at most

    Examples
    --------
    >>> explain(2, 3, 4, precision="ieee")[2]
    1
    """
    given = {"m": m, "n": n, "k": k}
    m, n, k = (arguments.integer("explain", name, value, 0) for name, value in given.items())
    if max(m, n, k) >= 2**63:
        raise ValueError(f"explain: m, n, k are {m}, {n}, {k}; they must be below 2^63")
    dtype = arguments.choice("explain", "dtype", dtype, [*arguments.DTYPES, "uint8"])
    parts, rows, cols, threads = _cpu.explain(m, n, k, precision, dtype)
    if parts == 0:
        return f"{_cpu.vectors()}: {dtype.replace('uint8', 'float32')} multiply-adds", (rows, cols), threads
    methods = {1: "bf16", 2: "bf16 x3", 4: "integers of 4 bytes", 5: "exact products of bytes"}
    return f"{_cpu.isa()}: {methods[parts]}", (rows, cols), threads


def linear(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    activation: str = "identity",
    alpha: float | None = None,
    scale: float = 1.0,
    out: Array | None = None,
    precision: str = "highest",
    stream: Any = None,
) -> Array:
    """A layer: ``act(x @ w * scale + b)``, floats [rows, out].

    Parameters
    ----------
    x : floats [rows, in]
    w : floats [in, out]
    b : floats [out], optional
    activation, alpha : a name of `ACTIVATIONS` and its parameter
    out : floats [rows, out]
    precision, stream : as in `gemm`, which also says what is raised

    Examples
    --------
    >>> x, w = np.array([[1, -2]], np.float32), np.eye(2, dtype=np.float32)
    >>> linear(x, w, np.array([0.5, 0.5], np.float32), activation="relu")
    array([[1.5, 0. ]], dtype=float32)
    """
    return arrays.call("linear", stream, x, w, b, activation, alpha, scale, out, precision)


def linear_backward_input(
    dy: ArrayLike,
    w: ArrayLike,
    saved: ArrayLike | None = None,
    *,
    activation: str = "identity",
    alpha: float | None = None,
    out: Array | None = None,
    precision: str = "highest",
    stream: Any = None,
) -> Array:
    """Gradient of the loss before the activation that made this layer's input: ``(dy @ w.T) * act'(saved)``.

    Parameters
    ----------
    dy : floats [rows, out], gradient with respect to this layer's ``x @ w + b``
    w : floats [in, out]
    saved : floats [rows, in], input or output of the activation before this layer, as `ACTIVATIONS` says
    activation, alpha : that activation and its parameter
    out : floats [rows, in]
    precision, stream : as in `gemm`, which also says what is raised

    Returns
    -------
    floats [rows, in]

    Examples
    --------
    >>> dy, w = np.ones((1, 2), np.float32), np.array([[1, 2], [3, 4]], np.float32)
    >>> linear_backward_input(dy, w, np.array([[5, 0]], np.float32), activation="relu")
    array([[3., 0.]], dtype=float32)
    """
    return arrays.call("linear_backward_input", stream, dy, w, saved, activation, alpha, out, precision)


def linear_backward_weights(
    x: ArrayLike, dy: ArrayLike, *, out: Array | None = None, precision: str = "highest", stream: Any = None
) -> Array:
    """Gradient with respect to a layer's weights: ``x.T @ dy``, floats [in, out].

    Parameters
    ----------
    x : floats [rows, in]
    dy : floats [rows, out]
    out : floats [in, out]
    precision, stream : as in `gemm`, which also says what is raised

    Examples
    --------
    >>> linear_backward_weights(np.ones((3, 1), np.float32), np.ones((3, 2), np.float32))
    array([[3., 3.]], dtype=float32)
    """
    return arrays.call("linear_backward_weights", stream, x, dy, out, precision)


def bias_add(x: ArrayLike, b: ArrayLike, *, out: Array | None = None, stream: Any = None) -> Array:
    """Add a bias to every row: ``x + b``.

    Parameters
    ----------
    x : floats [rows, cols]
    b : floats [cols]
    out : floats [rows, cols], may be ``x``
    stream : as in `gemm`, which also says what is raised

    Examples
    --------
    >>> bias_add(np.zeros((1, 2), np.float32), np.array([1, 2], np.float32))
    array([[1., 2.]], dtype=float32)
    """
    return arrays.call("bias_add", stream, x, b, out)


def bias_add_backward(dy: ArrayLike, *, out: Array | None = None, stream: Any = None) -> Array:
    """Gradient with respect to a bias: the sum over rows.

    Rows are added in order in blocks of 128, then block by block, whatever the number of threads.

    Parameters
    ----------
    dy : floats [rows, cols]
    out : floats [cols]
    stream : as in `gemm`, which also says what is raised

    Examples
    --------
    >>> bias_add_backward(np.ones((3, 2), np.float32))
    array([3., 3.], dtype=float32)
    """
    return arrays.call("bias_add_backward", stream, dy, out)


def relu(x: ArrayLike, *, out: Array | None = None, stream: Any = None) -> Array:
    """``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x : floats, any shape
    out : floats of the same shape, may be ``x``
    stream : as in `gemm`, which also says what is raised

    Examples
    --------
    >>> relu(np.array([-1, 2], np.float32))
    array([0., 2.], dtype=float32)
    """
    return arrays.call("relu", stream, x, out)


def relu_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None, stream: Any = None) -> Array:
    """``dy`` where the output ``y`` of relu is positive, else 0.

    Parameters
    ----------
    dy, y : floats, equal shapes
    out : floats of that shape, may be ``dy`` or ``y``
    stream : as in `gemm`, which also says what is raised

    Examples
    --------
    >>> relu_backward(np.ones(2, np.float32), np.array([0, 2], np.float32))
    array([0., 1.], dtype=float32)
    """
    return arrays.call("relu_backward", stream, dy, y, out)


def activation(
    name: str, x: ArrayLike, *, alpha: float | None = None, out: Array | None = None, stream: Any = None
) -> Array:
    """Any activation of `ACTIVATIONS`, elementwise.

    Parameters
    ----------
    name : a name of `ACTIVATIONS`
    x : floats, any shape
    alpha : slope of leaky_relu for negative ``x``
    out : floats of the same shape, may be ``x``
    stream : as in `gemm`, which also says what is raised

    Examples
    --------
    >>> activation("leaky_relu", np.array([-1, 2], np.float32), alpha=0.5)
    array([-0.5,  2. ], dtype=float32)
    """
    return arrays.call("activation", stream, name, x, alpha, out)


def activation_backward(
    name: str,
    dy: ArrayLike,
    saved: ArrayLike,
    *,
    alpha: float | None = None,
    out: Array | None = None,
    stream: Any = None,
) -> Array:
    """``dy`` times the derivative of an activation.

    Parameters
    ----------
    name, alpha : of `ACTIVATIONS`, and its parameter
    dy : floats, any shape
    saved : floats of that shape, the activation's input or output as `ACTIVATIONS` says
    out : floats of that shape, may be ``dy`` or ``saved``
    stream : as in `gemm`, which also says what is raised

    Examples
    --------
    >>> activation_backward("sigmoid", np.ones(1, np.float32), np.array([0.5], np.float32))
    array([0.25], dtype=float32)
    """
    return arrays.call("activation_backward", stream, name, dy, saved, alpha, out)


def softmax(x: ArrayLike, *, out: Array | None = None, stream: Any = None) -> Array:
    """Softmax over the last axis, the row's maximum subtracted first.

    Parameters
    ----------
    x : floats [..., classes]
    out : floats of the same shape, may be ``x``
    stream : as in `gemm`, which also says what is raised

    Examples
    --------
    >>> softmax(np.zeros((1, 4), np.float32))
    array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    return arrays.call("softmax", stream, x, out)


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    out: Array | None = None,
    stream: Any = None,
) -> tuple[Any, Array]:
    """Softmax cross-entropy and its gradient with respect to the logits, in one pass over the rows.

    The definition is PyTorch's `torch.nn.functional.cross_entropy`; a row's loss is also multiplied by its
    sample weight. "mean" divides by the sum of weights over the rows not ignored, and is 0 without any.

    Parameters
    ----------
    logits : floats [rows, classes]
    labels : integers [rows] in 0 .. classes - 1, or ``ignore_index``: no loss, no gradient; on a GPU int32
        or int64, and a wrong label raises ValueError in a later call, or in `mlpfast.cuda.synchronize`
    label_smoothing : 0 .. 1, share of the target spread evenly over all classes
    class_weight, sample_weight : floats [classes], [rows], optional; they, and products of both, are 0 or in
        float32 1.2e-38 .. 1.2e30, in float64 2.3e-308 .. 6e240 (which is not checked on a GPU)
    reduction : "mean", "sum" or "none"
    out : floats [rows, classes] for the gradient, may be ``logits``
    stream : as in `gemm`, which also says what is raised

    Returns
    -------
    loss : float, or floats [rows] for "none"; on a GPU an array without dimensions
    d_logits : floats [rows, classes]; for "none" the gradient of each row's own loss

    Examples
    --------
    >>> loss, d_logits = softmax_cross_entropy(np.zeros((1, 2), np.float32), [0])
    >>> round(loss, 4), d_logits
    (0.6931, array([[-0.5,  0.5]], dtype=float32))
    """
    loss, d_logits = arrays.call("softmax_cross_entropy", stream, logits, labels,
        label_smoothing, ignore_index, class_weight, sample_weight, reduction, out)  # fmt: skip
    return loss, d_logits


def sgd_step(
    w: Array,
    dw: ArrayLike,
    *,
    lr: float,
    momentum: float = 0.0,
    velocity: Array | None = None,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    stream: Any = None,
) -> None:
    """One step of stochastic gradient descent, in place, as `torch.optim.SGD` defines it.

    ``g = dw + weight_decay * w``; ``velocity = momentum * velocity + g``; ``w -= lr * velocity``, or
    ``w -= lr * (g + momentum * velocity)`` with ``nesterov``.

    Parameters
    ----------
    w, velocity : floats of one dtype, the computation's, and equal shapes, changed in place; velocity
        starts as zeros, momentum needs it
    dw : floats of that shape, cast to that dtype
    lr : learning rate
    stream : as in `gemm`, which also says what is raised

    Examples
    --------
    >>> w = np.ones(2, np.float32)
    >>> sgd_step(w, np.array([1, 2], np.float32), lr=0.5)
    >>> w
    array([0.5, 0. ], dtype=float32)
    """
    arrays.call("sgd_step", stream, w, dw, lr, momentum, velocity, nesterov, weight_decay)
