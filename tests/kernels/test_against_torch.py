"""PyTorch's definitions: the reference and the kernels in float64 to 1e-11, the kernels in float32."""

import numpy as np
import pytest

from mlpfast.kernels import reference

APIS = pytest.mark.parametrize("api", ["reference", "float32", "float64"])
TOLERANCE = {np.float64: 1e-11, np.float32: 3e-6}
CROSS_ENTROPY = {
    "plain": {},
    "smoothing": dict(label_smoothing=0.1),
    "ignore": dict(ignore_index=3),
    "weight": dict(class_weight=True),
    "weight and ignore": dict(class_weight=True, ignore_index=3),
    "everything": dict(class_weight=True, ignore_index=3, label_smoothing=0.3),
}
SGD = [
    dict(lr=0.1),
    dict(lr=0.1, weight_decay=0.05),
    dict(lr=0.05, momentum=0.9),
    dict(lr=0.05, momentum=0.9, nesterov=True),
    dict(lr=0.05, momentum=0.5, nesterov=True, weight_decay=0.1),
]


def functions(api):
    """The module and its dtype."""
    if api == "reference":
        return reference, np.float64
    from mlpfast import kernels

    return kernels, np.dtype(api).type


def assert_close(got, tensor, dtype):
    want = tensor.detach().numpy()
    assert np.allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * np.abs(want).max(initial=0))


@APIS
@pytest.mark.parametrize("options", CROSS_ENTROPY.values(), ids=CROSS_ENTROPY)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("c", [4, 10, 65])
def test_cross_entropy(api, options, reduction, c, torch, rng):
    module, dtype = functions(api)
    x, y = rng.normal(0, 3, (33, c)).astype(dtype), rng.integers(0, c, 33)
    weight = rng.uniform(0.1, 2, c).astype(dtype)
    options = {name: weight if name == "class_weight" else value for name, value in options.items()}
    logits = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    theirs = dict(options, reduction=reduction)
    if "class_weight" in options:
        theirs["weight"] = torch.tensor(theirs.pop("class_weight"), dtype=torch.float64)
    want = torch.nn.functional.cross_entropy(logits, torch.tensor(y), **theirs)
    want.sum().backward()
    loss, d_logits = module.softmax_cross_entropy(x, y, reduction=reduction, **options)
    assert_close(loss, want, dtype)
    assert_close(d_logits, logits.grad, dtype)


@APIS
@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_layer(api, name, torch, rng):
    """x -> act(x w1 + b1) -> w2: outputs and every gradient."""
    module, dtype = functions(api)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in [(15, 20), (20, 33), (33,), (33, 10)]]
    x, w1, b1, w2 = arrays
    tx, tw1, tb1, tw2 = tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]
    act = {"identity": lambda x: x}.get(name) or getattr(torch.nn.functional, name)
    tz = torch.nn.functional.linear(tx, tw1.T, tb1)
    torch.nn.functional.linear(act(tz), tw2.T).sum().backward()

    h = module.linear(x, w1, b1, activation=name)
    assert_close(h, act(tz), dtype)
    dy = np.ones((15, 10), dtype)
    saved = module.linear(x, w1, b1) if reference.ACTIVATIONS[name].saves == "input" else h
    dz = module.linear_backward_input(dy, w2, saved, activation=name)
    gradients = [
        module.linear_backward_input(dz, w1),
        module.linear_backward_weights(x, dz),
        module.bias_add_backward(dz),
        module.linear_backward_weights(h, dy),
    ]
    for got, tensor in zip(gradients, tensors, strict=True):
        assert_close(got, tensor.grad, dtype)


@APIS
@pytest.mark.parametrize("options", SGD, ids=str)
def test_sgd(api, options, torch, rng):
    module, dtype = functions(api)
    w = rng.standard_normal(100).astype(dtype)
    velocity = np.zeros_like(w) if "momentum" in options else None
    parameter = torch.nn.Parameter(torch.tensor(w, dtype=torch.float64))
    optimizer = torch.optim.SGD([parameter], **options)
    for _ in range(5):
        dw = rng.standard_normal(100).astype(dtype)
        parameter.grad = torch.tensor(dw, dtype=torch.float64)
        optimizer.step()
        module.sgd_step(w, dw, velocity=velocity, **options)
        assert_close(w, parameter, dtype)
