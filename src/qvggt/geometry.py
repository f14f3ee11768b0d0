"""Pose encodings, cameras and unprojection.

Cameras are ``cam_from_world`` [R|t] with OpenCV axes (x right, y down, z forward). Quaternions are ordered x y z w.
Unprojection takes integer pixel coordinates u = 0..W-1, v = 0..H-1, as VGGT does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qvggt.types import QvggtError


@dataclass(frozen=True, eq=False)
class Similarity:
    """A similarity transform, Sim(3): x -> scale * rotation @ x + translation.

    Attributes:
        scale: at least 0.
        rotation: [3, 3] float64, determinant +1.
        translation: [3] float64.

    Raises:
        QvggtError: a value has another type or shape, or is not finite.
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def __post_init__(self) -> None:
        for name, shape in (("scale", ()), ("rotation", (3, 3)), ("translation", (3,))):
            value = getattr(self, name)
            numeric = np.asarray(value).dtype.kind in "fiu" and (not shape or isinstance(value, np.ndarray))
            if not numeric or np.shape(value) != shape or not np.isfinite(value).all():
                expected = f"an array of finite numbers {list(shape)}" if shape else "a finite number"
                raise QvggtError(f"{name} of a similarity must be {expected}, got {value!r:.80}")

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Transform points [..., 3] and return them as float64."""
        return self.scale * (points.astype(np.float64) @ self.rotation.T) + self.translation

    def __matmul__(self, other: Similarity) -> Similarity:
        """Return the transform that applies ``other`` first, then this one."""
        rotation = self.rotation @ other.rotation
        return Similarity(self.scale * other.scale, rotation, self.apply(other.translation))

    @property
    def inverse(self) -> Similarity:
        """The transform that undoes this one; its scale must not be 0."""
        rotation = self.rotation.T
        return Similarity(1 / self.scale, rotation, -(rotation @ self.translation) / self.scale)


def check_points(points: np.ndarray, minimum: int = 1) -> np.ndarray:
    """Return points [N, 3] as float64.

    Raises:
        ValueError: if the shape is another, there are fewer than ``minimum``, or any is not finite.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < minimum:
        raise ValueError(f"expected points [N, 3] with N >= {minimum}, got shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("expected finite points, got NaN or infinity")
    return points


def umeyama(source: np.ndarray, target: np.ndarray) -> Similarity:
    """Return the similarity that brings corresponding points together with the least sum of squares.

    Degenerate sources keep an optimum: for collinear points the rotation about their line is free and one is
    chosen; for a single place the translation alone fits, with scale 1 and no rotation.

    Args:
        source: [N, 3] finite points.
        target: [N, 3] finite points, one for each of ``source``.

    Raises:
        ValueError: if the shapes differ, nothing is given or a point is not finite.

    Source: S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    source, target = check_points(source), check_points(target)
    if source.shape != target.shape:
        raise ValueError(f"expected corresponding points, got shapes {source.shape} and {target.shape}")
    mean_s, mean_t = source.mean(0), target.mean(0)
    centered_s, centered_t = source - mean_s, target - mean_t
    variance = (centered_s**2).sum() / len(source)
    if variance <= 1e-24 * (source**2).sum() / len(source):
        return Similarity(1.0, np.eye(3), mean_t - mean_s)
    u, singular, v_t = np.linalg.svd(centered_t.T @ centered_s / len(source))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(v_t))])
    rotation = (u * signs) @ v_t
    scale = max(float((singular * signs).sum() / variance), 0.0)
    return Similarity(scale, rotation, mean_t - scale * rotation @ mean_s)


def quaternion_to_matrix(xyzw: Tensor) -> Tensor:
    """Return rotation matrices [..., 3, 3] of quaternions [..., 4] in x y z w order, which need not be unit length."""
    if xyzw.shape[-1] != 4:
        raise ValueError(f"expected quaternions [..., 4], got shape {tuple(xyzw.shape)}")
    x, y, z, w = xyzw.unbind(-1)
    two_s = 2.0 / (xyzw * xyzw).sum(-1)
    rows = (
        1 - two_s * (y * y + z * z), two_s * (x * y - z * w), two_s * (x * z + y * w),
        two_s * (x * y + z * w), 1 - two_s * (x * x + z * z), two_s * (y * z - x * w),
        two_s * (x * z - y * w), two_s * (y * z + x * w), 1 - two_s * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(rotation: Tensor) -> Tensor:
    """Return unit quaternions [..., 4], x y z w with w >= 0, of rotation matrices [..., 3, 3].

    The largest of the four components is computed first and divides the others, so no case is ill-conditioned.
    """
    if rotation.shape[-2:] != (3, 3):
        raise ValueError(f"expected rotations [..., 3, 3], got shape {tuple(rotation.shape)}")
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    # Rows: 4 x component k times the whole quaternion, for k = x, y, z, w.
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    xw, yw, zw = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    table = torch.stack(
        (
            torch.stack((1 + xx - yy - zz, xy, xz, xw), -1),
            torch.stack((xy, 1 - xx + yy - zz, yz, yw), -1),
            torch.stack((xz, yz, 1 - xx - yy + zz, zw), -1),
            torch.stack((xw, yw, zw, 1 + xx + yy + zz), -1),
        ),
        -2,
    )
    best = table.diagonal(dim1=-2, dim2=-1).argmax(-1)
    quat = table.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quat = quat / quat.norm(dim=-1, keepdim=True)
    return torch.where(quat[..., 3:] < 0, -quat, quat)


def pose_encoding_to_cameras(pose_enc: Tensor, image_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the cameras of pose encodings.

    Args:
        pose_enc: [..., 9]: translation (3), quaternion xyzw (4), vertical and horizontal field of view in radians.
        image_hw: height and width in pixels of the images that the intrinsics are for.

    Returns:
        ``cam_from_world`` [..., 3, 4] and ``intrinsics`` [..., 3, 3] with the principal point at (W / 2, H / 2).
    """
    if pose_enc.shape[-1] != 9:
        raise ValueError(f"expected pose encodings [..., 9], got shape {tuple(pose_enc.shape)}")
    height, width = image_hw
    rotation = quaternion_to_matrix(pose_enc[..., 3:7])
    cam_from_world = torch.cat((rotation, pose_enc[..., :3, None]), -1)
    focal_y = (height / 2) / torch.tan(pose_enc[..., 7] / 2)
    focal_x = (width / 2) / torch.tan(pose_enc[..., 8] / 2)
    zero, one = torch.zeros_like(focal_x), torch.ones_like(focal_x)
    rows = (focal_x, zero, zero + width / 2, zero, focal_y, zero + height / 2, zero, zero, one)
    return cam_from_world, torch.stack(rows, -1).unflatten(-1, (3, 3))


def cameras_to_pose_encoding(cam_from_world: Tensor, intrinsics: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Return the pose encoding [..., 9] of cameras [..., 3, 4] with intrinsics [..., 3, 3] for images of ``image_hw``.

    The principal point is not encoded and is assumed to be the center.
    """
    height, width = image_hw
    quat = matrix_to_quaternion(cam_from_world[..., :3, :3])
    fov_v = 2 * torch.atan((height / 2) / intrinsics[..., 1, 1])
    fov_h = 2 * torch.atan((width / 2) / intrinsics[..., 0, 0])
    return torch.cat((cam_from_world[..., :3, 3], quat, fov_v[..., None], fov_h[..., None]), -1)


def invert_camera(cam_from_world: Tensor) -> Tensor:
    """Return the inverse [..., 3, 4] of rigid transforms [..., 3, 4]."""
    rotation_t = cam_from_world[..., :3, :3].transpose(-1, -2)
    return torch.cat((rotation_t, -rotation_t @ cam_from_world[..., :3, 3:]), -1)


def compose_cameras(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left @ right`` of rigid transforms [..., 3, 4]: ``a_from_b`` and ``b_from_c`` give ``a_from_c``."""
    rotation = left[..., :3, :3] @ right[..., :3, :3]
    translation = left[..., :3, :3] @ right[..., :3, 3:] + left[..., :3, 3:]
    return torch.cat((rotation, translation), -1)


def unproject_to_camera(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Return points [..., H, W, 3] in the camera's frame from depth [..., H, W] and intrinsics [..., 3, 3]."""
    height, width = depth.shape[-2:]
    u = torch.arange(width, dtype=depth.dtype, device=depth.device)
    v = torch.arange(height, dtype=depth.dtype, device=depth.device)[:, None]
    focal_x, focal_y = intrinsics[..., 0, 0, None, None], intrinsics[..., 1, 1, None, None]
    center_x, center_y = intrinsics[..., 0, 2, None, None], intrinsics[..., 1, 2, None, None]
    return torch.stack(((u - center_x) / focal_x * depth, (v - center_y) / focal_y * depth, depth), -1)


def unproject(depth: Tensor, intrinsics: Tensor, cam_from_world: Tensor) -> Tensor:
    """Return world points [..., H, W, 3] from depth [..., H, W] (distance along the optical axis) and cameras."""
    if depth.shape[:-2] != cam_from_world.shape[:-2] or depth.shape[:-2] != intrinsics.shape[:-2]:
        raise ValueError(
            f"expected depth [..., H, W] with one camera each, got depth {tuple(depth.shape)}, "
            f"cameras {tuple(cam_from_world.shape)}, intrinsics {tuple(intrinsics.shape)}"
        )
    world_from_cam = invert_camera(cam_from_world)
    points = unproject_to_camera(depth, intrinsics)
    return (
        torch.einsum("...ij,...hwj->...hwi", world_from_cam[..., :3, :3], points)
        + world_from_cam[..., None, None, :3, 3]
    )


def unproject_frames(depth: Tensor, intrinsics: Tensor, cam_from_world: Tensor) -> Tensor:
    """Return ``unproject`` of frames [S, ...], computed one at a time to bound the memory of intermediate values."""
    points = depth.new_empty(*depth.shape, 3)
    for index in range(len(depth)):
        points[index] = unproject(depth[index], intrinsics[index], cam_from_world[index])
    return points


def project(points: Tensor, intrinsics: Tensor, cam_from_world: Tensor) -> tuple[Tensor, Tensor]:
    """Return pixels [..., N, 2] and depths [..., N] of world points [..., N, 3]; the inverse of ``unproject``."""
    local = points @ cam_from_world[..., :3, :3].transpose(-1, -2) + cam_from_world[..., None, :3, 3]
    homogeneous = local @ intrinsics.transpose(-1, -2)
    return homogeneous[..., :2] / homogeneous[..., 2:], local[..., 2]


@dataclass(frozen=True)
class Truth:
    """Ground truth of a batch of scenes in the first camera's frame, scaled to a mean point distance of one.

    Attributes:
        pose_enc: [B, S, 9].
        depth: [B, S, H, W].
        points: [B, S, H, W, 3].
        valid: [B, S, H, W] bool.
    """

    pose_enc: Tensor
    depth: Tensor
    points: Tensor
    valid: Tensor


def normalized_truth(cam_from_world: Tensor, intrinsics: Tensor, depth: Tensor, valid: Tensor) -> Truth:
    """Return the training target for cameras [B, S, 3, 4], intrinsics [B, S, 3, 3] and depth [B, S, H, W]."""
    first = invert_camera(cam_from_world[:, :1])
    cameras = compose_cameras(cam_from_world, first)  # [B, S, 3, 4], the first one the identity
    points = unproject(depth, intrinsics, cameras)
    distance = points.norm(dim=-1) * valid
    scale = distance.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)  # [B]
    scale = torch.where(scale > 0, scale, 1.0)  # a scene without valid depth keeps its unit
    cameras = torch.cat((cameras[..., :3], cameras[..., 3:] / scale[:, None, None, None]), -1)
    return Truth(
        cameras_to_pose_encoding(cameras, intrinsics, (depth.shape[-2], depth.shape[-1])),
        depth / scale[:, None, None, None],
        points / scale[:, None, None, None, None],
        valid,
    )
