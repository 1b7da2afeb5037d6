"""PyTorch as its tutorials write it, in memory and without a DataLoader; the fastest of its SGD loops."""

from collections.abc import Callable
from dataclasses import replace
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

    made = [out]

    @torch.inference_mode()
    def onednn() -> None:
        from benchmarks.contenders.torch_onednn import linear

        made[0] = linear(a, b.t())

    forms = {"mm": run, "oneDNN": onednn} | ({"bfloat16()": cast} if case.precision == "medium" else {})
    return fastest([partial(_product, made, out, f, torch.__version__, n) for n, f in forms.items()])


def _product(made: list[Any], out: Any, run: Callable[[], None], version: str, note: str) -> Job:
    """A form's job; most write into `out`, which is the result till one makes its own."""
    made[0] = out
    return Job(run, lambda: made[0].numpy(), version, note)


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
    forms = [("fused", ""), ("foreach", ""), ("fused", "oneDNN")]
    if case.precision == "medium":
        forms += [("fused", "autocast"), ("foreach", "autocast")]

    def loops(case: Case) -> list[Callable[[], Job]]:
        return [partial(_loop, case, data, threads, validate, *form) for form in forms]

    return fastest(loops(case), trials=loops(replace(case, epochs=1)))


def _loop(case: Case, data: Any, threads: int, validate: bool, form: str, products: str) -> Job:
    torch = library(threads, case)
    model, autocast = module(torch, data, products == "oneDNN"), products == "autocast"
    optimizer = torch.optim.SGD(model.parameters(), lr=case.lr, **{form: True})
    x, y, batch = torch.from_numpy(data.x), torch.from_numpy(data.y), case.batch
    criterion, dtype = torch.nn.CrossEntropyLoss(), next(model.parameters()).dtype

    def outcome(x: Any, y: Any) -> Any:
        if case.features:
            x = x.to(dtype).mul_(data.scale)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(x)
            return criterion(logits, y), logits

    @torch.inference_mode()
    def evaluate(x: Any, y: Any) -> list[float]:
        loss, logits = outcome(x, y)
        return [loss.item(), (logits.argmax(1) == y).float().mean().item()]

    def epoch() -> list[float]:
        total = torch.zeros(())
        for rows in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad(set_to_none=True)
            loss, _ = outcome(x.index_select(0, rows), y.index_select(0, rows))
            loss.backward()
            optimizer.step()
            total += loss.detach()
        held_out = evaluate(*map(torch.from_numpy, data.validation)) if validate else []
        return [total.item() / case.batches, *held_out]

    def result() -> list[Any]:
        return [p.detach().numpy().T.copy() for p in model.parameters()]

    note = f"SGD({form}=True)" + (f", {products}" if products else "")
    return Job(lambda: [epoch() for _ in range(case.epochs)], result, torch.__version__, note)


def library(threads: int, case: Case) -> Any:
    """PyTorch with that many threads; for "medium" it computes float32 products in bf16."""
    import torch

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("medium" if case.precision == "medium" else "highest")
    return torch


def module(torch: Any, data: Any, onednn: bool = False) -> Any:
    """nn.Sequential of the case's weights."""
    kind = torch.nn.Linear
    if onednn:
        from benchmarks.contenders.torch_onednn import Linear as kind
    layers: list[Any] = []
    for w, b in zip(data.weights[::2], data.weights[1::2], strict=True):
        layer = kind(*w.shape, dtype=torch.from_numpy(w).dtype)
        layer.weight.data = torch.from_numpy(w.T.copy())
        layer.bias.data = torch.from_numpy(b.copy())
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])
