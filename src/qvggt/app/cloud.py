"""Points for display, sorted so that fewer or surer ones are shown by hiding parts of the cloud."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvggt.export.points import gather_points, thinned, usable_pixels
from qvggt.options import PointsFrom
from qvggt.types import Prediction, QvggtError

BINS, LEVELS = 20, 5
"""Bins of confidence, 5 percent of the points each, and levels of detail, each with twice the points of the last."""
DROP_STEP = 100 // BINS


@dataclass(frozen=True)
class DisplayCloud:
    """Points of one result, each with its bin of confidence and its level of detail.

    Attributes:
        points: [N, 3] float32, in the world of the prediction.
        colors: [N, 3] uint8, sRGB of the photographs.
        confidence: [N] float32.
        depth: [N] float32, distance along the optical axis of the camera that saw the point; 0 without cameras.
        frame: [N] int32, index of that camera.
        pixel: [N] int64, flat index into [S, H, W].
        bin: [N] uint8: bin b is left out if more than b * 5 percent of the least confident points are dropped.
        level: [N] uint8: the levels up to l hold a random share 2^(l + 1 - LEVELS) of the points.
    """

    points: np.ndarray
    colors: np.ndarray
    confidence: np.ndarray
    depth: np.ndarray
    frame: np.ndarray
    pixel: np.ndarray
    bin: np.ndarray
    level: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    def parts(self) -> dict[tuple[int, int], np.ndarray]:
        """Return the indices of the points of each bin and level, without the empty ones."""
        key = self.bin.astype(np.int64) * LEVELS + self.level
        order = np.argsort(key, kind="stable")
        bounds = np.searchsorted(key[order], np.arange(BINS * LEVELS + 1))
        parts = {divmod(k, LEVELS): order[bounds[k] : bounds[k + 1]] for k in range(BINS * LEVELS)}
        return {name: part for name, part in parts.items() if len(part)}


def display_cloud(prediction: Prediction, source: PointsFrom, max_points: int, seed: int = 0) -> DisplayCloud:
    """Return at most ``max_points`` points of a prediction for display.

    Raises:
        QvggtError: outputs that ``source`` needs are missing, or no point is finite.
    """
    usable, confidence = usable_pixels(prediction, source)
    if not usable.any():
        raise QvggtError("the prediction has no finite points: check the model's weights or use other images")
    pixel = np.flatnonzero(usable)
    pixel = pixel[thinned(len(pixel), max_points, seed)]
    cloud = gather_points(prediction, source, pixel, confidence)
    frame = (pixel // usable[0].size).astype(np.int32)
    cameras = prediction.cam_from_world
    forward = np.zeros((len(usable), 4)) if cameras is None else cameras[:, 2].astype(np.float64)
    depth = np.einsum("ni,ni->n", cloud.points, forward[frame, :3]) + forward[frame, 3]
    return DisplayCloud(
        cloud.points, cloud.colors, cloud.confidence, depth=depth.astype(np.float32), frame=frame, pixel=pixel,
        bin=confidence_bins(cloud.confidence), level=detail_levels(len(pixel), seed),
    )  # fmt: skip


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """Return [N] uint8 in 0..BINS - 1; equal confidences share the highest of their bins, as exported points do."""
    ranks = np.searchsorted(np.sort(confidence), confidence, side="right") / max(len(confidence), 1)
    return (np.ceil(ranks * BINS - 1e-9).astype(np.int64) - 1).clip(0, BINS - 1).astype(np.uint8)


def detail_levels(count: int, seed: int = 0) -> np.ndarray:
    """Return [N] uint8 in 0..LEVELS - 1 at random.

    Half of the points have the last level, a quarter the one before and so on; the first two have equally many.
    """
    position = np.random.default_rng(seed).permutation(count) / max(count, 1)
    steps = np.ceil(np.log2(np.maximum(position, 2.0**-LEVELS)) - 1e-9)  # 0 for the second half, -1 for the quarter ...
    return (LEVELS - 1 + steps).clip(0, LEVELS - 1).astype(np.uint8)


def level_count(count: int, level: int) -> int:
    """Return about how many of ``count`` points the levels up to ``level`` hold."""
    return round(count * 2.0 ** (level + 1 - LEVELS))


def needed_level(count: int, scene_px: float, per_pixel: float = 2.0) -> int:
    """Return the lowest level that suffices for a scene that covers a disc on the screen.

    Args:
        count: points of all levels.
        scene_px: radius of the disc in pixels.
        per_pixel: points per pixel of the disc that are worth drawing.
    """
    needed = per_pixel * np.pi * scene_px**2
    return next((level for level in range(LEVELS - 1) if level_count(count, level) >= needed), LEVELS - 1)


def affordable_level(count: int, limit: int) -> int:
    """Return the highest level with which about ``limit`` of ``count`` points are drawn at most, or 0."""
    return next((level for level in range(LEVELS - 1, 0, -1) if level_count(count, level) <= limit), 0)
