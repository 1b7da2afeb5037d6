"""Exclusive or, the problem that needs a hidden layer: solved from any seed, and never without the layer."""

from collections.abc import Iterable

import mlpfast


def accuracy(hidden: list[int], seed: int) -> float:
    data = mlpfast.datasets.xor()
    model = mlpfast.MLP([2, *hidden, 2], seed=seed)
    trainer = mlpfast.Trainer(model, mlpfast.SGD(0.5, momentum=0.9))
    trainer.fit(data.x_train, data.y_train, epochs=50, batch_size=4, seed=seed)
    return model.evaluate(data.x_test, data.y_test)["accuracy"]


def main(seeds: Iterable[int] = range(10)) -> dict[int, tuple[float, float]]:
    """The accuracies with 16 hidden units and with none, by seed."""
    found = {seed: (accuracy([16], seed), accuracy([], seed)) for seed in seeds}
    print("seed  16 hidden units  none")
    for seed, (deep, flat) in found.items():
        print(f"{seed:>4}  {deep:>15.0%}  {flat:>4.0%}")
    return found


if __name__ == "__main__":
    main()
