"""One scale per depth map, from the triangulated depths of its features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qvggt.postprocess.frames import photo_mask
from qvggt.postprocess.refine.tracks import Tracks
from qvggt.postprocess.refine.views import Views, triangulate, widest_angles
from qvggt.types import Prediction

_MIN_FITTED, _MIN_HELD_OUT = 20, 8
"""Points without which a depth map keeps its scale: those that determine the scale, and those that judge it."""

_MIN_ANGLE_DEG = 2.0
_FILTER = 3.0


def depth_scales(
    prediction: Prediction, views: Views, sizes: Sequence[tuple[int, int]], tracks: tuple[Tracks, Tracks]
) -> np.ndarray:
    """Return a factor [S] for each depth map; 1 where there are too few points, or held-out points do not agree.

    The factor is the median ratio of triangulated to predicted depth. It is kept if it brings the predicted depths of
    held-out points closer to the triangulated ones.

    Args:
        prediction: with depth.
        views: refined cameras.
        sizes: (width, height) of the searched image of each frame.
        tracks: those that determine the scales, and those held out.
    """
    fitted, judging = (_log_ratios(prediction, views, sizes, part) for part in tracks)
    scales = np.ones(len(views))
    for frame, (ratios, held_out) in enumerate(zip(fitted, judging, strict=True)):
        if len(ratios) < _MIN_FITTED or len(held_out) < _MIN_HELD_OUT:
            continue
        shift = float(np.median(ratios))
        if np.median(np.abs(held_out - shift)) < np.median(np.abs(held_out)):
            scales[frame] = np.exp(shift)
    return scales


def _log_ratios(
    prediction: Prediction, views: Views, sizes: Sequence[tuple[int, int]], tracks: Tracks
) -> list[np.ndarray]:
    """Return for each frame the logarithms of triangulated over predicted depth at its reliable observations."""
    assert prediction.depth is not None
    points, errors = triangulate(views, tracks)
    poses = views.cam_from_world[tracks.frame]
    depth = np.einsum("nj,nj->n", poses[:, 2, :3], points[tracks.track]) + poses[:, 2, 3]
    wide = (widest_angles(views, tracks, points) >= _MIN_ANGLE_DEG)[tracks.track]
    finite = errors[np.isfinite(errors)]
    good = wide & (errors <= _FILTER * (np.median(finite) if len(finite) else 0.0)) & (depth > 0)
    mask = photo_mask(prediction)
    found = []
    for frame, size in enumerate(sizes):
        mine = np.flatnonzero(good & (tracks.frame == frame))
        column, row, inside = processed_pixels(prediction, frame, size, tracks.xy[mine])
        predicted = prediction.depth[frame, row, column].astype(np.float64)
        inside &= mask[frame, row, column] & np.isfinite(predicted) & (predicted > 0)
        found.append(np.log(depth[mine][inside] / predicted[inside]))
    return found


def processed_pixels(
    prediction: Prediction, frame: int, size: tuple[int, int], xy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return columns and rows [N] in the processed image of points [N, 2] of a searched image, and which are inside.

    Those outside get the nearest pixel of the border.
    """
    here = prediction.maps[frame]
    height, width = prediction.images.shape[-2:]
    original = xy * np.array(here.original_size) / np.array(size)
    column, row = np.floor(original * here.scale + here.offset).astype(np.int64).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return column.clip(0, width - 1), row.clip(0, height - 1), inside
