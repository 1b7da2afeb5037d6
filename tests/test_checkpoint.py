"""Model files: what is saved comes back bit for bit, and no other file loads or is harmed."""

import json
import os
import stat

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tolerances import same_bits

from mlpfast import MLP, SGD, CheckpointError, Trainer, checkpoint

MODELS = {
    "plain": dict(sizes=[3, 2]),
    "every option": dict(
        sizes=[5, 4, 1, 3],
        activation=["tanh", "leaky_relu"],
        init="normal:0.3",
        input_scale=1 / 255,
        input_shift=-0.1,
        seed=7,
        precision="ieee",
    ),
    "float64": dict(sizes=[4, 3, 2], dtype="float64"),
    "numpy numbers": dict(sizes=np.array([3, 2]), seed=np.int64(5), input_scale=np.float32(0.1)),
}
W, B = np.zeros((3, 2), np.float32), np.zeros(2, np.float32)
FACTS = dict(sizes=[3, 2], activation=[], loss="softmax_cross_entropy", init="he", input_scale=1.0)
FACTS |= dict(input_shift=0.0, seed=0, precision="highest")
# What a file may hold instead of two tensors ...
TENSORS = {
    "nothing": {},
    "one missing": {"w1": W},
    "one too many": {"w1": W, "b1": B, "w2": W},
    "another name": {"weight": W, "bias": B},
    "transposed": {"w1": W.T.copy(), "b1": B},
    "flat": {"w1": W.ravel(), "b1": B},
    "float32 and float64": {"w1": W.astype(np.float64), "b1": B},
    "float16": {"w1": W.astype(np.float16), "b1": B},
    "int32": {"w1": W.astype(np.int32), "b1": B},
}
# ... and instead of FACTS.
HOSTILE = {
    "text": "{",
    "a list": "[]",
    "a number": "5",
    "deep": "[" * 100_000,
    "long number": json.dumps({**FACTS, "seed": 0})[:-2] + "9" * 5000 + "}",
    **{
        f"{name} {str(value)[:20]}": json.dumps({**FACTS, name: value})
        for name, value in [
            *(
                ("sizes", v)
                for v in ([2**40, 2], [3, 2**62], [-3, 2], [3.5, 2], [float("inf"), 2], "32", None, {})
            ),
            *(("sizes", v) for v in ([3], [], [3, [2]], [1] * 100_000)),
            *(("activation", v) for v in (["relu"], "relu?", 5, None, [None])),
            *(("loss", v) for v in ("hinge", 5, [])),
            *(("init", v) for v in ("random", 5, None, "normal:" + "9" * 999)),
            *(("input_scale", v) for v in ("1", None, float("nan"), 1e39, [1])),
            *(("seed", v) for v in (-1, 0.5, "0", None, [1])),
            *(("precision", v) for v in ("exact", 1)),
            ("dropout", 0.5),
            ("dtype", "float32"),
        ]
    },
    **{f"no {name}": json.dumps({k: v for k, v in FACTS.items() if k != name}) for name in FACTS},
}


def right_file(path):
    MLP([3, 2]).save(path)
    return path.read_bytes()


def mapped_header(header):
    """A safetensors file of only a header, whose length is as it says."""
    return len(header).to_bytes(8, "little") + header


# Files that are no safetensors at all.
FILES = {
    "empty": b"",
    "text": b"# a model\n" * 10,
    "zeros": bytes(1000),
    "garbage": np.random.default_rng(0).bytes(1000),
    "pickle": b"\x80\x04\x95\x0f\x00\x00\x00",
    "huge header": (2**63).to_bytes(8, "little") + b"{}",
    "no JSON": mapped_header(b"{" * 50),
    "deep JSON": mapped_header(b'{"a":' * 50_000),
    "beyond the end": mapped_header(b'{"w1":{"dtype":"F32","shape":[1099511627776,2],"data_offsets":[0,8]}}'),
    "unknown dtype": mapped_header(b'{"w1":{"dtype":"Q9","shape":[0],"data_offsets":[0,0]}}'),
    "not UTF-8": mapped_header(b'{"\xff":1}'),
}


