"""PyTorch on a GPU: cuBLAS through out=, and training as its tutorials write it, examples resident there."""

from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Job
from benchmarks.contenders.gpu import clock, library, rotated, tensor

DEVICES = ("cuda",)


def gemm(case: Case, data: Any, threads: int) -> Job:
    """For "medium" operands and results are bf16 from the beginning."""
    torch = library(case)
    dtype = torch.bfloat16 if case.precision == "medium" else torch.float32
    turn, last = rotated(torch, data.a, data.b, data.out, dtype=dtype), []

    @torch.inference_mode()
    def run() -> None:
        a, b, out = last[:] = turn()
        a, b = a.T if case.form[0] == "T" else a, b.T if case.form[1] == "T" else b
        torch.mm(a, b, out=out)

    note = f"operands and results {dtype}"
    return Job(run, lambda: last[2].float().cpu().numpy(), torch.__version__, note, clock=clock(torch))


def softmax(case: Case, data: Any, threads: int) -> Job:
    torch = library(case)
    turn, last = rotated(torch, data.logits, data.labels), []

    def run() -> None:
        logits, labels = turn()
        logits.requires_grad_().grad = None
        loss = torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        last[:] = loss, logits.grad

    return Job(run, lambda: (last[0].item(), last[1].cpu().numpy()), torch.__version__, clock=clock(torch))


def step(case: Case, data: Any, threads: int) -> Job:
    return training(case, data, lambda loss_of: loss_of)


def training(case: Case, data: Any, prepare: Callable[[Any], Any]) -> Job:
    """Steps of forward, backward and a fused optimizer; `prepare` makes of the loss what is called."""
    torch = library(case)
    model, x, y = module(torch, data), tensor(torch, data.x), tensor(torch, data.y)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.lr, fused=True)

    def loss_of(x: Any, y: Any) -> Any:
        if case.features:
            x = x.float().mul_(data.scale)
        with torch.autocast("cuda", torch.bfloat16, enabled=case.precision == "medium"):
            return torch.nn.functional.cross_entropy(model(x).float(), y)

    called = prepare(loss_of)

    def run() -> None:
        for _ in range(case.epochs):
            for rows in torch.randperm(len(x), device="cuda").split(case.batch):
                optimizer.zero_grad(set_to_none=True)
                called(x[rows], y[rows]).backward()
                optimizer.step()

    return Job(run, lambda: weights(model), torch.__version__, clock=clock(torch))


def module(torch: Any, data: Any) -> Any:
    """nn.Sequential of the case's weights, on the GPU."""
    from benchmarks.contenders.torch_eager import module

    return module(torch, data).cuda()


def weights(model: Any) -> list[Any]:
    return [p.detach().cpu().numpy().T.copy() for p in model.parameters()]
