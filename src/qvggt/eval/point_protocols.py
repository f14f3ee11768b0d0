"""Point-map protocols: alignment and comparison of predicted and true points."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from qvggt.eval.ground_truth import check_frames, require, resize_intrinsics, true_mask, true_points, unproject_maps
from qvggt.eval.metrics.alignment import align_medians, refine_icp
from qvggt.eval.metrics.depth import resize_bicubic
from qvggt.eval.metrics.points import CloudErrors, cloud_errors
from qvggt.eval.metrics.pose import check_cameras
from qvggt.geometry import umeyama
from qvggt.types import Prediction, Scene

CROP_PX = 224


@dataclass(frozen=True)
class PointProtocol:
    """Accuracy, completeness and normal consistency of aligned clouds.

    ``crop224`` aligns the point head's whole maps to ground truth by their medians, in the frame of the first camera,
    and compares the center crops. ``umeyama`` resizes the depth head to ground truth, unprojects it with the predicted
    cameras and aligns all valid pixels by a similarity. Both continue with point-to-point ICP.

    Attributes:
        variant: ``crop224`` or ``umeyama``.
        points_from: ``point`` head, or ``depth`` with camera; None for the variant's default.
    """

    variant: Literal["crop224", "umeyama"] = "crop224"
    points_from: Literal["point", "depth"] | None = None

    @property
    def head(self) -> Literal["point", "depth"]:
        """The head that points are taken from."""
        return self.points_from or self._own_head

    @property
    def _own_head(self) -> Literal["point", "depth"]:
        return "point" if self.variant == "crop224" else "depth"

    @property
    def name(self) -> str:
        """Name in tables and on the command line."""
        return f"points-{self.variant}" + ("" if self.head == self._own_head else f"-{self.head}")


@dataclass(frozen=True)
class ConsistencyProtocol:
    """Errors of the point head relative to the scene's size.

    ``point_error``: mean distance between the point head's points and the true ones after one Umeyama alignment, over
    the mean distance of the true points from the first camera. ``consistency``: mean distance between the point head's
    points and the depth head unprojected with the predicted cameras, unaligned, over the mean distance of the former
    from the first predicted camera.
    """

    @property
    def name(self) -> str:
        """Name in tables and on the command line."""
        return "points-consistent"


def measure_points(scene: Scene, prediction: Prediction, protocol: PointProtocol) -> tuple[dict[str, float], str]:
    """Return the metrics of a ``PointProtocol``, and a note if they are NaN or infinite."""
    truth, mask = true_points(scene, protocol.name)
    predicted = _predicted_points(scene, prediction, protocol, mask.shape)
    window = _center_crop(mask.shape) if protocol.variant == "crop224" else np.s_[:, :, :]
    if not mask[window].any():
        return asdict(CloudErrors.filled(np.nan, np.nan)), "no valid true depth"
    if not np.isfinite(predicted[mask]).all():
        return asdict(CloudErrors.filled(np.inf, 0.0)), "predicted points are not finite"
    # The coarse alignment uses whole images, even if only a crop is compared.
    align = align_medians if protocol.variant == "crop224" else umeyama
    coarse = align(predicted[mask], truth[mask])
    cloud, goal = coarse.apply(predicted[window][mask[window]]), truth[window][mask[window]]
    return asdict(cloud_errors(refine_icp(cloud, goal).apply(cloud), goal)), ""


def measure_consistency(scene: Scene, prediction: Prediction) -> tuple[dict[str, float], str]:
    """Return the metrics of ``ConsistencyProtocol``, and a note if they are NaN or infinite.

    Without true depth, consistency is over all pixels and the point error NaN.
    """
    name = ConsistencyProtocol().name
    points = require(prediction.world_points, scene, "predicted points", name)
    depth = require(prediction.depth, scene, "predicted depth", name)
    intrinsics = require(prediction.intrinsics, scene, "predicted intrinsics", name)
    cameras = require(prediction.cam_from_world, scene, "predicted cameras", name)
    truth, mask = None, np.ones(points.shape[:3], dtype=bool)
    if scene.depth is not None:
        truth, mask = true_points(scene, name)
        _check_grid(points, mask.shape, scene)
    if not mask.any():
        return {"point_error": np.nan, "consistency": np.nan}, "no valid true depth"
    unprojected = unproject_maps(depth, intrinsics, cameras)
    if not (np.isfinite(points[mask]).all() and np.isfinite(unprojected[mask]).all() and np.isfinite(cameras[0]).all()):
        return {"point_error": np.inf, "consistency": np.inf}, "the prediction is not finite"
    first = check_cameras(cameras)[0]
    gap = _mean_norm(points[mask] - unprojected[mask])
    size = _mean_norm(points[mask] @ first[:, :3].T + first[:, 3])
    consistency = gap / size if size else np.inf
    if truth is None:
        return {"point_error": np.nan, "consistency": consistency}, "no true depth"
    aligned = umeyama(points[mask], truth[mask]).apply(points[mask])
    return {"point_error": _mean_norm(aligned - truth[mask]) / _mean_norm(truth[mask]), "consistency": consistency}, ""


def _predicted_points(
    scene: Scene, prediction: Prediction, protocol: PointProtocol, grid: tuple[int, ...]
) -> np.ndarray:
    if protocol.head == "point":
        points = require(prediction.world_points, scene, "predicted points", protocol.name)
        _check_grid(points, grid, scene)
        return points
    depth = require(prediction.depth, scene, "predicted depth", protocol.name)
    intrinsics = require(prediction.intrinsics, scene, "predicted intrinsics", protocol.name)
    cameras = require(prediction.cam_from_world, scene, "predicted cameras", protocol.name)
    check_frames(depth, true_mask(scene), scene)
    intrinsics = resize_intrinsics(intrinsics, depth.shape[1:], grid[1:])
    return unproject_maps(resize_bicubic(depth, (grid[1], grid[2])), intrinsics, cameras)


def _check_grid(points: np.ndarray, grid: tuple[int, ...], scene: Scene) -> None:
    if points.shape[:3] != grid:
        raise ValueError(
            f"expected predicted points of scene {scene.name} on the grid of the true depth {grid}, "
            f"got shape {points.shape}"
        )


def _center_crop(grid: tuple[int, ...]) -> tuple[slice, slice, slice]:
    """Return the middle 224 pixels of each side, or all of a shorter one."""
    rows, columns = (slice(max(side // 2 - CROP_PX // 2, 0), side // 2 + CROP_PX // 2) for side in grid[1:])
    return slice(None), rows, columns


def _mean_norm(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors.astype(np.float64), axis=-1).mean())
