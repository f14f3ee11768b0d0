"""What a quantized model is judged by: cameras, depth, points and how they agree, against truth or the float model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt import geometry
from qvggt.geometry import Truth
from qvggt.types import QvggtError

POSE_HUBER = 0.001
"""Errors of the pose encoding above this count linearly, in units of the scene's size and radians.

Quantization moves cameras by thousandths: were those squared, depth and points, which are never, would decide alone.
"""


@dataclass(frozen=True)
class TaskLoss:
    """The parts of the objective, each unweighted, in units of the scene's size.

    Attributes:
        camera: Huber error of the pose encoding.
        depth: confidence-weighted mean error of depth.
        point: confidence-weighted mean distance of points.
        geometry: confidence-weighted mean distance between the point map and depth placed by the camera.
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
    """What the outputs for a batch of scenes shall be, scaled to a mean point distance of one.

    Attributes:
        pose_enc: [B, S, 9].
        depth: [B, S, H, W].
        points: [B, S, H, W, 3].
        depth_weight: [B, S, H, W], mean one over the batch; zero where depth is not known.
        point_weight: [B, S, H, W], likewise.
        scale: [B], by which predictions are divided before they are compared.
    """

    pose_enc: Tensor
    depth: Tensor
    points: Tensor
    depth_weight: Tensor
    point_weight: Tensor
    scale: Tensor

    def first(self, scenes: int) -> Target:
        """Return the target of the first few scenes."""
        return replace(self, **{name: value[:scenes] for name, value in vars(self).items()})


def make_target(teacher: Mapping[str, Tensor], truth: Truth | None = None) -> Target:
    """Return the target for a batch of scenes.

    Args:
        teacher: the float model's outputs, as ``VGGT.forward`` names them; errors are weighted by its confidence.
        truth: what is to be matched in place of the float model.

    Raises:
        QvggtError: the float model's outputs are not finite.
    """
    if not all(bool(torch.isfinite(value).all()) for value in teacher.values()):
        raise QvggtError("the float model answers NaN or infinity on a calibration scene: leave that scene out")
    depth_weight, point_weight = teacher["depth_conf"], teacher["world_points_conf"]
    if truth is not None:
        valid = truth.valid.to(depth_weight.dtype)
        depth_weight, point_weight = depth_weight * valid, point_weight * valid
        ones = truth.depth.new_ones(truth.depth.shape[0])
        # Truth fixes no scale: it is the float model's, by the median ratio of depths.
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
    """Return the parts of the objective as scalars that gradients flow through, by the names of ``TaskLoss``."""
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
        "depth": (target.depth_weight * (depth - target.depth).abs()).mean(),
        "point": (target.point_weight * (points - target.points).norm(dim=-1)).mean(),
        "geometry": (target.point_weight * (points - placed).norm(dim=-1)).mean(),
    }


def mean_loss(parts: Sequence[Mapping[str, Tensor]], weights: Sequence[int]) -> TaskLoss:
    """Average the parts over batches, weighted by their numbers of scenes; what is not finite is infinitely bad."""
    total = sum(weights)
    values = {
        name: sum(float(part[name]) * weight for part, weight in zip(parts, weights, strict=True)) / total
        for name in ("camera", "depth", "point", "geometry")
    }
    return TaskLoss(**{name: value if value == value else float("inf") for name, value in values.items()})


def _scaled_pose(pose_enc: Tensor, scale: Tensor) -> Tensor:
    return torch.cat((pose_enc[..., :3] / scale[:, None, None], pose_enc[..., 3:]), -1)


def _wide(scale: Tensor, dimensions: int) -> Tensor:
    return scale.reshape(-1, *[1] * (dimensions - 1))


def _mean_one(weight: Tensor) -> Tensor:
    return weight / weight.mean().clamp(min=1e-12)
