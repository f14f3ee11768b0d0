"""Colored point cloud of a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from qvggt.geometry import unproject
from qvggt.options import ExportOptions, PointsFrom
from qvggt.postprocess.distortion import Lens, on_lens_rays
from qvggt.postprocess.frames import cameras_of, frame_photo_mask, to_uint8
from qvggt.postprocess.percentiles import percentiles
from qvggt.types import PointCloud, Prediction, QvggtError


def has_points(prediction: Prediction, source: PointsFrom) -> bool:
    """Return whether the prediction has the outputs that ``source`` needs."""
    if source == "head":
        return prediction.world_points is not None
    return not any(v is None for v in (prediction.depth, prediction.cam_from_world, prediction.intrinsics))


def points_of(
    prediction: Prediction, source: PointsFrom | None, max_points: int | None, drop_percent: float | None
) -> PointCloud:
    """Return ``select_points`` with the defaults of ``ExportOptions``; without a source, of depth if it is there.

    Raises:
        QvggtError: as ``select_points``, or an option is out of range.
    """
    options = ExportOptions(
        ("depth" if has_points(prediction, "depth") else "head") if source is None else source,
        ExportOptions.max_points if max_points is None else max_points,
        ExportOptions.drop_percent if drop_percent is None else drop_percent,
    )
    return select_points(
        prediction, options.points_from, max_points=options.max_points, drop_percent=options.drop_percent,
        seed=options.seed,
    )  # fmt: skip


def select_points(
    prediction: Prediction, source: PointsFrom, *, max_points: int, drop_percent: float, seed: int = 0
) -> PointCloud:
    """Return the confident points of a prediction, in the order of frames and pixels.

    Pixels on padding and pixels whose point is not finite are excluded. Of the rest, the ``drop_percent`` least
    confident are dropped, over all frames together; pixels at the threshold are kept, so that a constant confidence
    drops nothing. If more than ``max_points`` remain, a random subset is drawn with ``seed``.

    Args:
        prediction: with cameras and depth, or with world points.
        source: ``depth`` (depth and cameras, usually the more accurate) or ``head`` (the point head).
        max_points: at least 1.
        drop_percent: in 0..100; 0 keeps all, 100 only the most confident.
        seed: of the subsampling.

    Raises:
        QvggtError: if outputs that ``source`` needs are missing, or no point is finite.
        ValueError: if an option is out of range.
    """
    if max_points < 1:
        raise ValueError(f"expected max_points of at least 1, got {max_points}")
    if not 0 <= drop_percent <= 100:
        raise ValueError(f"expected drop_percent in 0..100, got {drop_percent}")
    confidence, frames = _confidence(prediction, source), range(len(prediction.images))

    def confidences(frame: int) -> tuple[np.ndarray, np.ndarray]:
        values = confidence[frame]
        return values, _usable(prediction, source, frame, values)

    least = percentiles(
        lambda: (values[usable] for values, usable in map(confidences, frames)), drop_percent, lower=True
    )
    if least is None:
        raise QvggtError("the prediction has no finite points: check the model's weights or use other images")
    ends = np.cumsum([np.count_nonzero(usable & (values >= least)) for values, usable in map(confidences, frames)])
    ranks = thinned(int(ends[-1]), max_points, seed)  # among the kept pixels, so that no list of all is needed
    parts = np.split(ranks, np.searchsorted(ranks, ends[:-1]))
    chosen = []
    for frame, (part, end) in enumerate(zip(parts, ends, strict=True)):
        values, usable = confidences(frame)
        kept = np.flatnonzero(usable & (values >= least))
        chosen.append(frame * values.size + kept[part - (end - len(kept))])
    return gather_points(prediction, source, np.concatenate(chosen), confidence)


def thinned(count: int, limit: int, seed: int = 0) -> np.ndarray:
    """Return the numbers below ``count`` or, of more than ``limit``, a random subset, ascending."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False, shuffle=False))


