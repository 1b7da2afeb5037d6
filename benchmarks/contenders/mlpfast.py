"""Ourselves, through the public API."""

from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Job

DEVICES = ("cpu", "cuda")


def gemm(case: Case, data: Any, threads: int) -> Job:
    from mlpfast.kernels import gemm

    ta, tb = case.form[0] == "T", case.form[1] == "T"
    if case.device == "cuda":
        how = {"transpose_a": ta, "transpose_b": tb, "precision": case.precision}
        return _on_gpu(case, (data.a, data.b, data.out), lambda a, b, out: gemm(a, b, out=out, **how))
    a, b, out, precision = data.a, data.b, data.out, case.precision
    return _job(
        threads,
        lambda: gemm(a, b, transpose_a=ta, transpose_b=tb, out=out, precision=precision),
        lambda: out,
    )


def softmax(case: Case, data: Any, threads: int) -> Job:
    from mlpfast.kernels import softmax_cross_entropy

    if case.device == "cuda":
        arrays = data.logits, data.labels, data.out
        return _on_gpu(case, arrays, lambda x, y, out: softmax_cross_entropy(x, y, out=out))
    logits, labels, out, loss = data.logits, data.labels, data.out, [0.0]

    def run() -> None:
        loss[0] = softmax_cross_entropy(logits, labels, out=out)[0]

    return _job(threads, run, lambda: (loss[0], out))


def step(case: Case, data: Any, threads: int) -> Job:
    return _fit(case, data, threads)


def fit(case: Case, data: Any, threads: int) -> Job:
    return _fit(case, data, threads, validation_data=data.validation)


def _fit(case: Case, data: Any, threads: int, **options: Any) -> Job:
    import mlpfast

    model, x = _model(case, data), data.x
    if case.device == "cuda":
        from benchmarks.contenders.gpu import library, tensor

        x = tensor(library(case), x)
    trainer = mlpfast.Trainer(model, mlpfast.SGD(case.lr))
    options |= {"epochs": case.epochs, "batch_size": case.batch}
    return _job(
        threads,
        lambda: trainer.fit(x, data.y, **options),
        lambda: [w.copy() for w in model.parameters],
    )


def predict(case: Case, data: Any, threads: int) -> Job:
    model, x = _model(case, data), data.x
    return _job(threads, lambda: model.predict(x), lambda: model.predict(x))


def _model(case: Case, data: Any) -> Any:
    import mlpfast

    options = {"dtype": case.dtype, "precision": case.precision, "input_scale": data.scale}
    options["device"] = case.device
    model = mlpfast.MLP(case.shape, init="zeros", **options)
    for parameter, w in zip(model.parameters, data.weights, strict=True):
        parameter[...] = w
    return model


def _on_gpu(case: Case, arrays: Any, function: Any) -> Job:
    """On PyTorch's tensors and stream; the result is the last array, behind a loss where there is one."""
    import mlpfast
    from benchmarks.contenders.gpu import clock, library, rotated

    torch = library(case)
    turn, last = rotated(torch, *arrays), []

    def run() -> None:
        last[:] = (tensors := turn())[-1], function(*tensors)

    def result() -> Any:
        out = last[0].cpu().numpy()
        return (float(last[1][0]), out) if isinstance(last[1], tuple) else out

    return Job(run, result, mlpfast.__version__, clock=clock(torch))


def _job(threads: int, run: Any, result: Any) -> Job:
    import mlpfast
    from mlpfast import _cpu

    mlpfast.set_num_threads(threads)
    return Job(run, result, mlpfast.__version__, note=f"ISA {_cpu.isa()}")
