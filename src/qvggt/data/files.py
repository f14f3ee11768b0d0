"""Reading the files that datasets consist of, with errors that name the file and say what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qvggt.images.files import IMAGE_SUFFIXES, natural_key
from qvggt.types import PathLike, QvggtError

_FAR_M, _NEAR_M = 10.0, 1e-3


def require_folder(path: PathLike, holds: str) -> Path:
    """Return ``path`` if it is a folder, else raise a `QvggtError` that says what it should hold."""
    path = Path(path)
    if not path.is_dir():
        raise QvggtError(f"the folder {path} does not exist: give the folder that holds {holds}")
    return path


def read_text(path: Path, what: str) -> str:
    """Return a text file's content; ``what`` says in the error what was looked for."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise QvggtError(
            f"{what} is missing: {path} was looked for; check the data folder or download the file"
        ) from error
    except UnicodeDecodeError as error:
        raise QvggtError(f"{what} {path} is not a text file: download it again") from error


def read_json(path: Path, what: str) -> Any:
    """Return the content of a JSON file, gzip-compressed if its suffix is ``.jgz`` or ``.gz``."""
    try:
        if path.suffix in (".jgz", ".gz"):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return json.load(file)
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise QvggtError(
            f"{what} is missing: {path} was looked for; check the data folder or download the file"
        ) from error
    except (OSError, EOFError, ValueError) as error:
        raise QvggtError(f"{what} {path} is damaged ({error}): download it again") from error


def read_matrix(path: Path, rows: int, columns: int, what: str) -> np.ndarray:
    """Return a [rows, columns] float64 matrix from a text file of numbers; NaN and infinity are allowed."""
    try:
        values = [float(word) for word in read_text(path, what).split()]
    except ValueError as error:
        raise QvggtError(f"{what} {path} is damaged ({error}): download it again") from error
    if len(values) != rows * columns:
        raise QvggtError(f"{what} {path} holds {len(values)} numbers, not {rows}x{columns}: download it again")
    return np.array(values, dtype=np.float64).reshape(rows, columns)


def read_photo(path: Path) -> Image.Image:
    """Return an image file as RGB in the pixel order it is stored in.

    EXIF orientation is left aside and dropped: calibrated cameras refer to the stored pixels.
    """
    photo = _open(path, "the image").convert("RGB")
    photo.info = {}
    return photo


def photo_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) of an image file as stored, reading its header only."""
    return _open(path, "the image", pixels=False).size


def read_uint16(path: Path, what: str) -> np.ndarray:
    """Return a 16-bit one-channel image file as uint16 [h, w]."""
    values = np.asarray(_open(path, what))
    if values.ndim != 2 or values.dtype.kind not in "iu" or values.dtype.itemsize < 2:
        raise QvggtError(f"{what} {path} is not a 16-bit image with one channel: download it again")
    return values.astype(np.uint16)


def read_mask(path: Path, what: str) -> np.ndarray:
    """Return an image file as bool [h, w], true where a pixel is not zero."""
    values = np.asarray(_open(path, what))
    return np.any(values, axis=-1) if values.ndim == 3 else values != 0


def read_millimeters(path: Path) -> np.ndarray:
    """Return a depth map stored as 16-bit millimeters, in meters as float32 [h, w].

    What is not a measurement becomes 0: 65535, more than 10 m, less than 1 mm.
    """
    raw = read_uint16(path, "the depth map")
    depth_m = raw.astype(np.float32) / np.float32(1000)
    depth_m[(raw == 65535) | (depth_m > _FAR_M) | (depth_m < _NEAR_M)] = 0
    return depth_m


def read_depth_array(path: Path) -> np.ndarray:
    """Return a depth map stored as a ``.npy`` file of floats, as float32 [h, w] in the unit it is stored in."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise QvggtError(f"the depth map {path} cannot be read ({error}): export it again") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind != "f":
        raise QvggtError(f"the depth map {path} is not an array [h, w] of floats: export it again")
    return values.astype(np.float32)


def image_names(folder: Path) -> list[str]:
    """Return the names of a folder's image files, ``img2`` before ``img10``; none if the folder is absent."""
    if not folder.is_dir():
        return []
    paths = (Path(entry.name) for entry in folder.iterdir() if not entry.name.startswith("."))
    return [path.name for path in sorted((p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)]


def _open(path: Path, what: str, pixels: bool = True) -> Image.Image:
    try:
        with Image.open(path) as image:
            if pixels:
                image.load()
            return image
    except FileNotFoundError as error:
        raise QvggtError(f"{what} is missing: {path} was looked for; download or extract it") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise QvggtError(f"{what} {path} cannot be read ({error}): download or extract it again") from error
