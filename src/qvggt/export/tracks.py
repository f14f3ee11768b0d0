"""Points with tracks: pixels of several frames that see the same surface, by predicted depth and cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from qvggt.export.views import View
from qvggt.options import PointsFrom
from qvggt.postprocess.covisibility import Surfaces, confident_pixels, see
from qvggt.postprocess.frames import to_uint8
from qvggt.types import Prediction, QvggtError

_CHUNK = 1 << 14
"""Points that are projected into every frame at a time."""
_TRIES = 4
"""Most pixels that are tried, as a multiple of the points wanted."""
_LONGEST = 16
"""Most observations of a point; they would otherwise grow with the number of frames squared."""


@dataclass(frozen=True)
class Tracks:
    """Points and the pixels that see them.

    Attributes:
        points: [N, 3] float64 in the prediction's world.
        colors: [N, 3] uint8, sRGB.
        errors: [N] float64, mean reprojection error of each point over its track, in pixels of the exported images.
        owner: [M] int64, the point of each observation.
        frame: [M] int64, the frame of each observation; observations are sorted by frame, then by point.
        pixels: [M, 2] float64 in pixels of the exported images.
    """

    points: np.ndarray
    colors: np.ndarray
    errors: np.ndarray
    owner: np.ndarray
    frame: np.ndarray
    pixels: np.ndarray


def find_tracks(
    prediction: Prediction,
    views: Sequence[View],
    points_from: PointsFrom = "depth",
    *,
    max_points: int,
    drop_percent: float,
    seed: int = 0,
) -> Tracks:
    """Return points that at least two frames see, with the pixels at which they see them.

    Pixels are drawn at random from the confident ones of all frames. A pixel's point is projected into every other
    frame, which observes it there if its own depth agrees. The point is then the mean of the surface points of all
    observations, so that its reprojection error measures how well the frames agree; at most 16 of them, evenly
    spaced, are kept. Frames that share no point with another one keep points that only they see.

    Args:
        prediction: with cameras, and depth or world points.
        views: the exported images, one per frame.
        points_from: ``depth``, or ``head`` for the distances of the point head.
        max_points: at least 1.
        drop_percent: percentage of each frame's pixels, the least confident, that yield no point.
        seed: of the choice of pixels.

    Raises:
        QvggtError: outputs that it needs are missing, or no pixel has a point.
    """
    if points_from == "head" and prediction.world_points is not None:
        prediction = replace(prediction, depth=None)
    surfaces = Surfaces.of(prediction)
    frames, indices = _candidates(prediction, surfaces, _TRIES * max_points, drop_percent, seed=seed)
    parts, shared = [], 0
    for start in range(0, len(frames), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        parts.append(_observe(surfaces, frames[chunk], indices[chunk], first=start))
        shared += int((parts[-1].lengths > 1).sum())
        if shared >= max_points:
            break
    tried = _Tried(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(_Tried)))
    chosen = _choose(tried, frames, len(views), max_points)
    number = np.full(len(tried.points), -1)
    number[chosen] = np.arange(len(chosen))
    kept = np.flatnonzero(number[tried.owner] >= 0)
    owner, frame = number[tried.owner[kept]], tried.frame[kept]
    kept, owner, frame = (values[np.lexsort((owner, frame))] for values in (kept, owner, frame))
    points, pixels, errors = tried.points[chosen], tried.pixels[kept], np.empty(len(kept))
    for index, view in enumerate(views):
        here = slice(*np.searchsorted(frame, (index, index + 1)))
        pixels[here] = view.place(pixels[here])
        errors[here] = np.linalg.norm(_project(view, points[owner[here]]) - pixels[here], axis=1)
    mean = np.bincount(owner, errors, len(chosen)) / np.bincount(owner, minlength=len(chosen))
    colors = _colors(prediction, frames[chosen], indices[chosen])
    return Tracks(points, colors, mean, owner, frame=frame, pixels=pixels)


@dataclass(frozen=True)
class _Tried:
    """Points [K, 3] with their numbers of observations [K], and the observations [M] as in ``Tracks``.

    The pixels are those of the processed images.
    """

    points: np.ndarray
    lengths: np.ndarray
    owner: np.ndarray
    frame: np.ndarray
    pixels: np.ndarray


def _candidates(
    prediction: Prediction, surfaces: Surfaces, limit: int, drop_percent: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames [K] and flat pixel indices [K] of at most ``limit`` confident pixels, in random order."""
    usable = [
        confident_pixels(prediction, surfaces, frame, drop_percent).astype(np.int32)
        for frame in range(len(surfaces.depth))
    ]
    ends = np.cumsum([len(pixels) for pixels in usable])
    if not ends[-1]:
        raise QvggtError("the prediction has no finite points: check the model's weights or use other images")
    drawn = np.random.default_rng(seed).choice(ends[-1], min(limit, ends[-1]), replace=False)
    return np.searchsorted(ends, drawn, side="right"), np.concatenate(usable)[drawn]


