"""PyTorch's products by its other library: oneDNN runs AVX-512 on any processor, MKL on Intel's only.

torch.mm and nn.Linear take MKL for float32; the operator below, which torch.compile calls too, takes oneDNN.
"""

from typing import Any

import torch


def linear(x: Any, weight: Any, bias: Any = None, activation: str = "none") -> Any:
    """x [rows, in] weight.T [in, out] + bias, then perhaps "relu"; float32 only."""
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, activation, [], "")


class Linear(torch.nn.Linear):
    """nn.Linear whose three products are oneDNN's."""

    def forward(self, x: Any) -> Any:
        return _Layer.apply(x, self.weight, self.bias)


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Any, weight: Any, bias: Any) -> Any:
        context.save_for_backward(x, weight)
        return linear(x, weight, bias)

    @staticmethod
    def backward(context: Any, dy: Any) -> Any:
        x, weight = context.saved_tensors
        dx = linear(dy, weight.t()) if context.needs_input_grad[0] else None
        return dx, linear(dy.t(), x.t()), dy.sum(0)
