"""Task objective: errors of cameras, depth and points, and their consistency, against ground truth or the float model.

There are two losses, built from the same confidence-weighted errors:

- ``task_losses`` decides: sensitivities, the scale search, and whether a stage is kept on held-out scenes. It compares
  final outputs, each scene in units of its own size, and includes the consistency of depth and points.
- ``tuning_loss`` is minimized by gradient descent (``qvggt+``). It compares the cameras of every refinement iteration,
  so that each gets a gradient, in plain distances, whose gradient does not vanish near the target as that of the Huber
  loss does, and leaves consistency out, because the float model's own depth and points are not consistent either.

A tuned model is kept only if it lowers the first on scenes that the second has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt import geometry
from qvggt.geometry import Truth
from qvggt.types import QvggtError

POSE_HUBER = 0.001
"""Threshold of the Huber loss of the pose encoding, in units of the scene's size and radians.

Quantization moves cameras by thousandths; squared, such errors would be negligible beside the linear ones of depth and
points.
"""


@dataclass(frozen=True)
class TaskLoss:
    """The parts of the objective, in units of the scene's size.

    Attributes:
        camera: Huber loss of the pose encoding.
        depth: confidence-weighted mean error of depth.
        point: confidence-weighted mean distance of points.
        geometry: confidence-weighted mean distance between the point map and the unprojected depth.
    """

    camera: float
    depth: float
    point: float
    geometry: float

    @property
    def total(self) -> float:
        """The sum of all parts: each has weight one, as in the paper's text (its supplement has 0.1 for two)."""
        return self.camera + self.depth + self.point + self.geometry


@dataclass(frozen=True)
class Target:
    """Target outputs for a batch of scenes, scaled to a mean point distance of one.

    Attributes:
        pose_enc: [B, S, 9].
        depth: [B, S, H, W].
        points: [B, S, H, W, 3].
        depth_weight: [B, S, H, W], mean one over the batch; zero where depth is unknown.
        point_weight: [B, S, H, W], likewise.
        scale: [B], divides predictions before they are compared.
    """

    pose_enc: Tensor
    depth: Tensor
    points: Tensor
    depth_weight: Tensor
    point_weight: Tensor
    scale: Tensor

    def of(self, scenes: slice) -> Target:
        """Return the target of some of the scenes."""
        return replace(self, **{name: value[scenes] for name, value in vars(self).items()})


def make_target(teacher: Mapping[str, Tensor], truth: Truth | None = None) -> Target:
    """Return the target for a batch of scenes.

    Args:
        teacher: the float model's outputs, as ``VGGT.forward`` names them; its confidence weights the errors.
        truth: ground truth, the target in place of the float model's outputs.

    Raises:
        QvggtError: the float model's outputs are not finite.
    """
    if not all(bool(torch.isfinite(value).all()) for value in teacher.values()):
        raise QvggtError("the float model predicts NaN or infinity on a calibration scene: leave that scene out")
    depth_weight, point_weight = teacher["depth_conf"], teacher["world_points_conf"]
    if truth is not None:
        valid = truth.valid.to(depth_weight.dtype)
        depth_weight, point_weight = depth_weight * valid, point_weight * valid
        ones = truth.depth.new_ones(truth.depth.shape[0])
        # Ground truth is normalized: the scale of predictions is the median ratio of depths.
        scale = torch.stack(
            [
                (given[known] / true[known]).median() if bool(known.any()) else ones[0]
                for given, true, known in zip(teacher["depth"][..., 0], truth.depth, truth.valid, strict=True)
            ]
        )
        pose, depth, points = truth.pose_enc, truth.depth, truth.points
    else:
        points = teacher["world_points"]
        scale = points.norm(dim=-1).flatten(1).mean(1).clamp(min=1e-6)
        pose = _scaled_pose(teacher["pose_enc"], scale)
        depth, points = teacher["depth"][..., 0] / _wide(scale, 4), points / _wide(scale, 5)
    return Target(
        pose,
        depth=depth,
        points=points,
        depth_weight=_mean_one(depth_weight),
        point_weight=_mean_one(point_weight),
        scale=scale,
    )