def _observe(surfaces: Surfaces, frames: np.ndarray, indices: np.ndarray, first: int) -> _Tried:
    """Return the points of some pixels and all observations of them; ``first`` is the number of the first point."""
    points = np.empty((len(frames), 3))
    for frame in np.unique(frames):
        own = frames == frame
        points[own] = surfaces.surface_points(frame, indices[own])
    total, lengths, observations = np.zeros_like(points), np.zeros(len(points), np.int64), []
    for frame in range(len(surfaces.depth)):
        sight = see(surfaces, frame, points)
        seen = np.flatnonzero(sight.visible)
        pixels = sight.pixels[seen]
        total[seen] += surfaces.points(frame, pixels, sight.depth[seen])
        lengths[seen] += 1
        observations.append((seen + first, np.full(len(seen), frame), pixels))
    owner, frame, pixels = (np.concatenate(values) for values in zip(*observations, strict=True))
    kept = _evenly_kept(owner - first, lengths)
    owner, frame, pixels = owner[kept], frame[kept], pixels[kept]
    return _Tried(total / np.maximum(lengths, 1)[:, None], lengths, owner, frame, pixels=pixels)


def _evenly_kept(owner: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the indices of at most ``_LONGEST`` evenly spaced observations of each point, sorted by point.

    Args:
        owner: [M] the point of each observation, in the order of frames.
        lengths: [N] the number of observations of each point.
    """
    order = np.argsort(owner, kind="stable")
    rank = np.arange(len(order)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    limit, length = np.minimum(lengths, _LONGEST)[owner[order]], lengths[owner[order]]
    return order[(rank + 1) * limit // length > rank * limit // length]


def _choose(tried: _Tried, own: np.ndarray, count: int, max_points: int) -> np.ndarray:
    """Return the points to keep: those of two or more frames, and for frames without any, some that only they see.

    Args:
        tried: K points.
        own: [at least K] the frame that each point was drawn from.
        count: number of frames.
        max_points: most points.
    """
    shared = np.flatnonzero(tried.lengths > 1)[:max_points]
    own = own[: len(tried.points)]
    linked = np.zeros(count, bool)
    linked[tried.frame[np.isin(tried.owner, shared)]] = True
    alone = [
        np.flatnonzero((tried.lengths == 1) & (own == frame))[: max(1, max_points // count)]
        for frame in np.flatnonzero(~linked)
    ]
    single = np.concatenate([np.empty(0, np.int64), *alone])[:max_points]
    return np.concatenate((shared[: max_points - len(single)], single))


def _project(view: View, points: np.ndarray) -> np.ndarray:
    """Return the pixels [N, 2] of world points [N, 3] in an exported image."""
    local = (points @ view.cam_from_world[:, :3].T + view.cam_from_world[:, 3]) @ view.intrinsics.T
    return local[:, :2] / local[:, 2:]


def _colors(prediction: Prediction, frames: np.ndarray, indices: np.ndarray) -> np.ndarray:
    images = prediction.images.reshape(*prediction.images.shape[:2], -1)  # [S, 3, H * W]
    return to_uint8(images[frames, :, indices])
