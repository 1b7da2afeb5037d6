"""torch.compile of the whole step in one graph: gather, forward, loss, backward and update."""

from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Job
from benchmarks.contenders.torch_eager import library, module


def softmax(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads, case)
    logits, labels, out = map(torch.from_numpy, (data.logits, data.labels, data.out))
    loss = [0.0]

    @torch.compile(fullgraph=True)
    def both(logits: Any, labels: Any, out: Any) -> Any:
        log_p = torch.log_softmax(logits, 1)
        hit = torch.arange(logits.shape[1])[None] == labels[:, None]
        out.copy_((log_p.exp() - hit.to(out.dtype)) / len(labels))
        return -log_p.gather(1, labels[:, None]).mean()

    def run() -> None:
        with torch.no_grad():
            loss[0] = both(logits, labels, out).item()

    return Job(run, lambda: (loss[0], out.numpy()), torch.__version__)


def step(case: Case, data: Any, threads: int) -> Job:
    return _training(case, data, threads, validate=False)


def fit(case: Case, data: Any, threads: int) -> Job:
    return _training(case, data, threads, validate=True)


def _training(case: Case, data: Any, threads: int, validate: bool) -> Job:
    torch = library(threads, case)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    params = [torch.from_numpy(w.copy()) for w in data.weights]

    def logits_of(params: list[Any], h: Any) -> Any:
        for i in range(0, len(params), 2):
            h = torch.addmm(params[i + 1], h, params[i])
            h = h if i + 2 == len(params) else h.relu()
        return h

    def loss(params: list[Any], h: Any, labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(logits_of(params, h), labels)

    @torch.compile(fullgraph=True)
    def update(params: list[Any], total: Any, rows: Any) -> None:
        features, labels = x.index_select(0, rows), y.index_select(0, rows)
        if case.features:
            features = features.to(params[0].dtype) * data.scale
        gradients, value = torch.func.grad_and_value(loss)(params, features, labels)
        for p, g in zip(params, gradients, strict=True):
            p.sub_(g, alpha=case.lr)
        total.add_(value)

    @torch.compile(fullgraph=True)
    def evaluate(params: list[Any], features: Any, labels: Any) -> Any:
        logits = logits_of(params, features.to(params[0].dtype) * data.scale)
        return torch.nn.functional.cross_entropy(logits, labels), (logits.argmax(1) == labels).sum()

    held_out = [torch.from_numpy(v) for v in data.validation]

    def epoch() -> list[float]:
        total = torch.zeros(())
        for rows in torch.randperm(len(x)).split(case.batch):
            update(params, total, rows)
        tail = [v.item() for v in evaluate(params, *held_out)] if validate else []
        return [total.item() / case.batches, *tail]

    def run() -> list[list[float]]:
        with torch.no_grad():
            return [epoch() for _ in range(case.epochs)]

    return Job(run, lambda: [p.numpy().copy() for p in params], torch.__version__)


def predict(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads, case)
    model, x = module(torch, data), torch.from_numpy(data.x)
    classes = torch.compile(lambda x: model(x).argmax(1), fullgraph=True)

    def run() -> Any:
        with torch.no_grad():
            return classes(x)

    return Job(run, lambda: run().numpy(), torch.__version__)
