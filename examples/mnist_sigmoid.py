"""MNIST with sigmoid units, as networks were first built: more than 0.97 on the test set after 30 epochs."""

import mlpfast
from mlpfast.callbacks import Progress


def main(epochs: int = 30, data: mlpfast.datasets.Dataset | None = None) -> float:
    """Train, and return the accuracy on the test set."""
    data = data or mlpfast.datasets.mnist()
    sizes = [data.x_train.shape[1], 256, len(data.class_names)]
    model = mlpfast.MLP(sizes, activation="sigmoid", init="xavier", input_scale=data.input_scale)
    mlpfast.Trainer(model, mlpfast.SGD(0.1, momentum=0.9)).fit(
        data.x_train,
        data.y_train,
        epochs=epochs,
        batch_size=256,
        validation_data=(data.x_test, data.y_test),
        callbacks=[Progress(held_out="test")],
    )
    return model.evaluate(data.x_test, data.y_test)["accuracy"]


if __name__ == "__main__":
    main()
