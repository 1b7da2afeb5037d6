"""The few ONNX messages that an MLP with argmax needs, encoded by hand, so that onnx is not needed.

Field numbers and type codes: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from typing import Any

INT64 = 7
ELEMENT = {"float32": 1, "float64": 11}


def mlp(weights: list[Any], rows: int) -> bytes:
    """Gemm and Relu for each layer, ArgMax at the end: "x" [rows, in] to "classes" [rows]."""
    element, last = ELEMENT[str(weights[0].dtype)], len(weights) // 2 - 1
    nodes, h = [], "x"
    for i in range(last + 1):
        nodes.append(_node("Gemm", [h, f"w{i}", f"b{i}"], f"z{i}"))
        h = f"z{i}"
        if i < last:
            nodes.append(_node("Relu", [h], f"h{i}"))
            h = f"h{i}"
    nodes.append(_node("ArgMax", [h], "classes", axis=1, keepdims=0))
    tensors = [_tensor(f"{'wb'[i % 2]}{i // 2}", w, element) for i, w in enumerate(weights)]
    graph = b"".join(
        [
            *(_field(1, node) for node in nodes),
            _field(2, b"mlp"),
            *(_field(5, tensor) for tensor in tensors),
            _field(11, _value("x", element, [rows, len(weights[0])])),
            _field(12, _value("classes", INT64, [rows])),
        ]
    )
    opset = _field(1, b"") + _field(2, 17)
    return _field(1, 8) + _field(7, graph) + _field(8, opset)


def _node(operator: str, inputs: list[str], output: str, **integers: int) -> bytes:
    attributes = (_field(1, k.encode()) + _field(3, v) + _field(20, 2) for k, v in integers.items())
    return b"".join(
        [
            *(_field(1, name.encode()) for name in inputs),
            _field(2, output.encode()),
            _field(4, operator.encode()),
            *(_field(5, attribute) for attribute in attributes),
        ]
    )


def _tensor(name: str, array: Any, element: int) -> bytes:
    dims = b"".join(_field(1, size) for size in array.shape)
    return dims + _field(2, element) + _field(8, name.encode()) + _field(9, array.tobytes())


def _value(name: str, element: int, shape: list[int]) -> bytes:
    dims = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, element) + _field(2, dims)))


def _field(number: int, value: int | bytes) -> bytes:
    """A protobuf field: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
