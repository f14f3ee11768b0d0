"""Read ``.npy`` and ``.npz`` files that may be damaged or hostile, nothing being unpickled; write ``.npz`` files."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from qvggt.files.read import INTACT, open_regular, reading
from qvggt.types import PathLike

_FREE_BYTES, _MAX_EXPANSION = 1 << 26, 100
_CHUNK = 1 << 22


def read_npy(path: PathLike, remedy: str = INTACT, what: str = "") -> np.ndarray:
    """Return the array of a ``.npy`` file.

    Raises:
        QvggtError: the file is missing, unreadable or damaged, or would have to be unpickled.
    """
    with reading(path, remedy, what), open_regular(path) as file:
        return _read_array(file, Path(path).stat().st_size)


def read_npz(path: PathLike, names: Collection[str], remedy: str = INTACT, what: str = "") -> dict[str, np.ndarray]:
    """Return those of some named arrays that a ``.npz`` file holds, with their checksums checked.

    Raises:
        QvggtError: the file is missing, unreadable or damaged, an array would have to be unpickled, or the arrays are
            larger than 64 MiB and 100 times the file.
    """
    with reading(path, remedy, what), open_regular(path) as file, zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if any(info.flag_bits & 1 for info in members.values()):
            raise ValueError("it is encrypted")
        for info in members.values():
            archive.open(info).close()  # a name that differs from the one in front of the data is damage
        wanted = {name: members[name] for name in names if name in members}
        limit = max(_FREE_BYTES, _MAX_EXPANSION * Path(path).stat().st_size)
        if sum(info.file_size for info in wanted.values()) > limit:
            raise ValueError(f"it expands to more than {limit} bytes")
        arrays = {}
        for name, info in wanted.items():
            with archive.open(info) as member:
                arrays[name] = _read_array(member, info.file_size)
                if member.read(1):  # reading to the end checks the checksum
                    raise ValueError(f"{name} is longer than it says")
        return arrays


def write_npz(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """Write the file that ``np.savez`` writes, one element of each array's first axis at a time."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(npy_header(array.shape, array.dtype))
                for index in range(len(array)):
                    member.write(np.ascontiguousarray(array[index : index + 1]).tobytes())


def npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Return the first bytes of the ``.npy`` file of an array in C order."""
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    return header.getvalue()


def _read_array(file: IO[bytes], size: int) -> np.ndarray:
    """Read one array from a file that holds nothing else and is ``size`` bytes long."""
    start = file.read(min(size, npy.MAGIC_LEN + 4 + (1 << 16)))
    header = io.BytesIO(start)
    version = npy.read_magic(header)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read_header(header)
    if dtype.hasobject or not dtype.itemsize or any(length < 0 for length in shape):
        raise ValueError(f"an array of type {dtype} and shape {shape}")
    data_start = header.tell()
    count = math.prod(shape) * dtype.itemsize
    if data_start + count != size:
        raise ValueError(f"{size - data_start} bytes of data where {dtype} {shape} takes {count}")
    data = bytearray(count)
    view, at = memoryview(data), len(start) - data_start
    view[:at] = start[data_start:]
    while at < count:
        block = file.read(min(_CHUNK, count - at))
        if not block:
            raise ValueError("it ends early")
        view[at : at + len(block)] = block
        at += len(block)
    array = np.frombuffer(data, dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")
