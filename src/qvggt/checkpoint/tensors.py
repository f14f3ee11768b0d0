"""Safetensors files: written tensor by tensor with a hash each, and checked before anything in them is trusted.

8 bytes     little-endian length n of the header
n bytes     header: JSON {name: {"dtype", "shape", "data_offsets": [start, end]}, "__metadata__": {...}}, and spaces
the rest    data: every tensor at its offsets, row-major, little-endian
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from qvggt.files import explain
from qvggt.types import QvggtError

DTYPES: Mapping[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MAX_HEADER = 100_000_000
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies.

    Attributes:
        dtype: its type.
        shape: its shape.
        start: first byte in the file.
        end: one past its last byte in the file.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class TensorFile:
    """A file's header.

    Attributes:
        path: the file.
        entries: every tensor by name.
        size: bytes of the whole file.
        header_hash: hash of length and header.
    """

    path: Path
    entries: Mapping[str, Entry]
    size: int
    header_hash: str


class TensorFileWriter:
    """Writes a file whose tensors' types and shapes are known, in any order, holding none of them.

    Args:
        path: a file that does not exist.
        layout: type and shape of every tensor by name.
        metadata: strings for the header.

    Attributes:
        hashes: of the tensors written so far, by name.
        header_hash: hash of length and header.
    """

    def __init__(
        self,
        path: Path,
        layout: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
        metadata: Mapping[str, str],
    ) -> None:
        # Wide types first: every tensor then starts at a multiple of its type's size.
        order = sorted(layout, key=lambda name: (-layout[name][0].itemsize, name))
        header: dict[str, object] = {"__metadata__": dict(metadata)}
        entries, end = {}, 0
        for name in order:
            dtype, shape = layout[name]
            start, end = end, end + dtype.itemsize * math.prod(shape)
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
            entries[name] = Entry(dtype, shape, start, end)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        head = len(text).to_bytes(8, "little") + text
        self.layout: Mapping[str, Entry] = entries
        self.hashes: dict[str, str] = {}
        self.header_hash = hash_bytes(head)
        self._data_start = len(head)
        self._file = open(path, "xb")  # noqa: SIM115 (closed by __exit__)
        _reserve(self._file.fileno(), len(head) + end)
        self._file.write(head)

    def write(self, name: str, tensor: Tensor) -> None:
        """Write one tensor.

        Raises:
            ValueError: the name is unknown or was written before, or type or shape differ from the layout.
        """
        entry = self.layout.get(name)
        if entry is None or name in self.hashes:
            raise ValueError(f"tensor {name!r} is not in the file's layout, or was written before")
        if (tensor.dtype, tuple(tensor.shape)) != (entry.dtype, entry.shape):
            raise ValueError(
                f"expected {name!r} as {entry.dtype} {entry.shape}, got {tensor.dtype} {tuple(tensor.shape)}"
            )
        # A tensor of one number counts as contiguous whatever its strides, and a view as bytes may refuse them.
        values = tensor.detach().cpu().contiguous().reshape(-1)
        data = values.as_strided((values.numel(),), (1,)).view(torch.uint8).numpy().data
        self._file.seek(self._data_start + entry.start)
        self._file.write(data)
        self.hashes[name] = hash_bytes(data)

    def __enter__(self) -> TensorFileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        missing = sorted(set(self.layout) - set(self.hashes))
        if missing and error is None:
            raise ValueError(f"{len(missing)} tensors were not written, {missing[0]!r} for one")


def read_header(path: Path) -> TensorFile:
    """Read and check a file's header; nothing else is read.

    Raises:
        QvggtError: the file cannot be read, is cut short, or is not consistent.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise QvggtError(f"{path} is cut short or is no safetensors file: get an intact copy")
            text = file.read(length)
    except OSError as error:
        raise explain(error, path, "read") from error
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        entries = {name: _entry(values, 8 + length) for name, values in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise QvggtError(f"the header of {path} is damaged: get an intact copy") from error
    expected = 8 + length
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != expected:
            raise QvggtError(f"the header of {path} is damaged (tensors overlap or leave gaps): get an intact copy")
        expected = entry.end
    if size != expected:
        what = "is cut short" if size < expected else "has bytes to spare"
        raise QvggtError(f"{path} {what} ({size} bytes instead of {expected}): get an intact copy")
    return TensorFile(path, entries, size, hash_bytes(length.to_bytes(8, "little") + text))


def hash_tensors(file: TensorFile) -> dict[str, str]:
    """Return the hash of every tensor's bytes, read in small pieces.

    Raises:
        QvggtError: the file cannot be read.
    """
    hashes, buffer = {}, memoryview(bytearray(_CHUNK))
    try:
        with open(file.path, "rb", buffering=0) as stream:
            for name, entry in sorted(file.entries.items(), key=lambda item: item[1].start):
                digest, left = hashlib.sha256(), entry.end - entry.start
                stream.seek(entry.start)
                while left > 0 and (count := stream.readinto(buffer[: min(left, _CHUNK)])):
                    digest.update(buffer[:count])
                    left -= count
                hashes[name] = f"sha256:{digest.hexdigest()}"
    except OSError as error:
        raise explain(error, file.path, "read") from error
    return hashes


def hash_bytes(data: bytes | memoryview) -> str:
    """Return the hash of bytes, its name in front."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _entry(values: Mapping, data_start: int) -> Entry:
    dtype, shape = DTYPES[values["dtype"]], tuple(values["shape"])
    start, end = values["data_offsets"]
    if start < 0 or end - start != dtype.itemsize * math.prod(shape):
        raise ValueError("offsets do not fit the shape")
    return Entry(dtype, shape, data_start + start, data_start + end)


def _reserve(descriptor: int, size: int) -> None:
    # A disk too full is noticed now, not after an hour's work; file systems that cannot reserve just grow the file.
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
