"""Metric scale: predictions in the model's unit to meters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qvggt.types import Prediction, QvggtError


def scaled(prediction: Prediction, factor: float) -> Prediction:
    """Return a prediction whose lengths (camera translations, depth and points) are multiplied by a factor.

    Rotations, intrinsics and the origin of the world stay as they are.

    Args:
        prediction: with any outputs.
        factor: new units per old unit, above 0.

    Raises:
        QvggtError: the factor is not a positive finite number, or lengths leave the range of float32.
    """
    if not (np.isfinite(factor) and factor > 0):
        raise QvggtError(f"a scale must be a finite number above 0, got {factor}")

    def times(values: np.ndarray | None, part: Any = ...) -> np.ndarray | None:
        if values is None:
            return None
        result = values.copy()
        with np.errstate(over="ignore"):
            result[part] = values[part].astype(np.float64) * factor
        if not np.isfinite(result[part]).all():
            raise QvggtError(f"a scale of {factor:g} makes lengths infinite: check the known length and its unit")
        return result

    return replace(
        prediction,
        cam_from_world=times(prediction.cam_from_world, np.s_[:, :, 3]),
        pose_enc=times(prediction.pose_enc, np.s_[:, :3]),
        depth=times(prediction.depth),
        world_points=times(prediction.world_points),
    )
