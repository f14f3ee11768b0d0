"""Read the files that datasets consist of; errors name the file and say how to fix it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from qvggt.files.arrays import read_npy
from qvggt.files.read import open_regular, read_text, reading
from qvggt.images.files import IMAGE_SUFFIXES, natural_key
from qvggt.types import PathLike, QvggtError

AGAIN = "download or extract it again"
"""What to do about a missing or damaged file of a dataset."""

_FAR_M, _NEAR_M = 10.0, 1e-3


def require_folder(path: PathLike, holds: str) -> Path:
    """Return ``path`` if it is a folder, else raise a `QvggtError` that says what it should hold."""
    path = Path(path)
    with reading(path):
        if not path.is_dir():
            raise QvggtError(f"the folder {path} does not exist: give the folder that holds {holds}")
    return path


def read_matrix(path: Path, rows: int, columns: int, what: str) -> np.ndarray:
    """Return a [rows, columns] float64 matrix from a text file of numbers; NaN and infinity are allowed."""
    text = read_text(path, AGAIN, what)
    with reading(path, AGAIN, what):
        values = np.array([float(word) for word in text.split()], dtype=np.float64)
        if values.size != rows * columns:
            raise ValueError(f"{values.size} numbers, not {rows}x{columns}")
        return values.reshape(rows, columns)


def read_photo(path: Path) -> Image.Image:
    """Return an image file as RGB, its EXIF orientation not applied: calibrated cameras refer to the stored pixels."""
    with reading(path, AGAIN, "the image"):
        photo = _open(path, "the image").convert("RGB")
    photo.info = {}
    return photo


def photo_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) of an image file as stored, reading its header only."""
    return _open(path, "the image", pixels=False).size


def read_uint16(path: Path, what: str, remedy: str = AGAIN) -> np.ndarray:
    """Return a 16-bit one-channel image file as uint16 [h, w]."""
    values = np.asarray(_open(path, what, remedy=remedy))
    if values.ndim != 2 or values.dtype.kind not in "iu" or values.dtype.itemsize < 2:
        raise QvggtError(f"{what} {path} is not a 16-bit image with one channel: {remedy}")
    return values.astype(np.uint16)


def read_mask(path: Path, what: str) -> np.ndarray:
    """Return an image file as bool [h, w], true where a pixel is not zero."""
    values = np.asarray(_open(path, what))
    return np.any(values, axis=-1) if values.ndim == 3 else values != 0


def read_millimeters(path: Path) -> np.ndarray:
    """Return a depth map stored as 16-bit millimeters, in meters as float32 [h, w].

    Values that are no measurement become 0: 65535, more than 10 m, less than 1 mm.
    """
    raw = read_uint16(path, "the depth map")
    depth_m = raw.astype(np.float32) / np.float32(1000)
    depth_m[(raw == 65535) | (depth_m > _FAR_M) | (depth_m < _NEAR_M)] = 0
    return depth_m


def read_depth_array(path: Path) -> np.ndarray:
    """Return a depth map stored as a ``.npy`` file of floats, as float32 [h, w] in the unit it is stored in."""
    values = read_npy(path, "export it again", "the depth map")
    if values.ndim != 2 or values.dtype.kind != "f":
        raise QvggtError(f"the depth map {path} is not an array [h, w] of floats: export it again")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and so is not valid
        return values.astype(np.float32)


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files in a folder, ``img2`` before ``img10``; none if there is no folder."""
    if not folder.is_dir():
        return []
    paths = (Path(entry.name) for entry in folder.iterdir() if not entry.name.startswith("."))
    return [path.name for path in sorted((p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)]


def _open(path: Path, what: str, pixels: bool = True, remedy: str = AGAIN) -> Image.Image:
    with reading(path, remedy, what), _bounded_size(), open_regular(path) as file, Image.open(file) as image:
        if pixels:
            image.load()
        return image


@contextmanager
def _bounded_size() -> Iterator[None]:
    """Turn Pillow's refusal of huge images, which is no ``OSError``, into a ``ValueError``."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
