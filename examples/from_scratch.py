"""A multilayer perceptron by hand: 784-256-10 on Fashion-MNIST, every kernel of a step called from here.

`mlpfast.Trainer` runs the same kernels in one native call and, in the same order of rows, gives the same
weights, bit for bit.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from mlpfast import DataError, datasets, kernels


def initial(sizes: list[int], seed: int = 0) -> list[np.ndarray]:
    """w1, b1, w2, b2: weights normal with deviation 0.01, biases zero."""
    rng = np.random.default_rng(seed)
    parameters = []
    for rows, cols in pairwise(sizes):
        w = rng.standard_normal((rows, cols), np.float32) * np.float32(0.01)
        parameters += [w, np.zeros(cols, np.float32)]
    return parameters


def forward(parameters: list[np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w1, b1, w2, b2 = parameters
    h = kernels.linear(x, w1, b1, activation="relu")
    return h, kernels.linear(h, w2, b2)


def step(parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray, lr: float) -> float:
    """Forward, loss, backward, update. Returns the mean loss of the batch."""
    h, logits = forward(parameters, x)
    loss, d_logits = kernels.softmax_cross_entropy(logits, y)
    dh = kernels.linear_backward_input(d_logits, parameters[2], h, activation="relu")
    gradients = [
        kernels.linear_backward_weights(x, dh),
        kernels.bias_add_backward(dh),
        kernels.linear_backward_weights(h, d_logits),
        kernels.bias_add_backward(d_logits),
    ]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        kernels.sgd_step(parameter, gradient, lr=lr)
    return loss


def shuffled(rows: int, epoch: int) -> np.ndarray:
    return np.random.default_rng(epoch).permutation(rows)


def train(
    parameters: list[np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    *,
    epochs: int = 10,
    batch_size: int = 256,
    lr: float = 0.1,
    order: Callable[[int, int], np.ndarray] = shuffled,
) -> None:
    for epoch in range(epochs):
        rows, total = order(len(x), epoch), 0.0
        for start in range(0, len(x), batch_size):
            batch = rows[start : start + batch_size]
            total += len(batch) * step(parameters, x[batch], y[batch], lr)
        print(f"epoch {epoch + 1:>2}  train loss {total / len(x):.4f}", flush=True)


def main(epochs: int = 10, data: datasets.Dataset | None = None) -> float:
    """Train, and return the accuracy on the test set."""
    settings: dict[str, Any] = {}
    if data is None:
        try:
            data = datasets.fashion_mnist()
        except DataError:
            print("Fashion-MNIST was not found; training on handwritten digits instead")
            data, settings = datasets.digits(), {"batch_size": 32, "lr": 0.5}
    x_train, x_test = (x * np.float32(data.input_scale) for x in (data.x_train, data.x_test))
    parameters = initial([x_train.shape[1], 256, len(data.class_names)])
    train(parameters, x_train, data.y_train, epochs=epochs, **settings)
    accuracy = float((forward(parameters, x_test)[1].argmax(axis=1) == data.y_test).mean())
    print(f"test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
