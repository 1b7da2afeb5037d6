"""PyTorch's kernels by hand: no autograd, buffers reused, weights updated in place by addmm_."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import CHUNK, Job, fastest
from benchmarks.contenders.torch_eager import library

NARROW = 64  # classes; softmax of fewer takes a vector for each row, whole arrays at a time are faster


def softmax(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads, case)
    logits, labels, out = map(torch.from_numpy, (data.logits, data.labels, data.out))
    picked, loss, share = labels[:, None], [0.0], 1 / len(labels)
    minus = torch.full(picked.shape, -share, dtype=out.dtype)

    @torch.inference_mode()
    def narrow() -> None:
        torch.sub(logits, logits.amax(1, keepdim=True), out=out)
        own = out.gather(1, picked)
        total = out.exp_().sum(1, keepdim=True)
        loss[0] = (total.log() - own).mean().item()
        out.mul_(share / total).scatter_add_(1, picked, minus)

    @torch.inference_mode()
    def wide() -> None:
        torch.softmax(logits, 1, out=out)
        loss[0] = -out.gather(1, picked).log_().mean().item()
        out.mul_(share).scatter_add_(1, picked, minus)

    run = narrow if logits.shape[1] < NARROW else wide
    return Job(run, lambda: (loss[0], out.numpy()), torch.__version__)


def step(case: Case, data: Any, threads: int) -> Job:
    return fastest([partial(_training, case, data, threads, False, net) for net in (_Net, _OneDNN)])


def fit(case: Case, data: Any, threads: int) -> Job:
    loops, trials = (
        [partial(_training, c, data, threads, True, net) for net in (_Net, _OneDNN)]
        for c in (case, replace(case, epochs=1))
    )
    return fastest(loops, trials=trials)


def predict(case: Case, data: Any, threads: int) -> Job:
    return fastest([partial(_predict, case, data, threads, net) for net in (_Net, _OneDNN)])


def _predict(case: Case, data: Any, threads: int, kind: Any) -> Job:
    torch = library(threads, case)
    net, x = kind(torch, _tensors(torch, data.weights), case.batch), torch.from_numpy(data.x)

    @torch.inference_mode()
    def run() -> Any:
        return net.forward(x).argmax(1)

    return Job(run, lambda: run().numpy(), torch.__version__, kind.note)


def _training(case: Case, data: Any, threads: int, validate: bool, kind: Any) -> Job:
    torch = library(threads, case)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    net = kind(torch, _tensors(torch, data.weights), case.batch)
    evaluate = _evaluation(torch, kind, net.weights, data) if validate else list

    def epoch() -> list[float]:
        total = torch.zeros(())
        for rows in torch.randperm(len(x)).split(case.batch):
            if case.features:
                torch.mul(x.index_select(0, rows), data.scale, out=net.h[0])
            else:
                torch.index_select(x, 0, rows, out=net.h[0])
            net.step(y.index_select(0, rows), case.lr, total)
        return [total.item() / len(x), *evaluate()]

    @torch.inference_mode()
    def run() -> list[list[float]]:
        return [epoch() for _ in range(case.epochs)]

    return Job(run, lambda: [w.numpy().copy() for w in net.weights], torch.__version__, kind.note)


def _evaluation(torch: Any, kind: Any, weights: list[Any], data: Any) -> Any:
    """A function that gives the validation's loss and accuracy with these weights."""
    x, y = map(torch.from_numpy, data.validation)
    size = math.gcd(len(y), CHUNK)
    net = kind(torch, weights, size)

    def evaluate() -> list[float]:
        loss, right = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for features, labels in zip(x.split(size), y.split(size), strict=True):
            logits = net.forward(torch.mul(features, data.scale, out=net.h[0]))
            loss += torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
        return [loss.item() / len(y), right.item() / len(y)]

    return evaluate


def _tensors(torch: Any, weights: list[Any]) -> list[Any]:
    return [torch.from_numpy(w.copy()) for w in weights]


class _Net:
    """Layers with buffers for one batch size, over the weights given; w is [in, out]."""

    note = "mm"

    def __init__(self, torch: Any, weights: list[Any], batch: int) -> None:
        self.torch, self.weights = torch, weights
        self.w, self.b = self.weights[::2], self.weights[1::2]
        widths = [*(w.shape[0] for w in self.w), self.w[-1].shape[1]]
        self.h = [torch.ones(batch, width, dtype=self.w[0].dtype) for width in widths]
        self.d = [torch.ones_like(h) for h in self.h]
        self.minus_one = torch.full((batch, 1), -1.0, dtype=self.w[0].dtype)

    def forward(self, h: Any) -> Any:
        for i in range(len(self.w)):
            h = self.h[i + 1] = self.layer(h, i)
        return h

    def layer(self, h: Any, i: int) -> Any:
        y = self.torch.addmm(self.b[i], h, self.w[i], out=self.h[i + 1])
        return y if i + 1 == len(self.w) else y.relu_()

    def input_gradient(self, dy: Any, i: int) -> Any:
        return self.torch.mm(dy, self.w[i].t(), out=self.d[i])

    def update(self, dy: Any, i: int, rate: float) -> None:
        self.w[i].addmm_(self.h[i].t(), dy, alpha=rate)

    def step(self, labels: Any, lr: float, total: Any) -> None:
        torch, rate, picked = self.torch, -lr / len(labels), labels[:, None]
        dy = torch.log_softmax(self.forward(self.h[0]), 1, out=self.d[-1])
        total -= dy.gather(1, picked).sum()
        dy.exp_().scatter_add_(1, picked, self.minus_one)
        for i in reversed(range(len(self.w))):
            below = self.input_gradient(dy, i) if i else None
            if i:
                torch.ops.aten.threshold_backward(below, self.h[i], 0, grad_input=below)
            self.update(dy, i, rate)
            self.b[i].add_(dy.sum(0), alpha=rate)
            dy = below


class _OneDNN(_Net):
    """All products by oneDNN, which makes its results anew; w lies as nn.Linear's, [out, in]."""

    note = "oneDNN"

    def __init__(self, torch: Any, weights: list[Any], batch: int) -> None:
        from benchmarks.contenders.torch_onednn import linear

        super().__init__(torch, [w.t().contiguous().t() for w in weights], batch)  # no copy if it lies so
        self.linear = linear

    def layer(self, h: Any, i: int) -> Any:
        return self.linear(h, self.w[i].t(), self.b[i], "none" if i + 1 == len(self.w) else "relu")

    def input_gradient(self, dy: Any, i: int) -> Any:
        return self.linear(dy, self.w[i])

    def update(self, dy: Any, i: int, rate: float) -> None:
        self.w[i].t().add_(self.linear(dy.t(), self.h[i].t()), alpha=rate)
