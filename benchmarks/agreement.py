"""Whether a GPU computes the CPU's bits: ``python -m benchmarks.agreement [file.json]``.

Trains 784-256-10 on both for an epoch of Fashion-MNIST (MLPFAST_DATA), or of random numbers without it, at
"ieee" and at "highest", and counts the weights whose bits agree.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

if sys.path[0] in ("", os.getcwd()):
    sys.path.append(sys.path.pop(0))  # as in worker.py

import numpy as np

import mlpfast


def examples() -> tuple[Any, Any, float, str]:
    """Features, labels, the features' scale, and their name."""
    if folder := os.environ.get("MLPFAST_DATA"):
        data = mlpfast.datasets.fashion_mnist(Path(folder) / "fashion-mnist")
        return data.x_train, data.y_train, data.input_scale, "Fashion-MNIST"
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (60_000, 784), np.uint8), rng.integers(0, 10, 60_000), 1 / 255, "random"


def compare(precision: str) -> dict[str, Any]:
    """Of an epoch's weights: how many there are, how many agree, and the largest distance in floats."""
    x, y, scale, name = examples()
    parameters, losses = [], []
    for device in ("cuda", "cpu"):
        model = mlpfast.MLP((784, 256, 10), precision=precision, input_scale=scale, seed=0, device=device)
        history = mlpfast.Trainer(model, mlpfast.SGD(0.1)).fit(x, y, epochs=1, batch_size=256)
        parameters.append(np.concatenate([np.ravel(p) for p in model.parameters]))
        losses.append(history.epochs[0]["train_loss"])
    ordered = [
        np.where(b < 0, np.int64(-(2**31)) - b, b)
        for b in (p.view(np.int32).astype(np.int64) for p in parameters)
    ]
    apart = np.abs(ordered[0] - ordered[1])
    return {
        "data": name,
        "precision": precision,
        "weights": apart.size,
        "equal": int((apart == 0).sum()),
        "most floats apart": int(apart.max()),
        "losses": losses,
    }


if __name__ == "__main__":
    found = [compare(precision) for precision in ("ieee", "highest")]
    print(json.dumps(found, indent=1))
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(json.dumps(found, indent=1), encoding="utf-8")
