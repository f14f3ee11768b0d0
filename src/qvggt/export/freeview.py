"""Free view of a scene: from behind and above its cameras, turned a little to the side."""

from __future__ import annotations

import numpy as np

_TURN_RAD, _ELEVATION_RAD = 0.42, 0.52
_SURROUNDING = 0.35
"""Distance of the cameras' mean from the scene's middle, in their spread, below which they surround the scene."""

_CEILING_BAND, _CEILING_SHARE = 0.1, 0.25
"""Share of the scene's height in which a ceiling is, and the share of all points from which on there is one."""


def height_below_ceiling(heights: np.ndarray) -> float:
    """Return the height below which a viewer above the cameras sees in: infinity if there is no ceiling."""
    low, high = np.percentile(heights, (1, 99))
    limit = high - _CEILING_BAND * (high - low)
    return float(limit) if np.mean(heights > limit) > _CEILING_SHARE else np.inf


def view_angles(middle: np.ndarray, centers: np.ndarray) -> tuple[float, float]:
    """Return the azimuth and elevation, in radians, at which a viewer sees the scene as its cameras do.

    Azimuth 0 is on the +z side, as the first camera is; pi/2 on the +x side.

    Args:
        middle: [3] middle of the scene in upright axes (x right, y up, z backward).
        centers: [S, 3] camera positions in upright axes; S may be 0.
    """
    azimuth = 0.0
    if len(centers):
        away = (centers.mean(0) - middle)[[0, 2]]
        spread = np.linalg.norm((centers - centers.mean(0))[:, [0, 2]], axis=1).max()
        if np.linalg.norm(away) > _SURROUNDING * spread:
            azimuth = float(np.arctan2(*away))
    return azimuth + _TURN_RAD, _ELEVATION_RAD
