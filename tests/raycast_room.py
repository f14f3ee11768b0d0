"""A furnished room, ray-cast exactly, as the prediction of a perfect model."""

from __future__ import annotations

import numpy as np

from qvggt.types import FrameMap, Prediction

# Boxes (low, high, color) in a world with z up, meters; the first is the room, seen from inside.
BOXES = (
    ((0.0, 0.0, 0.0), (5.0, 4.0, 2.6), (0.86, 0.83, 0.78)),
    ((1.8, 1.5, 0.0), (3.0, 2.3, 0.75), (0.55, 0.35, 0.20)),
    ((0.0, 2.6, 0.0), (0.8, 4.0, 1.9), (0.25, 0.42, 0.55)),
    ((3.9, 0.2, 0.0), (4.8, 1.9, 0.45), (0.70, 0.25, 0.22)),
    ((2.2, 1.7, 0.75), (2.5, 2.0, 1.05), (0.95, 0.75, 0.20)),
)


def look_at(center: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return cam_from_world [3, 4] of a level camera at ``center`` that looks at ``target``; the world has z up."""
    forward = (target - center) / np.linalg.norm(target - center)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    rotation = np.stack((right, np.cross(forward, right), forward))
    return np.concatenate((rotation, -rotation @ center[:, None]), 1)


def shade(points: np.ndarray, box: int, axis: np.ndarray) -> np.ndarray:
    """Return colors [N, 3] of surface points [N, 3] on a box, with a pattern by the axis [N] that its face is on."""
    color = np.tile(np.array(BOXES[box][2]), (len(points), 1))
    if box == 0:
        boards = (np.floor(points[:, 0] / 0.25) + np.floor(points[:, 1] / 1.0)) % 2
        floor = (axis == 2) & (points[:, 2] < 1)
        color[floor] = (np.array([0.62, 0.46, 0.30]) * (0.8 + 0.25 * boards[:, None]))[floor]
        picture = (axis == 1) & (np.abs(points[:, 2] - 1.6) < 0.35) & (np.abs(points[:, 0] - 2.6) < 0.5)
        color[picture] = (0.5 + 0.5 * np.sin(points * 9 + (0, 2, 4)))[picture]
    return color * (0.72 + 0.14 * axis[:, None])


def cast(origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances [N] along rays [N, 3], in ray lengths, and colors [N, 3] of what they meet."""
    best, colors = np.full(len(rays), np.inf), np.zeros((len(rays), 3))
    for index, (low, high, _) in enumerate(BOXES):
        with np.errstate(divide="ignore", invalid="ignore"):
            bounds = (np.array([low, high])[:, None] - origin) / rays
        enter, leave = bounds.min(0), bounds.max(0)
        if index == 0:
            distance, axis, hit = leave.min(1), leave.argmin(1), np.ones(len(rays), bool)
        else:
            distance, axis = enter.max(1), enter.argmax(1)
            hit = (distance < leave.min(1)) & (distance > 0)
        hit &= distance < best
        best = np.where(hit, distance, best)
        colors[hit] = shade(origin + rays * distance[:, None], index, axis)[hit]
    return best, colors


def room_cameras(frames: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return centers [3] and cam_from_world [3, 4] of cameras along an arc, in the room's world with z up."""
    turns = np.linspace(-0.5, 0.9, frames) if frames > 1 else np.array([0.2])
    centers = [np.array([2.5 + 1.9 * np.sin(t), 2.0 - 1.7 * np.cos(t), 1.45 + 0.2 * np.sin(5 * t)]) for t in turns]
    return centers, [look_at(c, np.array([2.3 - 0.3 * t, 2.6, 0.8])) for c, t in zip(centers, turns, strict=True)]


def make_room(width: int = 56, height: int = 42, frames: int = 4, fov_deg: float = 70.0) -> Prediction:
    """Return a prediction of ``frames`` pictures along an arc in the room, in the first camera's frame."""
    centers, poses = room_cameras(frames)
    focal = width / 2 / np.tan(np.radians(fov_deg) / 2)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    v, u = np.mgrid[:height, :width] + 0.5  # centers of pixels, as the intrinsics count them
    local = np.stack(((u - width / 2) / focal, (v - height / 2) / focal, np.ones_like(u)), -1).reshape(-1, 3)
    first = np.vstack((poses[0], (0, 0, 0, 1)))
    images, depths, cameras, points = [], [], [], []
    for center, pose in zip(centers, poses, strict=True):
        depth, colors = cast(center, local @ pose[:, :3])
        images.append(colors.T.reshape(3, height, width))
        depths.append(depth.reshape(height, width))
        cameras.append((np.vstack((pose, (0, 0, 0, 1))) @ np.linalg.inv(first))[:3])
        world = center + (local @ pose[:, :3]) * depth[:, None]
        points.append((world @ first[:3, :3].T + first[:3, 3]).reshape(height, width, 3))
    depth = np.array(depths, np.float32)
    confidence = (1 + 12 * np.exp(-depth / 2.5)).astype(np.float32)
    return Prediction(
        images=np.clip(np.array(images), 0, 1).astype(np.float32),
        names=tuple(f"room_{i + 1:02d}.jpg" for i in range(frames)),
        maps=tuple(FrameMap((width * 4, height * 4), (0.25, 0.25), (0.0, 0.0)) for _ in range(frames)),
        cam_from_world=np.array(cameras, np.float32),
        intrinsics=np.tile(intrinsics.astype(np.float32), (frames, 1, 1)),
        pose_enc=np.zeros((frames, 9), np.float32),
        depth=depth,
        depth_conf=confidence,
        world_points=np.array(points, np.float32),
        world_points_conf=confidence.copy(),
    )
