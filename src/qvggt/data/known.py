"""Read what users know about a scene: camera positions and depth images. Every value is checked where it enters."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from qvggt.data.files import read_depth_array, read_uint16
from qvggt.files.read import read_text, reading
from qvggt.types import PathLike

_NO_DEPTH = 65535


def read_positions(path: PathLike) -> dict[str, np.ndarray]:
    """Return positions [3] in meters by name, from a CSV file with the columns name, x, y, z.

    A first line without numbers is a header; lines that start with ``#`` are comments.

    Raises:
        QvggtError: the file is missing or damaged, a name comes twice, or a number is not finite.
    """
    remedy, what = "expected lines of name,x,y,z in meters", "the position file"
    text = read_text(path, remedy, what)
    positions: dict[str, np.ndarray] = {}
    with reading(path, remedy, what):
        rows = csv.reader(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
        for number, row in enumerate(rows):
            if len(row) < 4:
                raise ValueError(f"a line has {len(row)} columns")
            if number == 0 and not _is_number(row[1]):
                continue
            name, place = row[0].strip(), np.array([float(word) for word in row[1:4]])
            if name in positions or not np.isfinite(place).all():
                raise ValueError(f"{name!r} comes twice" if name in positions else f"{name!r} is not finite")
            positions[name] = place
        if not positions:
            raise ValueError("it has no positions")
    return positions


def read_depth_image(path: PathLike) -> np.ndarray:
    """Return a depth image [h, w] float32 in meters, 0 where it is not known.

    16-bit PNG in millimeters (0 and 65535: not known), or NPY in meters.

    Raises:
        QvggtError: the file is missing, damaged or of another type.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return read_depth_array(path)
    raw = read_uint16(path, "the depth image", "give a 16-bit PNG in millimeters, or an NPY in meters")
    return np.where(raw == _NO_DEPTH, 0, raw).astype(np.float32) / np.float32(1000)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
