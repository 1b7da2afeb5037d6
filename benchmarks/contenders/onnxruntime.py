"""ONNX Runtime: one session of Gemm, Relu and ArgMax; the faster of one thread and all."""

from functools import partial
from typing import Any

from benchmarks import onnx_model
from benchmarks.cases import Case
from benchmarks.contenders import Job, fastest


def predict(case: Case, data: Any, threads: int) -> Job:
    counts = dict.fromkeys((1, threads))
    return fastest([partial(_predict, case, data, count) for count in counts])


def _predict(case: Case, data: Any, threads: int) -> Job:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        onnx_model.mlp(data.weights, case.batch), options, providers=["CPUExecutionProvider"]
    )
    feed, names = {"x": data.x}, ["classes"]
    return Job(
        lambda: session.run(names, feed),
        lambda: session.run(names, feed)[0],
        onnxruntime.__version__,
        note=f"{threads} thread{'s' * (threads > 1)}",
    )