def usable_pixels(prediction: Prediction, source: PointsFrom) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels have a point (bool), and their confidence, both [S, H, W].

    Raises:
        QvggtError: if outputs that ``source`` needs are missing.
    """
    confidence = _confidence(prediction, source)
    usable = [_usable(prediction, source, frame, confidence[frame]) for frame in range(len(confidence))]
    return np.stack(usable), confidence


def _confidence(prediction: Prediction, source: PointsFrom) -> np.ndarray:
    """Return the confidence [S, H, W] of the points, 1 if there is none, after checking that they can be computed."""
    if source == "head":
        if prediction.world_points is None:
            raise QvggtError(
                "the prediction has no world points: run the point head or take points from depth (--heads point, "
                "--points-from depth)"
            )
        confidence = prediction.world_points_conf
    else:
        if prediction.depth is None:
            raise QvggtError(
                "the prediction has no depth: run the depth head or take points from the point head (--heads depth, "
                "--points-from head)"
            )
        cameras_of(prediction)
        confidence = prediction.depth_conf
    count, _, height, width = prediction.images.shape
    return np.broadcast_to(np.float32(1), (count, height, width)) if confidence is None else confidence


def _usable(prediction: Prediction, source: PointsFrom, frame: int, confidence: np.ndarray) -> np.ndarray:
    """Return which pixels [H, W] of a frame have a point, given their confidence [H, W]."""
    if source == "head":
        assert prediction.world_points is not None
        finite = np.isfinite(prediction.world_points[frame]).all(-1)
    else:
        assert prediction.depth is not None
        depth = prediction.depth[frame]
        finite = np.isfinite(depth) & (depth > 0)
    return finite & np.isfinite(confidence) & frame_photo_mask(prediction, frame)


def gather_points(prediction: Prediction, source: PointsFrom, chosen: np.ndarray, confidence: np.ndarray) -> PointCloud:
    """Return the cloud of pixels ``chosen`` (sorted flat indices into [S, H, W]), frame by frame to save memory."""
    count, _, height, width = prediction.images.shape
    pixels = height * width
    bounds = np.searchsorted(chosen, np.arange(count + 1) * pixels)
    points, colors = np.empty((len(chosen), 3), np.float32), np.empty((len(chosen), 3), np.uint8)
    sure = np.empty(len(chosen), np.float32)
    for frame in range(count):
        part = slice(bounds[frame], bounds[frame + 1])
        inside = chosen[part] - frame * pixels
        points[part] = frame_points(prediction, source, frame).reshape(pixels, 3)[inside]
        colors[part] = to_uint8(prediction.images[frame].reshape(3, pixels)[:, inside].T)
        sure[part] = confidence[frame].reshape(pixels)[inside]
    return PointCloud(points, colors, sure)


def common_points(
    predictions: Sequence[Prediction], options: ExportOptions, drop_percent: float = 0.0
) -> tuple[np.ndarray, list[PointCloud], int]:
    """Return the pixels that have a point in every prediction, their points in each, and how many there are.

    Args:
        predictions: of the same images.
        options: source of points, the most pixels that are returned, and the seed of the choice among more.
        drop_percent: percentage of the pixels, the least confident in the first prediction, that are left out.

    Returns:
        Flat indices [P] into [S, H, W], ascending; a cloud of each prediction; the number of pixels before thinning.

    Raises:
        QvggtError: outputs are missing, or no pixel is left.
    """
    usable = [usable_pixels(each, options.points_from) for each in predictions]
    chosen = np.flatnonzero(np.all([mask for mask, _ in usable], axis=0))
    if not len(chosen):
        raise QvggtError("the prediction has no finite points: check the model's weights or use other images")
    if drop_percent:
        sure = usable[0][1].reshape(-1)[chosen]
        chosen = chosen[sure >= np.percentile(sure, drop_percent, method="lower")]
    total = len(chosen)
    if total > options.max_points:
        chosen = np.sort(np.random.default_rng(options.seed).choice(chosen, options.max_points, replace=False))
    clouds = [
        gather_points(each, options.points_from, chosen, confidence)
        for each, (_, confidence) in zip(predictions, usable, strict=True)
    ]
    return chosen, clouds, total


def camera_depths(prediction: Prediction, points: np.ndarray, chosen: np.ndarray) -> np.ndarray | None:
    """Return [P] the depth of points in the cameras of their pixels, at least a millionth; None without cameras.

    Args:
        prediction: of the cameras.
        points: [P, 3].
        chosen: [P] flat indices of the pixels into [S, H, W].
    """
    if prediction.cam_from_world is None:
        return None
    axis = prediction.cam_from_world[chosen // prediction.images[0, 0].size, 2]  # [P, 4]
    return np.maximum(np.einsum("pi,pi->p", axis[:, :3], points) + axis[:, 3], 1e-6)


def frame_points(prediction: Prediction, source: PointsFrom, frame: int) -> np.ndarray:
    """Return the points [H, W, 3] of all pixels of a frame; ``usable_pixels`` says which of them are meant."""
    if source == "head":
        assert prediction.world_points is not None
        return prediction.world_points[frame]
    assert prediction.depth is not None
    assert prediction.intrinsics is not None
    assert prediction.cam_from_world is not None
    # ``unproject`` has the first pixel's center at (0, 0), the intrinsics of a prediction at (0.5, 0.5).
    intrinsics = prediction.intrinsics[frame] - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    arrays = (prediction.depth[frame], intrinsics, prediction.cam_from_world[frame])
    return unproject(*(torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in arrays)).numpy()


def pixel_points(prediction: Prediction, source: PointsFrom = "depth") -> np.ndarray:
    """Return the points [S, H, W, 3] float32 of all pixels, NaN where there is none."""
    usable, _ = usable_pixels(prediction, source)
    points = np.stack([frame_points(prediction, source, frame) for frame in range(len(usable))])
    points[~usable] = np.nan
    return points


def with_lens_points(prediction: Prediction, lenses: Sequence[Lens | None], source: PointsFrom) -> Prediction:
    """Return the prediction with the points of ``source``, where the lenses saw them, as those of its point head.

    Args:
        prediction: with cameras, which are pinholes.
        lenses: one per frame, of the photograph; None for pinholes.
        source: of the points; those that are returned are of the source ``head``.

    Raises:
        QvggtError: outputs that ``source`` needs, or cameras, are missing.
    """
    points, (_, confidence) = pixel_points(prediction, source), usable_pixels(prediction, source)
    cameras, intrinsics = cameras_of(prediction)
    for index, (lens, frame) in enumerate(zip(lenses, prediction.maps, strict=True)):
        if lens is not None:
            points[index] = on_lens_rays(points[index], cameras[index], intrinsics[index], lens, frame=frame)
    return replace(prediction, world_points=points, world_points_conf=confidence)


def bounds_of_most(points: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest [K] of points [N, K] except outliers, and of all others [M, K].

    Outliers are points far beyond the 1st and 99th percentile.
    """
    groups = [others]
    if len(points):
        low, high = np.percentile(points, (1, 99), axis=0)
        slack = 0.15 * (high - low)
        groups.append(np.stack((np.maximum(points.min(0), low - slack), np.minimum(points.max(0), high + slack))))
    around = np.concatenate(groups)
    return around.min(0), around.max(0)
