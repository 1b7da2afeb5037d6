"""scikit-learn: MLPClassifier.partial_fit, one shuffled epoch a call."""

from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.contenders import Job, NotAvailable


def step(case: Case, data: Any, threads: int) -> Job:
    model, version = _model(case, data)
    return Job(lambda: model.partial_fit(data.x, data.y), lambda: _weights(model), version)


def predict(case: Case, data: Any, threads: int) -> Job:
    model, version = _model(case, data)
    return Job(lambda: model.predict(data.x), lambda: model.predict(data.x), version)


def _model(case: Case, data: Any) -> tuple[Any, str]:
    import sklearn
    from sklearn.neural_network import MLPClassifier

    if case.shape[-1] == 2:
        raise NotAvailable("trains one logistic output for two classes, another network")
    if case.features:
        raise NotAvailable("converts all features before its loop")
    model = MLPClassifier(
        case.shape[1:-1],
        solver="sgd",
        alpha=0.0,
        batch_size=case.batch,
        learning_rate_init=case.lr,
        momentum=0.0,
        nesterovs_momentum=False,
        shuffle=True,
        random_state=0,
    )
    model.partial_fit(data.x[: case.batch], data.y[: case.batch], classes=np.arange(case.shape[-1]))
    for ours, theirs in zip(data.weights, _weights(model), strict=True):
        theirs[...] = ours
    return model, sklearn.__version__


def _weights(model: Any) -> list[Any]:
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    return [w for pair in pairs for w in pair]
