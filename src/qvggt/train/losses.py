"""What training minimises: pose, depth and points, in units of the scene's size."""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt import geometry

ITERATION_DECAY = 0.6
"""Weight of a pose iteration against the one after it."""

CONFIDENCE_PRIOR = 0.2
"""Weight of log(confidence): how much a head gains by being sure."""


def pose_loss(iterations: Tensor, target: Tensor) -> Tensor:
    """Return the L1 error of pose encodings [I, B, S, 9], later iterations weighing more."""
    error = (iterations - target).abs()
    translation, rotation, view = error.split((3, 4, 2), -1)
    per_iteration = translation.mean((1, 2, 3)) + rotation.mean((1, 2, 3)) + 0.5 * view.mean((1, 2, 3))
    count = iterations.shape[0]
    weights = ITERATION_DECAY ** torch.arange(count - 1, -1, -1, device=iterations.device, dtype=iterations.dtype)
    return (weights * per_iteration).sum() / weights.sum()


def direction_loss(pose_enc: Tensor, target: Tensor, floor: float = 0.05) -> Tensor:
    """Return the mean error of the unit vectors between all pairs of cameras, seen from the first of the pair.

    Args:
        pose_enc: predicted encodings [B, S, 9].
        target: true encodings [B, S, 9].
        floor: shorter predicted baselines are divided by this instead of their length, so that gradients stay bounded.
    """
    predicted, true = _pair_translations(pose_enc), _pair_translations(target)  # [B, S, S, 3]
    length = true.norm(dim=-1)
    weight = (length > 0.01).to(length.dtype)
    error = (
        predicted / predicted.norm(dim=-1, keepdim=True).clamp(min=floor) - true / length[..., None].clamp(min=1e-6)
    ).abs()
    return (error.sum(-1) * weight).sum() / weight.sum().clamp(min=1)


def _pair_translations(pose_enc: Tensor) -> Tensor:
    """Return the position [B, S, S, 3] of camera j in camera i's frame."""
    rotation = geometry.quaternion_to_matrix(pose_enc[..., 3:7])
    center = -(rotation.transpose(-1, -2) @ pose_enc[..., :3, None])[..., 0]  # [B, S, 3]
    return torch.einsum("bixy,bijy->bijx", rotation, center[:, None] - center[:, :, None])


def placement_loss(depth: Tensor, pose_enc: Tensor, points: Tensor, valid: Tensor) -> Tensor:
    """Return the mean distance between predicted depth, seen through predicted cameras, and the true points.

    It ties depth and camera together: errors of either count by how far they move what is seen.

    Args:
        depth: predicted, [N, H, W].
        pose_enc: predicted, [N, 9].
        points: true, [N, H, W, 3].
        valid: [N, H, W], 1 where the truth is known.
    """
    cameras, intrinsics = geometry.pose_encoding_to_cameras(pose_enc, (depth.shape[-2], depth.shape[-1]))
    distance = (geometry.unproject(depth, intrinsics, cameras) - points).norm(dim=-1)
    return (distance.clamp(max=2.0) * valid).sum() / valid.sum().clamp(min=1)


def dense_loss(error: Tensor, confidence: Tensor, valid: Tensor) -> Tensor:
    """Return the confidence-weighted mean of per-pixel errors [N, H, W] over valid pixels."""
    weighted = confidence * error - CONFIDENCE_PRIOR * confidence.log()
    return (weighted * valid).sum() / valid.sum().clamp(min=1)
