"""mlpfast.idx: which files are read, which are refused, and at what cost in memory."""

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from idx_files import Store, as_stored, header, idx

from mlpfast.errors import DataError
from mlpfast.idx import read_idx

SMALL = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])
MIB = 1 << 20


def refusal(path: Path, contents: bytes) -> str:
    """The text with which a file of these contents is refused; it names the file and an offset."""
    path.write_bytes(contents)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: at offset ")
    return text.removeprefix(f"{path}: at offset ")


def peak_of(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@as_stored
@pytest.mark.parametrize("shape", [(1,), (70_000,), (3, 5), (2, 3, 4), (2, 1, 3, 2)])
def test_read_idx_returns_what_was_written(tmp_path: Path, store: Store, shape: tuple[int, ...]) -> None:
    """Every number of dimensions; 70,000 elements take more than one chunk."""
    wanted = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    path = tmp_path / "file"
    path.write_bytes(store(idx(wanted)))
    found = read_idx(path)
    assert found.dtype == np.uint8 and found.flags.c_contiguous and found.flags.writeable
    np.testing.assert_array_equal(found, wanted, strict=True)


def test_read_idx_tells_gzip_by_content_not_by_name(tmp_path: Path) -> None:
    """Browsers unpack a .gz and keep its name."""
    (tmp_path / "file.gz").write_bytes(SMALL)
    (tmp_path / "file").write_bytes(gzip.compress(SMALL))
    for name in ("file.gz", "file"):
        assert read_idx(str(tmp_path / name)).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("level", [0, 9])
def test_read_idx_needs_no_second_copy(tmp_path: Path, level: int) -> None:
    """The array is the only large allocation, for incompressible and for highly compressible files."""
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((8, MIB), np.uint8)), level))
    assert peak_of(lambda: read_idx(path)) < 9 * MIB


@as_stored
@pytest.mark.parametrize("size", range(len(SMALL)))
def test_truncated_contents(tmp_path: Path, store: Store, size: int) -> None:
    """Wherever the contents end, before, within or after the header."""
    assert "truncated" in refusal(tmp_path / "file", store(SMALL[:size]))


@pytest.mark.parametrize("size", range(len(gzip.compress(SMALL))))
def test_truncated_gzip(tmp_path: Path, size: int) -> None:
    """A stopped download: also when only the checksum, with all the data before it, is incomplete."""
    assert "truncated" in refusal(tmp_path / "file.gz", gzip.compress(SMALL)[:size])


@as_stored
@pytest.mark.parametrize("extra", [b"\0", b"\0" * 100_000], ids=["one byte", "many"])
def test_oversized_contents(tmp_path: Path, store: Store, extra: bytes) -> None:
    """Bytes after the last element mean that the header is wrong."""
    text = refusal(tmp_path / "file", store(SMALL + extra))
    assert text.startswith("18: more data than the header announces")


@pytest.mark.parametrize("extra", [b"\0", b"garbage", gzip.compress(b""), gzip.compress(SMALL)])
def test_bytes_after_the_gzip_member(tmp_path: Path, extra: bytes) -> None:
    """gzip.open would skip zeros and join members; a published file has neither."""
    assert "follows the gzip member" in refusal(tmp_path / "file.gz", gzip.compress(SMALL) + extra)


@pytest.mark.parametrize("position", [2, 3, 10, -8, -1], ids=["method", "flags", "deflate", "crc", "length"])
def test_damaged_gzip(tmp_path: Path, position: int) -> None:
    """Each part that zlib checks: a flipped bit in the header, in the data, in either checksum."""
    packed = bytearray(gzip.compress(SMALL))
    packed[position] ^= 0xE6
    assert "damaged gzip data" in refusal(tmp_path / "file.gz", bytes(packed))


HEADERS = {
    "magic": (b"\1\0\x08\x01" + b"\0\0\0\1" + b"x", "0: not an IDX file, begins with 0x0100"),
    "text": (b"<html><body>not found", "0: not an IDX file, begins with 0x3C68"),
    "float32": (b"\0\0\x0d\x01" + b"\0\0\0\1" + b"xxxx", r"2: elements of type 0x0D (float32)"),
    "int8": (b"\0\0\x09\x01" + b"\0\0\0\1" + b"x", r"2: elements of type 0x09 (int8)"),
    "type 7": (b"\0\0\x07\x01" + b"\0\0\0\1" + b"x", r"2: elements of type 0x07 (unknown)"),
    "ndim 0": (b"\0\0\x08\0" + b"x", "3: 0 dimensions"),
    "ndim 5": (header(1, 1, 1, 1, 1) + b"x", "3: 5 dimensions"),
    "ndim 255": (b"\0\0\x08\xff" + bytes(2000), "3: 255 dimensions"),
    "empty": (header(0, 28, 28), "4: shape [0, 28, 28] of 0 bytes"),
    "empty, huge": (header(0, 2**32 - 1, 2**32 - 1, 2**32 - 1), "4: shape [0, 4294967295,"),
    "wraps to 0": (header(1 << 22, 1 << 21, 1 << 21), "4: shape [4194304, 2097152, 2097152]"),
    "wraps to 6": (header(2, 3, 2**32 - 1, 2**32 - 1) + b"123456", "4: shape [2, 3, 4294967295,"),
    "2 GiB + 1": (header((2 << 30) + 1), "4: shape [2147483649] of 2147483649 bytes"),
    "2 GiB": (header(2 << 30), "8: truncated: shape [2147483648] needs 2147483648 bytes, at most"),
}


@as_stored
@pytest.mark.parametrize(("contents", "text"), HEADERS.values(), ids=HEADERS)
def test_bad_header(tmp_path: Path, store: Store, contents: bytes, text: str) -> None:
    """Refused for the right reason, at the offset of the wrong field, before anything is allocated."""
    path = tmp_path / "file"
    assert peak_of(lambda: refusal(path, store(contents))) < MIB
    assert refusal(path, store(contents)).startswith(text)


@pytest.mark.parametrize("claim", [3, MIB, 2 << 30], ids=["small", "1 MiB", "2 GiB"])
def test_gzip_bomb(tmp_path: Path, claim: int) -> None:
    """64 MiB of zeros in 64 KiB: neither what is packed nor what is claimed gets allocated."""
    path, packed = tmp_path / "file.gz", gzip.compress(header(claim) + bytes(64 * MIB))
    assert len(packed) < MIB // 8
    assert peak_of(lambda: refusal(path, packed)) < 4 * MIB


def test_claim_within_the_ratio_of_deflate_but_not_met(tmp_path: Path) -> None:
    """The bound by the packed size lets this claim pass; the data then ends early."""
    packed = gzip.compress(header(20_000) + bytes(range(256)), 0)
    assert refusal(tmp_path / "file.gz", packed) == "264: truncated: 19744 more bytes expected"


def test_not_a_regular_file(tmp_path: Path) -> None:
    """Nothing there, a folder, and a pipe: to open that would wait for a writer for ever."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "pipe"):
        with pytest.raises(DataError, match=f"{path}: no such file, or not a regular one"):
            read_idx(path)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions are simulated: root may read everything."""

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "file"
    path.write_bytes(SMALL)
    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(DataError, match="file: cannot be read: Permission denied"):
        read_idx(path)
