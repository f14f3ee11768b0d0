"""A room whose geometry is known in closed form, seen by known cameras: what the fake datasets are written from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qvggt.geometry import unproject
from qvggt.types import Scene

HALF_SIZE = np.array([2.0, 1.5, 2.5])  # the room is [-h, h] in each axis, seen from inside


@dataclass(frozen=True)
class View:
    photo: np.ndarray  # [h, w, 3] uint8
    depth: np.ndarray  # [h, w] float64
    rotation: np.ndarray  # [3, 3], cam_from_world, OpenCV axes
    translation: np.ndarray  # [3]

    @property
    def cam_from_world(self) -> np.ndarray:
        return np.column_stack((self.rotation, self.translation))

    @property
    def world_from_cam(self) -> np.ndarray:
        """[4, 4]: the camera's axes and center in the world."""
        pose = np.eye(4)
        pose[:3, :3] = self.rotation.T
        pose[:3, 3] = -self.rotation.T @ self.translation
        return pose


def color(points: np.ndarray) -> np.ndarray:
    """Smooth color [..., 3] in 0..1 of points in the room."""
    return 0.5 + 0.4 * np.sin(points * np.array([1.1, 1.7, 0.9]) + np.array([0.3, 1.0, 2.0]))


def camera(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation of one of several cameras, turned about all three axes and away from the origin."""
    yaw, pitch, roll = 0.4 + 0.25 * index, 0.2 - 0.1 * index, 0.15 * index - 0.1
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    rotation = about_z @ about_x @ about_y
    center = np.array([0.3 - 0.2 * index, 0.1 + 0.15 * index, -0.4 + 0.1 * index])
    return rotation, -rotation @ center


def cast(rays: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth [...] and color [..., 3] along camera rays [..., 3] with z = 1."""
    center = -rotation.T @ translation
    directions = rays @ rotation  # R^T r, for each ray
    directions[directions == 0] = 1e-30
    depth = np.where(directions > 0, (HALF_SIZE - center) / directions, (-HALF_SIZE - center) / directions).min(-1)
    return depth, color(center + depth[..., None] * directions)


def view(index: int, intrinsics: np.ndarray, size: tuple[int, int], pixel_center: float = 0.5) -> View:
    """Render one camera: ``size`` is (width, height), the first pixel's center is at (pixel_center, pixel_center)."""
    width, height = size
    u, v = np.meshgrid(np.arange(width) + pixel_center, np.arange(height) + pixel_center)
    rays = np.stack(
        ((u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1], np.ones_like(u)), -1
    )
    rotation, translation = camera(index)
    depth, shade = cast(rays, rotation, translation)
    return View(np.rint(shade * 255).astype(np.uint8), depth, rotation, translation)


def world_points(scene: Scene) -> np.ndarray:
    """Points [S, H, W, 3] that a scene's depth, intrinsics and cameras give together."""
    assert scene.depth is not None
    assert scene.intrinsics is not None
    assert scene.cam_from_world is not None
    arrays = (scene.depth.astype(np.float64), scene.intrinsics, scene.cam_from_world)
    return unproject(*(torch.from_numpy(array) for array in arrays)).numpy()


def assert_true(scene: Scene, distance: float, shade: float = 0.01) -> None:
    """Every valid point lies on a wall within ``distance`` and has its pixel's color, ``shade`` off on average."""
    assert scene.valid is not None
    points = world_points(scene)[scene.valid]
    assert len(points) > 0
    to_wall = np.abs(HALF_SIZE - np.abs(points)).min(-1)
    outside = (np.abs(points) - HALF_SIZE).max(-1)
    assert max(to_wall.max(), outside.max()) < distance
    pixels = scene.images.transpose(0, 2, 3, 1)[scene.valid]
    assert np.abs(pixels - color(points)).mean() < shade
