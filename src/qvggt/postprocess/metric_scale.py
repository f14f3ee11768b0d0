"""Metric scale: predictions in the model's unit to meters, from lengths, positions or depth that users know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from qvggt.geometry import Similarity
from qvggt.options.checks import check_arguments
from qvggt.options.known import KnownDistance, Place
from qvggt.postprocess.covisibility import DEPTH_TOLERANCE, Surfaces, sampled_depth
from qvggt.postprocess.frames import camera_centers, cameras_of, frame_index
from qvggt.postprocess.robust import residuals, robust_ratio, robust_similarity
from qvggt.types import Prediction, QvggtError

ScaleSource = Literal["distance", "position", "depth"]

_LEAST_BASELINE = 0.01  # of the median depth: shorter predicted baselines are mostly noise
_LEAST_PIXELS = 50
_LEAST_WIDTH = 0.02  # of their length: positions with less spread across it are on one line
_LARGEST_MISFIT = 0.5  # of the positions' spread


@dataclass(frozen=True)
class MetricScale:
    """The scale of a prediction, and how well the measurements that it is from agree with it.

    Attributes:
        source: kind of the measurements.
        meters_per_unit: factor by which lengths of the prediction become meters.
        median_residual_m: of the measurements that were used.
        worst_residual_m: of the measurements that were used.
        used: number of measurements that were used: distances, positions or pixels.
        rejected: names of the frames (for distances, their descriptions) that do not agree with the others; empty for
            pixels.
        world: maps the prediction onto known positions, if they determine it; None otherwise.
    """

    source: ScaleSource
    meters_per_unit: float
    median_residual_m: float
    worst_residual_m: float
    used: int
    rejected: tuple[str, ...] = ()
    world: Similarity | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON-ready values."""
        return {
            "source": self.source,
            "meters_per_unit": self.meters_per_unit,
            "median_residual_m": self.median_residual_m,
            "worst_residual_m": self.worst_residual_m,
            "used": self.used,
            "rejected": list(self.rejected),
        }


def scaled(prediction: Prediction, factor: float) -> Prediction:
    """Return a prediction whose lengths (camera translations, depth and points) are multiplied by a factor.

    Rotations, intrinsics and the origin of the world stay as they are.

    Args:
        prediction: with any outputs.
        factor: new units per old unit, above 0.

    Raises:
        QvggtError: the factor is not a positive finite number, or lengths leave the range of float32.
    """
    check_arguments(scaled, locals())
    if not 0 < factor < math.inf:
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


def scale_from_distances(prediction: Prediction, distances: Sequence[KnownDistance]) -> MetricScale:
    """Return the scale at which known distances hold, the median of theirs.

    Args:
        prediction: with cameras, and depth if a place is a pixel.
        distances: at least one.

    Raises:
        QvggtError: a frame does not exist, a pixel shows nothing, or places are too close together in the prediction.
    """
    surfaces = None
    if any(place.pixel is not None for each in distances for place in (each.first, each.second)):
        surfaces = Surfaces.of(prediction)
    found = np.array([_predicted_distance(prediction, surfaces, each) for each in distances])
    wanted = np.array([each.meters for each in distances])
    factor, kept = robust_ratio(wanted, found)
    rejected = [
        f"{each.first.frame}:{each.second.frame}" for each, keep in zip(distances, kept, strict=True) if not keep
    ]
    return _scale("distance", factor, np.abs(factor * found - wanted)[kept], rejected)


def scale_from_positions(
    prediction: Prediction, positions: Mapping[str, np.ndarray], accuracy_m: float = 0.0
) -> MetricScale:
    """Return the scale at which camera centers fit known positions, from a robust similarity transform.

    Args:
        prediction: with cameras.
        positions: [3] in meters by the frame's name; at least two.
        accuracy_m: standard error of a position.

    Raises:
        QvggtError: the positions do not determine the scale: fewer than two, all in one place, not farther apart than
            they are accurate, or unlike the predicted cameras; or all predicted cameras are in one place.
    """
    centers = camera_centers(cameras_of(prediction)[0])
    chosen = [index for index, name in enumerate(prediction.names) if name in positions]
    if len(chosen) < 2:
        raise QvggtError(f"known positions give a scale for at least 2 frames, got {len(chosen)}: add positions")
    known = np.array([positions[prediction.names[index]] for index in chosen], np.float64)
    found = centers[chosen]
    _check_baseline(prediction, _extent(found), "the cameras")
    fit, kept = robust_similarity(found, known)
    extent = _extent(known[kept])
    if not extent > 1e-6 * (1 + np.abs(known).max()):
        raise QvggtError("the known positions are all in one place: they give no scale")
    if extent <= accuracy_m:
        raise QvggtError(
            f"the known positions are spread over {extent:.3g} m and accurate to {accuracy_m:.3g} m: give a distance "
            "or a depth image instead (--scale)"
        )
    errors = residuals(fit, found, known)[kept]
    spread = float(np.sqrt(((known[kept] - known[kept].mean(0)) ** 2).sum(1).mean()))
    if fit.scale <= 0 or float(np.sqrt((errors**2).mean())) > _LARGEST_MISFIT * spread:
        raise QvggtError(
            f"the known positions do not fit the predicted cameras: {np.median(errors):.3g} m away in the median, of "
            f"{extent:.3g} m; check their names and units"
        )
    rejected = [prediction.names[index] for index, keep in zip(chosen, kept, strict=True) if not keep]
    result = _scale("position", fit.scale, errors, rejected)
    return replace(result, world=fit) if _is_wide(known[kept]) and _is_wide(found[kept]) else result


