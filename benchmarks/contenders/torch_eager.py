"""PyTorch as its tutorials write it, in memory and without a DataLoader; the fastest of its SGD loops."""

from functools import partial
from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Job, fastest


def gemm(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads, case)
    (a, b), out = map(torch.from_numpy, data.operands(case.form)), torch.from_numpy(data.out)

    @torch.inference_mode()
    def run() -> None:
        torch.mm(a, b, out=out)

    @torch.inference_mode()
    def cast() -> None:
        out.copy_(torch.mm(a.bfloat16(), b.bfloat16()))

    if case.precision != "medium":
        return Job(run, lambda: out.numpy(), torch.__version__)
    forms = {"float32_matmul_precision": run, "bfloat16()": cast}
    return fastest([partial(Job, f, lambda: out.numpy(), torch.__version__, n) for n, f in forms.items()])


def softmax(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads, case)
    logits = torch.from_numpy(data.logits).requires_grad_()
    labels, loss = torch.from_numpy(data.labels), [0.0]

    def run() -> None:
        logits.grad = None
        value = torch.nn.functional.cross_entropy(logits, labels)
        value.backward()
        loss[0] = value.item()

    return Job(run, lambda: (loss[0], logits.grad.numpy()), torch.__version__)


def step(case: Case, data: Any, threads: int) -> Job:
    return _fastest_loop(case, data, threads, validate=False)


def fit(case: Case, data: Any, threads: int) -> Job:
    return _fastest_loop(case, data, threads, validate=True)


def predict(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads, case)
    model, x = module(torch, data), torch.from_numpy(data.x)

    @torch.inference_mode()
    def run() -> Any:
        return model(x).argmax(1)

    return Job(run, lambda: run().numpy(), torch.__version__)


def _fastest_loop(case: Case, data: Any, threads: int, validate: bool) -> Job:
    autocasts = (False, True) if case.precision == "medium" else (False,)
    loops = [
        partial(_loop, case, data, threads, validate, form, autocast)
        for form in ("fused", "foreach")
        for autocast in autocasts
    ]
    return fastest(loops) if case.epochs == 1 else loops[0]()  # ten epochs are too long for trials


def _loop(case: Case, data: Any, threads: int, validate: bool, form: str, autocast: bool) -> Job:
    torch = library(threads, case)
    model = module(torch, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.lr, **{form: True})
    x, y, batch = torch.from_numpy(data.x), torch.from_numpy(data.y), case.batch
    criterion, dtype = torch.nn.CrossEntropyLoss(), next(model.parameters()).dtype

    def criterion_of(x: Any, y: Any) -> Any:
        if case.features:
            x = x.to(dtype).mul_(data.scale)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return criterion(model(x), y)

    def epoch() -> float:
        total = torch.zeros(())
        for rows in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad(set_to_none=True)
            loss = criterion_of(x.index_select(0, rows), y.index_select(0, rows))
            loss.backward()
            optimizer.step()
            total += loss.detach()
        if validate:
            with torch.inference_mode():
                total += criterion_of(*map(torch.from_numpy, data.validation))
        return float(total.item() / case.batches)

    def result() -> list[Any]:
        return [p.detach().numpy().T.copy() for p in model.parameters()]

    note = f"SGD({form}=True)" + (", autocast" if autocast else "")
    return Job(lambda: [epoch() for _ in range(case.epochs)], result, torch.__version__, note)


def library(threads: int, case: Case) -> Any:
    """PyTorch with that many threads; for "medium" it computes float32 products in bf16."""
    import torch

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("medium" if case.precision == "medium" else "highest")
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
