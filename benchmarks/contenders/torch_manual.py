"""PyTorch's kernels by hand: no autograd, buffers reused, weights updated in place by addmm_."""

from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Job
from benchmarks.contenders.torch_eager import library


def softmax(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads, case)
    logits, labels, out = map(torch.from_numpy, (data.logits, data.labels, data.out))
    picked, loss = labels[:, None], [0.0]
    minus_one = torch.full(picked.shape, -1.0, dtype=out.dtype)

    @torch.inference_mode()
    def run() -> None:
        torch.log_softmax(logits, 1, out=out)
        loss[0] = -out.gather(1, picked).mean().item()
        out.exp_().scatter_add_(1, picked, minus_one).mul_(1 / len(labels))

    return Job(run, lambda: (loss[0], out.numpy()), torch.__version__)


def step(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads, case)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    net = _Net(torch, data.weights, case.batch)

    @torch.inference_mode()
    def run() -> float:
        total = torch.zeros(())
        for rows in torch.randperm(len(x)).split(case.batch):
            if case.features:
                torch.mul(x.index_select(0, rows), data.scale, out=net.h[0])
            else:
                torch.index_select(x, 0, rows, out=net.h[0])
            net.step(y.index_select(0, rows), case.lr, total)
        return float(total.item() / len(x))

    return Job(run, lambda: [w.numpy().copy() for w in net.weights], torch.__version__)


def predict(case: Case, data: Any, threads: int) -> Job:
    torch = library(threads, case)
    net, x = _Net(torch, data.weights, case.batch), torch.from_numpy(data.x)

    @torch.inference_mode()
    def run() -> Any:
        return net.forward(x).argmax(1)

    return Job(run, lambda: run().numpy(), torch.__version__)


class _Net:
    """Layers with buffers for one batch size; w is [in, out]."""

    def __init__(self, torch: Any, weights: list[Any], batch: int) -> None:
        self.torch = torch
        self.weights = [torch.from_numpy(w.copy()) for w in weights]
        self.w, self.b = self.weights[::2], self.weights[1::2]
        widths = [*(w.shape[0] for w in self.w), self.w[-1].shape[1]]
        self.h = [torch.ones(batch, width, dtype=self.w[0].dtype) for width in widths]
        self.d = [torch.ones_like(h) for h in self.h]
        self.minus_one = torch.full((batch, 1), -1.0, dtype=self.w[0].dtype)

    def forward(self, h: Any) -> Any:
        for w, b, y in zip(self.w, self.b, self.h[1:], strict=True):
            self.torch.addmm(b, h, w, out=y)
            h = y if y is self.h[-1] else y.relu_()
        return h

    def step(self, labels: Any, lr: float, total: Any) -> None:
        torch, rate, picked = self.torch, -lr / len(labels), labels[:, None]
        dy = torch.log_softmax(self.forward(self.h[0]), 1, out=self.d[-1])
        total -= dy.gather(1, picked).sum()
        dy.exp_().scatter_add_(1, picked, self.minus_one)
        for i in reversed(range(len(self.w))):
            w, h, dy = self.w[i], self.h[i], self.d[i + 1]
            if i:
                torch.mm(dy, w.t(), out=self.d[i])
                torch.ops.aten.threshold_backward(self.d[i], h, 0, grad_input=self.d[i])
            w.addmm_(h.t(), dy, alpha=rate)
            self.b[i].add_(dy.sum(0), alpha=rate)
