"""Writing safetensors files tensor by tensor, with a hash each (``qvggt.weights.tensor_file`` draws the format)."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from qvggt.weights.tensor_file import DTYPES, Entry, hash_bytes

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TensorFileWriter:
    """Writes a file whose tensors' types and shapes are known beforehand, one tensor at a time in any order.

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
            ValueError: the name is unknown or was written before, or the type or shape is not the layout's.
        """
        entry = self.layout.get(name)
        if entry is None or name in self.hashes:
            raise ValueError(f"tensor {name!r} is not in the file's layout, or was written before")
        if (tensor.dtype, tuple(tensor.shape)) != (entry.dtype, entry.shape):
            raise ValueError(
                f"expected {name!r} as {entry.dtype} {entry.shape}, got {tensor.dtype} {tuple(tensor.shape)}"
            )
        # A tensor of one element is contiguous whatever its strides, and a view as bytes may refuse those.
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


def _reserve(descriptor: int, size: int) -> None:
    # Detects a full disk before hours of work; on file systems that cannot reserve, the file simply grows.
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
