"""Gaussians to start training from, as PLY with the fields that gsplat and the INRIA trainer read and write."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from qvggt.export.ply import write_vertices
from qvggt.export.points import PointCloud
from qvggt.options import Unit
from qvggt.types import PathLike

SH_DEGREE_0 = 0.28209479177387814
"""Spherical harmonic of degree 0, by which ``f_dc`` is multiplied to give a color minus one half."""
_OPACITY = 0.1
_REST = 45
"""Coefficients of degrees 1 to 3, all channels; they start at zero."""
_NEIGHBORS = 3
_SMALLEST = 1e-7
"""Least mean squared distance to the neighbors."""

_FIELDS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
    *(f"f_rest_{index}" for index in range(_REST)),
    *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def write_splat(path: PathLike, cloud: PointCloud, unit: Unit = "model") -> None:
    """Write one isotropic Gaussian per point.

    Its scale is the root mean square distance to its three nearest neighbors, as both trainers initialize it. Stored
    are logarithms of scales, the logit of the opacity 0.1, quaternions w x y z of no rotation, and colors as spherical
    harmonics of degree 3 of which only degree 0 is not zero. Axes and unit are those of ``write_ply``.

    Args:
        path: of the file.
        cloud: at least one point.
        unit: unit of lengths, which a comment states.

    Raises:
        QvggtError: if the file cannot be written.
    """
    vertices = np.zeros(len(cloud), [(name, "<f4") for name in _FIELDS])
    scale = np.log(neighbor_distance(cloud.points))
    for index, name in enumerate(("x", "y", "z")):
        vertices[name] = cloud.points[:, index]
        vertices[f"f_dc_{index}"] = (cloud.colors[:, index] / 255 - 0.5) / SH_DEGREE_0
        vertices[f"scale_{index}"] = scale
    vertices["opacity"] = np.log(_OPACITY / (1 - _OPACITY))
    vertices["rot_0"] = 1
    write_vertices(path, vertices, unit)


def neighbor_distance(points: np.ndarray) -> np.ndarray:
    """Return [N] the root mean square distance of points [N, 3] to their three nearest neighbors, fewer if N < 4."""
    count = min(_NEIGHBORS, len(points) - 1)
    if count == 0:
        return np.full(len(points), np.sqrt(_SMALLEST))
    distances = KDTree(points).query(points, k=count + 1)[0][:, 1:]  # [N, count], without the point itself
    return np.sqrt(np.maximum((distances**2).mean(1), _SMALLEST))
