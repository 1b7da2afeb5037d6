"""ONNX Runtime: one session of Gemm, Relu and ArgMax, arrays bound; the faster of one thread and all."""

from functools import partial
from typing import Any

from benchmarks import onnx_model
from benchmarks.cases import Case
from benchmarks.contenders import Job, fastest


def predict(case: Case, data: Any, threads: int) -> Job:
    counts = dict.fromkeys((1, threads))
    return fastest([partial(_predict, case, data, count) for count in counts])


def _predict(case: Case, data: Any, threads: int) -> Job:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        onnx_model.mlp(data.weights, case.batch), options, providers=["CPUExecutionProvider"]
    )
    x, classes, binding = data.x, np.zeros(case.batch, np.int64), session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("classes", "cpu", 0, classes.dtype, classes.shape, classes.ctypes.data)
    arrays = x, classes  # which must live: the binding has only their addresses
    return Job(
        lambda: session.run_with_iobinding(binding),
        lambda: arrays[1],
        onnxruntime.__version__,
        note=f"{threads} thread{'s' * (threads > 1)}",
    )
