"""Arrays of frames in files, for sequences that do not fit in memory: written and read a few frames at a time."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from qvggt.files.arrays import npy_header
from qvggt.files.write import sync


class StoredArray(np.ndarray):
    """Read-only array in a mapped file. Indexing it copies that part to memory; pages of the file are not kept there.

    An operation on the whole array reads all of it.
    """

    mapped: mmap.mmap | None = None
    """The mapped file; None for views and results of operations."""

    def __getitem__(self, index: Any) -> Any:
        if self.mapped is None:
            return super().__getitem__(index)
        part = np.array(super().__getitem__(index))
        if hasattr(self.mapped, "madvise"):  # Windows has none, and removes pages from memory by itself
            self.mapped.madvise(mmap.MADV_DONTNEED)
        return part

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return np.asarray(array)[()] if return_scalar else np.asarray(array)


class FrameStore:
    """Arrays [S, ...] in the ``.npy`` files of a folder, written in ranges of frames.

    Args:
        folder: which exists.
        count: number of frames S.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self._count = count

    def write(self, name: str, start: int, values: np.ndarray) -> None:
        """Write the values of the frames from ``start`` on; 0 starts the array anew."""
        header = npy_header((self._count, *values.shape[1:]), values.dtype)
        with open(self.folder / f"{name}.npy", "wb" if start == 0 else "r+b") as file:
            if start == 0:
                file.write(header)
                file.truncate(len(header) + self._count * values[0].nbytes)
            file.seek(len(header) + start * values[0].nbytes)
            file.write(np.ascontiguousarray(values).data)

    def write_each(self, name: str, frames: Iterable[np.ndarray]) -> None:
        """Write an array frame by frame."""
        for index, values in enumerate(frames):
            self.write(name, index, values[None])

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        for path in self.folder.glob("*.npy"):
            sync(path)

    def array(self, name: str) -> StoredArray:
        """Return an array that was written; frames that were not are zero."""
        mapped = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        array = mapped.view(StoredArray)
        array.mapped = mapped._mmap
        return array


class ArrayQueue:
    """Arrays of any shape in a temporary file, read in the order in which they were appended."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  open as long as the queue exists
        self._count = 0

    def append(self, array: np.ndarray) -> None:
        """Write an array behind the others."""
        npy.write_array(self._file, np.ascontiguousarray(array), allow_pickle=False)
        self._count += 1

    def __iter__(self) -> Iterator[np.ndarray]:
        self._file.seek(0)
        for _ in range(self._count):
            yield npy.read_array(self._file, allow_pickle=False)