def task_losses(outputs: Mapping[str, Tensor], target: Target) -> dict[str, Tensor]:
    """Return the parts of the objective as differentiable scalars, by the names of ``TaskLoss``."""
    pose = _scaled_pose(outputs["pose_enc"], target.scale)
    depth = outputs["depth"][..., 0] / _wide(target.scale, 4)
    points = outputs["world_points"] / _wide(target.scale, 5)
    camera = F.huber_loss(pose, target.pose_enc, delta=POSE_HUBER) / POSE_HUBER
    fields = pose[..., 7:].clamp(0.05, 3.0)
    image_hw = (depth.shape[-2], depth.shape[-1])
    cameras, intrinsics = geometry.pose_encoding_to_cameras(torch.cat((pose[..., :7], fields), -1), image_hw)
    placed = geometry.unproject(depth, intrinsics, cameras)
    return {
        "camera": camera,
        "depth": _depth_error(depth, target.depth, target.depth_weight),
        "point": _point_error(points, target.points, target.point_weight),
        "geometry": _point_error(points, placed, target.point_weight),
    }


def tuning_loss(outputs: Mapping[str, Tensor], teacher: Mapping[str, Tensor], pose_weight: float) -> Tensor:
    """Return the loss that tuning minimizes, as a differentiable scalar.

    Args:
        outputs: ``poses`` [I, B, S, 9] of every refinement iteration, ``depth`` [B, F, H, W, 1] and ``world_points``
            [B, F, H, W, 3] of some frames.
        teacher: the float model's outputs of the same names, and their confidences, which weight the errors.
        pose_weight: weight of the poses' error.
    """
    scale = teacher["world_points"].norm(dim=-1).mean().clamp(min=1e-6)
    depth_weight, point_weight = _mean_one(teacher["depth_conf"]), _mean_one(teacher["world_points_conf"])
    depth = _depth_error(outputs["depth"][..., 0], teacher["depth"][..., 0], depth_weight) / scale
    points = _point_error(outputs["world_points"], teacher["world_points"], point_weight) / scale
    return pose_weight * (outputs["poses"] - teacher["poses"]).abs().mean() + depth + points


def error_of_huber(loss: float) -> float:
    """Return the pose error whose Huber loss, as in ``TaskLoss.camera``, is this; zero for a negative loss."""
    loss = max(0.0, loss)
    return math.sqrt(2 * POSE_HUBER * loss) if loss <= POSE_HUBER / 2 else loss + POSE_HUBER / 2


def huber_of_error(error: float) -> float:
    """Return the Huber loss, as in ``TaskLoss.camera``, of a pose error of at least zero.

    >>> [round(error_of_huber(huber_of_error(error)), 9) for error in (0.0, 2e-4, 1e-3, 0.5)]
    [0.0, 0.0002, 0.001, 0.5]
    """
    return error**2 / (2 * POSE_HUBER) if error <= POSE_HUBER else error - POSE_HUBER / 2


def mean_loss(parts: Sequence[Mapping[str, Tensor]], weights: Sequence[int]) -> TaskLoss:
    """Average the parts over batches, weighted by their numbers of scenes; NaN becomes infinity."""
    total = sum(weights)
    values = {
        name: sum(float(part[name]) * weight for part, weight in zip(parts, weights, strict=True)) / total
        for name in ("camera", "depth", "point", "geometry")
    }
    return TaskLoss(**{name: value if value == value else float("inf") for name, value in values.items()})


def _depth_error(depth: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (weight * (depth - target).abs()).mean()


def _point_error(points: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (weight * (points - target).norm(dim=-1)).mean()


def _scaled_pose(pose_enc: Tensor, scale: Tensor) -> Tensor:
    return torch.cat((pose_enc[..., :3] / scale[:, None, None], pose_enc[..., 3:]), -1)


def _wide(scale: Tensor, dimensions: int) -> Tensor:
    return scale.reshape(-1, *[1] * (dimensions - 1))


def _mean_one(weight: Tensor) -> Tensor:
    return weight / weight.mean().clamp(min=1e-12)
