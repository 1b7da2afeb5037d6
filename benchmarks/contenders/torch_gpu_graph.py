"""PyTorch on a GPU by hand: a whole epoch in one CUDA graph, the gather and a fused optimizer in it too."""

from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Job
from benchmarks.contenders.gpu import clock, library, tensor
from benchmarks.contenders.torch_gpu import module, weights

DEVICES = ("cuda",)


def step(case: Case, data: Any, threads: int) -> Job:
    torch = library(case)
    model, x, y = module(torch, data), tensor(torch, data.x), tensor(torch, data.y)
    lr = torch.tensor(case.lr, device="cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, fused=True)
    order, total = torch.randperm(len(x), device="cuda"), torch.zeros((), device="cuda")

    def epoch() -> None:
        total.zero_()
        for first in range(0, len(x), case.batch):
            rows = order[first : first + case.batch]
            features = x.index_select(0, rows)
            if case.features:
                features = features.float().mul_(data.scale)
            with torch.autocast("cuda", torch.bfloat16, enabled=case.precision == "medium"):
                loss = torch.nn.functional.cross_entropy(model(features).float(), y.index_select(0, rows))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total.add_(loss.detach())

    before = [p.detach().clone() for p in model.parameters()]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        epoch()  # warm, as capturing asks for
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        epoch()
    with torch.no_grad():
        for p, value in zip(model.parameters(), before, strict=True):
            p.copy_(value)

    def run() -> None:
        for _ in range(case.epochs):
            torch.randperm(len(x), out=order)
            graph.replay()

    return Job(run, lambda: weights(model), torch.__version__, clock=clock(torch))
