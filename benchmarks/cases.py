"""What is measured: a list; a new case is a new line."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod
from typing import Any


@dataclass(frozen=True)
class Case:
    """One row of a table.

    shape is m, n, k for gemm; the layers' sizes for step, fit and predict; rows, classes for softmax.
    Targets: `floor`, least ratio to the best peer, or to `peer`, with AMX `amx` where that is another;
    `eager`, to PyTorch eager; `share`, of the peak; `limit`, seconds. `remark` says by ISA why one is missed.
    """

    group: str
    shape: tuple[int, ...]
    form: str = "NN"  # gemm: which operands are transposed
    batch: int = 1
    batches: int = 1  # steps of an epoch, which is what one run of a step does
    epochs: int = 1  # fit
    lr: float = 0.005
    dtype: str = "float32"
    features: str = ""  # step, fit: of another dtype, resident so, converted by each contender in its loop
    precision: str = "highest"  # of float32 products: ours; peers' for "medium": bf16, if faster
    device: str = "cpu"  # or "cuda"
    quick: bool = False  # of the small set: --quick and README's table
    floor: float = 0.0
    peer: str = ""
    amx: float = 0.0
    eager: float = 0.0
    share: float = 0.0
    limit: float = 0.0
    remark: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """Unique over all groups."""
        sizes = ("x" if self.group in ("gemm", "softmax") else "-").join(map(str, self.shape))
        tail = {
            "gemm": self.form,
            "step": f"batch {self.batch}",
            "fit": f"batch {self.batch} {self.epochs} epochs",
            "predict": f"rows {self.batch}",
        }
        level = "" if self.precision == "highest" else self.precision
        device = "" if self.device == "cpu" else self.device
        words = (self.group, sizes, tail.get(self.group), self.features, self.dtype, level, device)
        return " ".join(filter(None, words))

    def asked(self, isa: str) -> float:
        """The least ratio to the best peer."""
        return self.amx if isa == "amx" and self.amx else self.floor

    @property
    def flops(self) -> float:
        """Of the matrix products in one call or step; a step needs no gradient of its input."""
        if self.group == "gemm":
            return 2.0 * prod(self.shape)
        layers = [a * b for a, b in pairwise(self.shape)]
        forward, step = 2.0 * sum(layers) * self.batch, 2.0 * (3 * sum(layers) - layers[0]) * self.batch
        return {"step": step, "fit": self.epochs * self.batches * step, "predict": forward}.get(
            self.group, 0.0
        )


WHY_MIDDLE = {
    "avx512": "Neighbours share the cores: on the Intel processor this was 0.76 to 1.13x within a day.",
    "amx": "AMX needs up to ten byte products for each float32 product, which small matrices do not repay.",
}
WHY_LARGE = {
    "avx512": "93 % of the peak on the Intel processor in minutes when nobody shared the cores.",
    "amx": "AMX needs up to ten byte products for each float32 one; a neighbour on the core halves its rate.",
    "avx2": "More than we ask in minutes when nobody shared the cores.",
}
WHY_FAR = WHY_LARGE | {
    "avx512": "Lines of a, 4 KB apart, fall into one cache set; what else slows it is not known."
}
WHY_TEN = {"avx512": "Much of the time goes into the call and 256 KB of sums."}
WHY_TINY = {"avx2": "Less than we ask in minutes when nobody shared the core."}
WHY_LEVEL = dict.fromkeys(("avx512", "avx2"), "Without AMX float32 serves this level.")
WHY_LEVEL |= {"amx": "A neighbour on the core's other thread halves its rate."}
WHY_STEP = WHY_LEVEL | {
    "avx512": "Matrix products take most of a step; they wait for what the other thread wrote, and for L3.",
    "avx2": "Peers reach a larger part of AVX2's peak than of AVX-512's.",
}
WHY_WIDE = WHY_LARGE | dict.fromkeys(
    ("avx512", "avx2"), "The best library's products of this size are as fast as ours."
)
WHY_FIT = dict.fromkeys(
    ("avx512", "avx2"), "Nine tenths of it are steps, whose own ratio the table above has."
)
WHY_SMALL = {
    "avx512": "Most of it is one sweep over the weights, at the speed of a copy within L2.",
    "avx2": "jax takes two thirds of the time that it takes on the Intel processor.",
}
WHY_DOUBLE = {"avx512": "Rows of a reach the tiles unpacked, and lie far apart."}
WHY_SOFTMAX = {
    "avx512": "Bound by the exponentials.",
    "avx2": "torch_eager takes little more than a third of its time on the Intel processor.",
}
WHY_LONG = {
    "avx512": "On one thread of the Intel processor 9 ns a register with its exponential, 5 ns to copy."
}
WHY_PREDICT = {
    "avx512": "Most of it reads 0.8 MB of weights.",
    "avx2": "The weights, of 0.8 MB, do not fit an L2 of 512 KB.",
}


def _gemm(m: int, n: int, k: int, *forms: str, floor: float = 0.95, **fields: Any) -> list[Case]:
    return [Case("gemm", (m, n, k), form, floor=floor, **fields) for form in forms or ("NN",)]


def _step(sizes: tuple[int, ...], batch: int, batches: int, **fields: Any) -> Case:
    return Case("step", sizes, batch=batch, batches=batches, **fields)


CASES: list[Case] = [
    *_gemm(256, 256, 784, "NN", quick=True),
    *_gemm(784, 256, 256, "TN", quick=True, remark=WHY_MIDDLE),
    *_gemm(256, 784, 256, "NN", "NT", "TN", remark=WHY_MIDDLE),
    *_gemm(256, 10, 256, "NN", "TN", floor=1.1),
    *_gemm(256, 256, 10, "NT", floor=1.4, remark=WHY_TEN),
    *_gemm(32, 256, 784, remark=WHY_MIDDLE),
    *_gemm(1, 256, 784),
    *_gemm(4, 4, 4, quick=True, floor=0.0, limit=2e-6, remark=WHY_TINY),
    *_gemm(617, 333, 200),
    *_gemm(129, 257, 1000),
    *_gemm(512, 512, 512, amx=1.3, remark=WHY_MIDDLE),
    *_gemm(1000, 1000, 1000, remark=WHY_LARGE),
    *_gemm(1024, 1024, 1024, quick=True, amx=1.5, share=0.82, remark=WHY_LARGE),
    *_gemm(2048, 2048, 2048, amx=1.5, remark=WHY_LARGE),
    *_gemm(4096, 4096, 4096, amx=1.5, remark=WHY_LARGE),
    *_gemm(1024, 2048, 2048, "NN", "NT", remark=WHY_LARGE),
    *_gemm(1024, 2048, 2048, "TN", remark=WHY_FAR),
    *_gemm(1024, 1024, 1024, precision="high", quick=True, floor=2.5, remark=WHY_LEVEL),
    *_gemm(2048, 2048, 2048, precision="high", floor=2.5, remark=WHY_LEVEL),
    *_gemm(4096, 4096, 4096, precision="high", floor=2.5, remark=WHY_LEVEL),
    *_gemm(256, 256, 784, precision="medium", floor=1.2, remark=WHY_LEVEL),
    *_gemm(1024, 1024, 1024, precision="medium", quick=True, floor=1.2, remark=WHY_LEVEL),
    *_gemm(2048, 2048, 2048, precision="medium", floor=1.2, remark=WHY_LEVEL),
    *_gemm(4096, 4096, 4096, precision="medium", floor=1.2, remark=WHY_LEVEL),
    Case("gemm", (256, 256, 784), dtype="float64", floor=0.9, remark=WHY_DOUBLE),
    Case("gemm", (1024, 1024, 1024), dtype="float64", floor=0.9, remark=WHY_DOUBLE),
    _step((784, 256, 10), 256, 60, quick=True, floor=1.4, amx=1.8, remark=WHY_STEP),
    _step((784, 256, 10), 256, 60, features="uint8", quick=True, floor=1.4, amx=2.8, remark=WHY_STEP),
    _step((784, 256, 10), 256, 60, dtype="float64"),
    _step((784, 256, 10), 32, 300, quick=True, floor=1.6, remark=WHY_STEP),
    _step((784, 256, 10), 4, 1000, lr=0.001, quick=True, floor=1.6, remark=WHY_SMALL),
    _step((784, 256, 10), 1, 1000, lr=0.001, quick=True, floor=3.0, remark=WHY_SMALL),
    _step((784, 2048, 2048, 10), 1024, 4, quick=True, floor=1.1, amx=1.4, remark=WHY_WIDE),
    _step((32, 512, 512, 2), 4096, 8, floor=1.2, amx=1.3, remark=WHY_STEP),
    _step((784, *[512] * 6, 10), 256, 20, floor=1.25, amx=1.4, remark=WHY_WIDE),
    _step((64, 48, 48, 48, 4), 512, 100, floor=1.5),
    _step((784, 256, 10), 256, 60, precision="medium", floor=5.0, remark=WHY_LEVEL),
    _step(
        (784, 256, 10), 256, 60, features="uint8", precision="medium", quick=True, floor=5.0, remark=WHY_LEVEL
    ),
    _step((784, 2048, 2048, 10), 1024, 4, precision="medium", floor=1.5, remark=WHY_LEVEL),
    _step((32, 512, 512, 2), 4096, 8, precision="medium", floor=1.6, remark=WHY_LEVEL),
    _step((784, *[512] * 6, 10), 256, 20, precision="medium", floor=1.8, remark=WHY_LEVEL),
    Case(
        "fit",
        (784, 256, 10),
        batch=256,
        batches=234,
        epochs=10,
        features="uint8",
        quick=True,
        floor=2.0,
        remark=WHY_FIT,
    ),
    Case("softmax", (65536, 10), quick=True, eager=15.0, remark=WHY_SOFTMAX),
    Case("softmax", (4096, 32768), share=0.8, remark=WHY_LONG),
    Case("predict", (784, 256, 10), quick=True, floor=1.0, eager=2.5, limit=12e-6, remark=WHY_PREDICT),
]

ON_GPU: list[Case] = [
    replace(case, device="cuda")
    for case in [
        *_gemm(4096, 4096, 4096, precision="ieee", floor=0.8),
        *_gemm(4096, 4096, 4096, floor=1.2, peer="torch_gpu"),
        *_gemm(4096, 4096, 4096, precision="medium", floor=0.5),
        Case("softmax", (65536, 10), floor=5.0, peer="torch_gpu"),
        Case("softmax", (16384, 32768), floor=2.0, peer="torch_gpu", share=0.8),
        _step(
            (784, 256, 10),
            256,
            234,
            epochs=10,
            floor=1.5,
            peer="torch_gpu_graph",
            eager=10.0,
            limit=4e-3 / 234,
        ),
        _step((784, 2048, 2048, 10), 1024, 4, epochs=5, floor=1.2, peer="torch_gpu_graph"),
        _step(
            (784, 2048, 2048, 10),
            1024,
            4,
            epochs=5,
            precision="medium",
            floor=1.2,
            peer="torch_gpu_graph",
        ),
    ]
]


def choose(group: str, containing: str = "", quick: bool = False) -> list[Case]:
    """Cases of a group, of "all" or of "gpu", whose name contains a text."""
    listed = ON_GPU if group == "gpu" else CASES
    wanted = [c for c in listed if group in ("all", "gpu", c.group) and containing in c.name]
    return [c for c in wanted if c.quick] if quick else wanted
