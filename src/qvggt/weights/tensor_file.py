"""Safetensors files: the header, read and checked before anything in the file is trusted, and hashes of tensors.

8 bytes     little-endian length n of the header
n bytes     header: JSON {name: {"dtype", "shape", "data_offsets": [start, end]}, "__metadata__": {...}}, and spaces
the rest    data: every tensor at its offsets, row-major, little-endian
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from qvggt.files import explain
from qvggt.files.read import open_regular, parse_json, reading
from qvggt.types import QvggtError

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_MAX_HEADER = 100_000_000  # the format's own limit
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Entry:
    """Type, shape and place of one tensor.

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

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.end - self.start


@dataclass(frozen=True)
class TensorFile:
    """A file's header.

    Attributes:
        path: the file.
        entries: every tensor by name.
        metadata: the header's strings.
        size: bytes of the whole file.
        header_hash: hash of length and header.
    """

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    size: int
    header_hash: str


def read_header(path: Path) -> TensorFile:
    """Read and check a file's header; nothing else is read.

    Raises:
        QvggtError: the file cannot be read, is cut short, or is not consistent.
    """
    name = repr(str(path))
    with reading(path), open_regular(path) as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size >= 8 and length > _MAX_HEADER:
            raise QvggtError(f"{name} is not a safetensors file: get an intact copy")
        if length > size - 8:
            raise QvggtError(f"{name} is truncated, or not a safetensors file: get an intact copy")
        text = file.read(length)
    header = parse_json(text, path, what="the header of")
    with reading(path, what="the header of"):
        metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
        entries = {key: _entry(values, 8 + length) for key, values in header.items()}
    expected = 8 + length
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != expected:
            raise QvggtError(f"the header of {name} is damaged (tensors overlap or leave gaps): get an intact copy")
        expected = entry.end
    if size != expected:
        what = "is truncated" if size < expected else "has bytes to spare"
        raise QvggtError(f"{name} {what} ({size} bytes instead of {expected}): get an intact copy")
    return TensorFile(
        path, entries=entries, metadata=metadata, size=size, header_hash=hash_bytes(length.to_bytes(8, "little") + text)
    )


def hash_tensors(file: TensorFile) -> dict[str, str]:
    """Return the hash of each tensor's bytes, read in small pieces.

    Raises:
        QvggtError: the file cannot be read.
    """
    hashes, buffer = {}, memoryview(bytearray(_CHUNK))
    try:
        with open(file.path, "rb", buffering=0) as stream:
            for name, entry in sorted(file.entries.items(), key=lambda item: item[1].start):
                digest, left = hashlib.sha256(), entry.nbytes
                stream.seek(entry.start)
                while left > 0 and (count := stream.readinto(buffer[: min(left, _CHUNK)])):
                    digest.update(buffer[:count])
                    left -= count
                hashes[name] = f"sha256:{digest.hexdigest()}"
    except OSError as error:
        raise explain(error, file.path, "read") from error
    return hashes


def hash_bytes(data: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes, as ``sha256:...``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _entry(values: Mapping, data_start: int) -> Entry:
    dtype, shape = DTYPES[values["dtype"]], tuple(values["shape"])
    start, end = values["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ValueError("a size or an offset is not a whole number")
    if end - start != dtype.itemsize * math.prod(shape):
        raise ValueError("offsets do not fit the shape")
    return Entry(dtype, shape, data_start + start, data_start + end)
