"""PyTorch as its tutorials write it, in memory and without a DataLoader; the fastest of its SGD loops."""

from functools import partial
from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Job, fastest


def gemm(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads)
    (a, b), out = map(torch.from_numpy, data.operands(case.form)), torch.from_numpy(data.out)

    @torch.inference_mode()
    def run() -> None:
        torch.mm(a, b, out=out)

    return Job(run, lambda: out.numpy(), torch.__version__)


def softmax(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads)
    logits = torch.from_numpy(data.logits).requires_grad_()
    labels, loss = torch.from_numpy(data.labels), [0.0]

    def run() -> None:
        logits.grad = None
        value = torch.nn.functional.cross_entropy(logits, labels)
        value.backward()
        loss[0] = value.item()

    return Job(run, lambda: (loss[0], logits.grad.numpy()), torch.__version__)


def step(case: Case, data: Any, threads: int) -> Job:
    return fastest([partial(_step, case, data, threads, **{form: True}) for form in ("fused", "foreach")])


def predict(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads)
    model, x = module(torch, data), torch.from_numpy(data.x)

    @torch.inference_mode()
    def run() -> Any:
        return model(x).argmax(1)

    return Job(run, lambda: run().numpy(), torch.__version__)


def _step(case: Case, data: Any, threads: int, **form: bool) -> Job:
    torch = library(threads)
    model = module(torch, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.lr, **form)
    x, y, batch = torch.from_numpy(data.x), torch.from_numpy(data.y), case.batch
    criterion, dtype = torch.nn.CrossEntropyLoss(), next(model.parameters()).dtype

    def run() -> float:
        total = torch.zeros(())
        for rows in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad(set_to_none=True)
            features = x.index_select(0, rows)
            if case.features:
                features = features.to(dtype).mul_(data.scale)
            loss = criterion(model(features), y.index_select(0, rows))
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return float(total.item() / case.batches)

    def result() -> list[Any]:
        return [p.detach().numpy().T.copy() for p in model.parameters()]

    return Job(run, result, torch.__version__, note=f"SGD({', '.join(form)}=True)")


def library(threads: int) -> Any:
    """PyTorch with so many threads."""
    import torch

    torch.set_num_threads(threads)
    return torch


def module(torch: Any, data: Any) -> Any:
    """nn.Sequential of the case's weights."""
    layers: list[Any] = []
    for w, b in zip(data.weights[::2], data.weights[1::2], strict=True):
        layer = torch.nn.Linear(*w.shape, dtype=torch.from_numpy(w).dtype)
        layer.weight.data = torch.from_numpy(w.T.copy())
        layer.bias.data = torch.from_numpy(b.copy())
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])