def scale_from_depth(prediction: Prediction, depths: Mapping[str, np.ndarray]) -> MetricScale:
    """Return the scale at which predicted depth agrees with depth images, the median over pixels.

    Args:
        prediction: with depth.
        depths: [h, w] in meters along the optical axis by the frame's name, of the whole upright photograph at any
            resolution; 0 or not finite where it is not known.

    Raises:
        QvggtError: a frame does not exist, an image has another shape than its photograph, or too few pixels have
            both depths.
    """
    surfaces = Surfaces.of(prediction)
    pairs = [_depth_pairs(prediction, surfaces, name, image) for name, image in depths.items()]
    wanted, found = (np.concatenate(values) for values in zip(*pairs, strict=True))
    if len(wanted) < _LEAST_PIXELS:
        raise QvggtError(
            f"{len(wanted)} pixels have both known and predicted depth, expected at least {_LEAST_PIXELS}: check the "
            "depth image's unit (16-bit PNG in millimeters, NPY in meters)"
        )
    factor, kept = robust_ratio(wanted, found)
    return _scale("depth", factor, np.abs(factor * found - wanted)[kept])


def _scale(source: ScaleSource, factor: float, errors: np.ndarray, rejected: Sequence[str] = ()) -> MetricScale:
    median, worst = float(np.median(errors)), float(errors.max())
    return MetricScale(source, factor, median, worst, used=len(errors), rejected=tuple(rejected))


def _predicted_distance(prediction: Prediction, surfaces: Surfaces | None, distance: KnownDistance) -> float:
    first, second = (_position(prediction, surfaces, place) for place in (distance.first, distance.second))
    length = float(np.linalg.norm(first - second))
    if distance.first.pixel is None and distance.second.pixel is None:
        _check_baseline(prediction, length, f"{distance.first.frame} and {distance.second.frame}")
    if not length > 0:
        raise QvggtError(f"both places of the known distance {distance.meters:g} m are one point in the prediction")
    return length


def _check_baseline(prediction: Prediction, length: float, what: str) -> None:
    depth = prediction.depth
    typical = 0.0 if depth is None else float(np.median(depth[np.isfinite(depth)]))
    if length <= max(_LEAST_BASELINE * typical, 1e-9):
        raise QvggtError(
            f"{what} are predicted in one place ({length:.2g} apart at a median depth of {typical:.2g}): give a "
            "distance between pixels or a depth image instead (--scale)"
        )


def _position(prediction: Prediction, surfaces: Surfaces | None, place: Place) -> np.ndarray:
    """Return the point [3] of a place in the prediction's world."""
    index = frame_index(prediction, place.frame)
    if place.pixel is None:
        return camera_centers(cameras_of(prediction)[0][index : index + 1])[0]
    assert surfaces is not None
    frame, (x, y) = prediction.maps[index], place.pixel
    label = f"pixel {x:g},{y:g} of {place.frame}"
    if not (0 <= x <= frame.original_size[0] and 0 <= y <= frame.original_size[1]):
        raise QvggtError(f"{label} is outside of the photograph, which has {'x'.join(map(str, frame.original_size))}")
    pixel = np.array([[x * frame.scale[0] + frame.offset[0], y * frame.scale[1] + frame.offset[1]]])
    height, width = surfaces.depth.shape[1:]
    if not ((pixel >= 0) & (pixel <= (width, height))).all():
        raise QvggtError(f"{label} was cropped off: reconstruct with --mode pad, or pick another one")
    nearest, smooth = sampled_depth(
        surfaces.depth[index], surfaces.valid(index), np.minimum(pixel, np.nextafter((width, height), 0))
    )
    depth = np.where(np.abs(smooth - nearest) <= DEPTH_TOLERANCE * nearest, smooth, nearest)
    if not np.isfinite(depth).all():
        raise QvggtError(f"{label} has no depth (padding, or masked): pick another one")
    return surfaces.points(index, pixel, depth)[0]


def _depth_pairs(
    prediction: Prediction, surfaces: Surfaces, name: str, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return known depths [N] and predicted depths [N] of the more confident pixels of a frame."""
    index = frame_index(prediction, name)
    frame, (height, width) = prediction.maps[index], image.shape
    original_width, original_height = frame.original_size
    if abs(math.log(width * original_height / (height * original_width))) > 0.05:
        raise QvggtError(
            f"the depth image of {name} has {width}x{height} px, and the photograph {original_width}x{original_height}:"
            " expected the same aspect ratio, upright"
        )
    usable = surfaces.valid(index)
    if prediction.depth_conf is not None and usable.any():
        usable = usable & (prediction.depth_conf[index] >= np.median(prediction.depth_conf[index][usable]))
    rows, columns = np.nonzero(usable)
    x = (columns + 0.5 - frame.offset[0]) / frame.scale[0] / original_width * width
    y = (rows + 0.5 - frame.offset[1]) / frame.scale[1] / original_height * height
    known = image[np.clip(y.astype(int), 0, height - 1), np.clip(x.astype(int), 0, width - 1)].astype(np.float64)
    with np.errstate(invalid="ignore"):
        both = np.isfinite(known) & (known > 0)
    return known[both], surfaces.depth[index][rows, columns][both].astype(np.float64)


def _extent(points: np.ndarray) -> float:
    """Return the largest side of the box around points [N, 3]."""
    return float(np.ptp(points, axis=0).max())


def _is_wide(points: np.ndarray) -> bool:
    """Return whether points [N, 3] are neither in one place nor on one line."""
    spreads = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return len(points) >= 3 and bool(spreads[1] > _LEAST_WIDTH * spreads[0])
