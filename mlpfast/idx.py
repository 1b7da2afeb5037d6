"""IDX files, plain or gzipped: the format of the MNIST files.

Files come from strangers, so a header is believed only as far as the bytes behind it allow: memory and
inflated data stay within what was announced, and that within what the file can hold.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlpfast.arguments import PathLike, file_path
from mlpfast.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

# IDX: 00 00, element type, number of dimensions, big-endian uint32 dimensions, elements in row-major order.
_UINT8 = 0x08
_IDX_TYPES = {_UINT8: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_MAX_BYTES = 2 << 30
_MAX_DEFLATE_RATIO = 1032  # two bits for a match of 258 bytes
_CHUNK = 1 << 16


def read_idx(path: PathLike) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, the format of the MNIST files, plain or gzipped (told by its first bytes).

    Parameters
    ----------
    path : path
        A regular file that holds one array, or one gzip member with it, and nothing else.

    Returns
    -------
    ndarray, uint8
        C-contiguous, of the 1 to 4 dimensions in the file's header, 1 byte to 2 GiB.

    Raises
    ------
    DataError
        The file is missing, unreadable, or anything other than the above; the text names it and the offset,
        which in a gzipped file counts decompressed bytes.

    Examples
    --------
    >>> from tempfile import NamedTemporaryFile
    >>> with NamedTemporaryFile() as file:
    ...     _ = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    ...     file.flush()
    ...     read_idx(file.name)
    array([7, 8, 9], dtype=uint8)
    """
    from pathlib import Path  # slow to import, and not needed for training

    path = Path(file_path("read_idx", "path", path))
    with reading(path) as file:
        contents = _Contents(path, file)
        shape = _read_shape(contents)
        elements = np.empty(math.prod(shape), np.uint8)
        contents.fill(elements.data)
        contents.expect_end()
    return elements.reshape(shape)


def _read_shape(contents: _Contents) -> tuple[int, ...]:
    """Read the header; the shape returned is one that the file can hold."""
    zeros, kind, ndim = struct.unpack(">HBB", contents.take(4))
    if zeros != 0:
        raise contents.error(f"not an IDX file, begins with 0x{zeros:04X} instead of 0", at=0)
    if kind != _UINT8:
        found = _IDX_TYPES.get(kind, "unknown")
        raise contents.error(f"elements of type 0x{kind:02X} ({found}), only 0x08 (uint8) is read", at=2)
    if not 1 <= ndim <= 4:
        raise contents.error(f"{ndim} dimensions, expected 1 to 4", at=3)
    shape: tuple[int, ...] = struct.unpack(f">{ndim}I", contents.take(4 * ndim))
    size = math.prod(shape)
    if not 1 <= size <= _MAX_BYTES:
        raise contents.error(f"shape {list(shape)} of {size} bytes, expected 1 to {_MAX_BYTES}", at=4)
    left = contents.max_size - contents.offset
    if size > left:
        raise contents.error(f"truncated: shape {list(shape)} needs {size} bytes, at most {left} follow")
    return shape


class _Contents:
    """What a file holds, plain or in one gzip member, as a stream that inflates no more than is asked for."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        gzipped = file.peek(2)[:2] == b"\x1f\x8b"
        self._path, self._file = path, file
        self._inflater = zlib.decompressobj(wbits=31) if gzipped else None
        self.max_size = os.fstat(file.fileno()).st_size * (_MAX_DEFLATE_RATIO if gzipped else 1)
        self.offset = 0

    def error(self, reason: str, at: int | None = None) -> DataError:
        return DataError(f"{self._path}: at offset {self.offset if at is None else at}: {reason}")

    def take(self, size: int) -> bytes:
        buffer = bytearray(size)
        self.fill(memoryview(buffer))
        return bytes(buffer)

    def fill(self, buffer: memoryview) -> None:
        while buffer:
            piece = self._read(min(len(buffer), _CHUNK))
            if not piece:
                raise self.error(f"truncated: {len(buffer)} more bytes expected")
            buffer[: len(piece)] = piece
            buffer = buffer[len(piece) :]
            self.offset += len(piece)

    def expect_end(self) -> None:
        if self._read(1):
            raise self.error("more data than the header announces")
        if self._file.read(1) or (self._inflater and self._inflater.unused_data):
            raise self.error("something follows the gzip member")

    def _read(self, size: int) -> bytes:
        """Return 1 to `size` bytes, or none at the end. `size` is not 0, which zlib takes for no bound."""
        if self._inflater is None:
            return self._file.read(size)
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._file.read(_CHUNK)
            try:
                piece = self._inflater.decompress(packed, size)
            except zlib.error as error:
                raise self.error(f"damaged gzip data: {error}") from error
            if piece:
                return piece
            if not packed:
                raise self.error("truncated gzip data")
        return b""


@contextmanager
def reading(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file (a pipe would block); whatever the system refuses becomes a DataError."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file, or not a regular one")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
