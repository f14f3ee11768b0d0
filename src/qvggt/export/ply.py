"""Point clouds as binary PLY."""

from __future__ import annotations

import numpy as np

from qvggt.export.points import PointCloud
from qvggt.files import new_file
from qvggt.options import Unit
from qvggt.types import PathLike

_VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("confidence", "<f4")]
)
_UNITS = {"model": "unit of the model", "meter": "meters"}
_PLY_TYPES = {"<f4": "float", "|u1": "uchar"}


def write_ply(path: PathLike, cloud: PointCloud, unit: Unit = "model") -> None:
    """Write a cloud as binary little-endian PLY with x y z, red green blue and confidence per vertex.

    Coordinates are those of the cloud: OpenCV axes (x right, y down, z forward of the first camera), in ``unit``,
    which a comment states.

    Raises:
        QvggtError: if the file cannot be written.
    """
    vertices = np.empty(len(cloud), _VERTEX)
    for axis, name in enumerate(("x", "y", "z")):
        vertices[name] = cloud.points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = cloud.colors[:, channel]
    vertices["confidence"] = cloud.confidence
    write_vertices(path, vertices, unit)


def write_vertices(path: PathLike, vertices: np.ndarray, unit: Unit) -> None:
    """Write a structured array of ``<f4`` and ``u1`` fields as binary PLY, one property a field.

    Raises:
        QvggtError: if the file cannot be written.
    """
    properties = [f"property {_PLY_TYPES[vertices.dtype[name].str]} {name}" for name in vertices.dtype.names or ()]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment qvggt; OpenCV axes: x right, y down, z forward of the first camera; {_UNITS[unit]}",
        f"element vertex {len(vertices)}",
        *properties,
        "end_header",
    ]
    with new_file(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(vertices.data)
