"""Softmax regression beside a hidden layer, on Fashion-MNIST: which mistakes go, and which are new?"""

import numpy as np

import mlpfast


def predictions(hidden: list[int], data: mlpfast.datasets.Dataset, epochs: int, lr: float) -> np.ndarray:
    """The classes that a trained network gives the test set."""
    sizes = [data.x_train.shape[1], *hidden, len(data.class_names)]
    model = mlpfast.MLP(sizes, input_scale=data.input_scale)
    trainer = mlpfast.Trainer(model, mlpfast.SGD(lr, momentum=0.9))
    trainer.fit(data.x_train, data.y_train, epochs=epochs, batch_size=256)
    return model.predict(data.x_test)


def main(epochs: int = 10, data: mlpfast.datasets.Dataset | None = None) -> dict[str, int]:
    """The numbers of mistakes of both, of those that the hidden layer mends, and of those that it adds."""
    data = data or mlpfast.datasets.fashion_mnist()
    y, names = data.y_test, data.class_names
    flat = predictions([], data, epochs, lr=0.01)
    deep = predictions([256], data, epochs, lr=0.1)
    groups = {
        "regression": flat != y,
        "mended": (flat != y) & (deep == y),
        "new": (flat == y) & (deep != y),
        "network": deep != y,
    }
    print(f"{'mistakes':<12}" + "".join(f"{group:>12}" for group in groups))
    for label, name in enumerate(names):
        print(f"{name:<12}" + "".join(f"{(wrong & (y == label)).sum():>12}" for wrong in groups.values()))
    totals = {group: int(wrong.sum()) for group, wrong in groups.items()}
    print(f"{'all':<12}" + "".join(f"{total:>12}" for total in totals.values()))
    for group in ("mended", "new"):
        for row in np.flatnonzero(groups[group])[:3]:
            guesses = f"regression {names[flat[row]]}, network {names[deep[row]]}"
            print(f"{group}: row {row} is {names[y[row]]}: {guesses}")
    return totals


if __name__ == "__main__":
    main()