def assert_not_a_model(path):
    with pytest.raises(CheckpointError) as caught:
        MLP.load(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 2000


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_round_trip(options, tmp_path, rng):
    model, path = MLP(**options), tmp_path / "model.safetensors"
    Trainer(model, SGD(0.1)).fit(
        rng.standard_normal((9, model.sizes[0])), [0, 1, 1, 0, 1, 0, 1, 0, 0], epochs=1, batch_size=4
    )
    model.parameters[0][0, 0] = np.nan
    model.parameters[1][0] = -0.0
    model.save(path)
    twin = MLP.load(path)
    for a, b in zip(twin.parameters, model.parameters, strict=True):
        assert same_bits(a, b)
    assert (
        twin._facts() == model._facts() and twin.dtype == model.dtype and os.listdir(tmp_path) == [path.name]
    )
    twin.save(str(path))
    for a, b in zip(MLP.load(str(path)).parameters, model.parameters, strict=True):
        assert same_bits(a, b)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_scale", np.nan),
        ("input_shift", "1"),
        ("precision", "exact"),
    ],
)
def test_what_load_would_refuse_is_not_saved(name, value, tmp_path):
    path = tmp_path / "model"
    content, model = right_file(path), MLP([3, 2])
    setattr(model, name, value)
    with pytest.raises((ValueError, TypeError), match=name):
        model.save(path)
    assert path.read_bytes() == content and os.listdir(tmp_path) == ["model"]


def test_others_can_read_the_file(tmp_path):
    path = tmp_path / ("n" * 250)
    MLP([3, 4, 2]).save(path)
    assert {k: v.shape for k, v in load_file(path).items()} == {
        "w1": (3, 4),
        "b1": (4,),
        "w2": (4, 2),
        "b2": (2,),
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~checkpoint._umask()


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_files_of_another_kind(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert_not_a_model(path)


def test_truncated(tmp_path):
    path = tmp_path / "model"
    content = right_file(path)
    for n in [0, 1, 7, 8, 9, 100, len(content) - 1]:
        path.write_bytes(content[:n])
        assert_not_a_model(path)


def test_no_file_at_all(tmp_path):
    for path in (tmp_path / "missing", tmp_path, tmp_path / "missing" / "model", "/dev/null", "nu\0ll"):
        assert_not_a_model(path)


@pytest.mark.parametrize("tensors", TENSORS.values(), ids=TENSORS)
def test_other_tensors(tensors, tmp_path):
    save_file(tensors, tmp_path / "foreign")
    assert_not_a_model(tmp_path / "foreign")
    save_file(tensors, tmp_path / "claims", {"mlpfast.format": "1", "mlpfast.model": json.dumps(FACTS)})
    assert_not_a_model(tmp_path / "claims")


@pytest.mark.parametrize("facts", HOSTILE.values(), ids=HOSTILE)
def test_hostile_descriptions(facts, tmp_path):
    save_file({"w1": W, "b1": B}, tmp_path / "f", {"mlpfast.format": "1", "mlpfast.model": facts})
    assert_not_a_model(tmp_path / "f")


def test_an_honest_description_loads(tmp_path):
    save_file({"w1": W, "b1": B}, tmp_path / "f", {"mlpfast.format": "1", "mlpfast.model": json.dumps(FACTS)})
    assert MLP.load(tmp_path / "f").sizes == (3, 2)
    save_file({"w1": W, "b1": B}, tmp_path / "f", {"mlpfast.format": "2", "mlpfast.model": json.dumps(FACTS)})
    assert_not_a_model(tmp_path / "f")


@pytest.mark.parametrize("where", ["missing/model", ".", "file/model", "nu\0ll", "n" * 300, "pipe"])
def test_paths_that_cannot_be_written(where, tmp_path):
    (tmp_path / "file").write_text("a file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="cannot write"):
        MLP([3, 2]).save(tmp_path / where)
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"] and (tmp_path / "file").read_text() == "a file"


def test_a_folder_without_permission(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(CheckpointError, match="closed"):
        MLP([3, 2]).save(tmp_path / "closed" / "model")


@pytest.mark.parametrize("function", ["open", "fsync"])
def test_a_folder_that_cannot_be_synced(function, tmp_path, monkeypatch):
    """One that may not be read, or of a file system that refuses: the file is in its place by then."""
    real = getattr(os, function)

    def fail_for_folders(what, *arguments):
        if os.path.isdir(what):
            raise OSError(22, "Invalid argument")
        return real(what, *arguments)

    monkeypatch.setattr(os, function, fail_for_folders)
    MLP([3, 2]).save(tmp_path / "model")
    assert MLP.load(tmp_path / "model").sizes == (3, 2) and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("function", ["replace", "fsync", "chmod"])
def test_a_failure_leaves_the_existing_file(function, tmp_path, monkeypatch):
    path = tmp_path / "model"
    content = right_file(path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(CheckpointError, match=r"model.*No space left"):
        MLP([9, 9]).save(path)
    assert path.read_bytes() == content and os.listdir(tmp_path) == ["model"]
