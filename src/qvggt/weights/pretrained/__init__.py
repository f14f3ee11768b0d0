"""What qvggt carries with it: the nano model's weights and a sample scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qvggt.types import QvggtError

SAMPLE_SCENE = Path(__file__).parent / "sample"
"""Photographs of a procedural room, with its true cameras and depth in ``truth.npz``."""


def sample_images() -> list[Path]:
    """Return the sample scene's photographs in order.

    Raises:
        QvggtError: the installation is not complete.
    """
    paths = sorted(SAMPLE_SCENE.glob("*.jpg"))
    if not paths:
        raise QvggtError(f"the sample scene is missing from {str(SAMPLE_SCENE)!r}: install qvggt again")
    return paths


def sample_cameras() -> np.ndarray:
    """Return the true cameras [8, 3, 4] of the sample scene, ``cam_from_world`` in OpenCV axes and meters."""
    with np.load(SAMPLE_SCENE / "truth.npz", allow_pickle=False) as truth:
        return truth["cam_from_world"].astype(np.float64)
