"""Draw camera paths in a room: walks, orbits and wanders that keep clear of walls and furniture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qvggt.data.rooms.scene import CAMERA_STREAM, Dice, Room, RoomFamily

CLEARANCE_M = 0.25
"""Least distance of a camera from walls and furniture."""

_CANDIDATES = 12


@dataclass(frozen=True)
class CameraPath:
    """Cameras of one scene, or of several where every field has a first axis more.

    Attributes:
        center: [..., S, 3] positions in meters.
        target: [..., S, 3] points on the optical axes.
        roll: [..., S] turn about the optical axis in radians.
    """

    center: np.ndarray
    target: np.ndarray
    roll: np.ndarray

    @classmethod
    def stack(cls, paths: Sequence[CameraPath]) -> CameraPath:
        """Return several paths as one with a first axis more."""
        return cls(*(np.stack([getattr(path, name) for path in paths]) for name in ("center", "target", "roll")))

    def cam_from_world(self) -> np.ndarray:
        """Return the cameras [..., S, 3, 4] with OpenCV axes."""
        forward = self.target - self.center
        forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
        right = np.stack((forward[..., 1], -forward[..., 0], np.zeros(forward.shape[:-1])), -1)
        right = right / np.linalg.norm(right, axis=-1, keepdims=True)
        down = np.cross(forward, right)
        cos, sin = np.cos(self.roll)[..., None], np.sin(self.roll)[..., None]
        rotation = np.stack((cos * right + sin * down, cos * down - sin * right, forward), -2)
        return np.concatenate((rotation, -rotation @ self.center[..., None]), -1)

    def shrink(self, factor: float) -> CameraPath:
        """Return one path with all motion drawn toward its first camera; a factor of 0 leaves no motion."""
        parts = (self.center, self.target, self.roll)
        return CameraPath(*(part[:1] + factor * (part - part[:1]) for part in parts))


def clearance(room: Room, points: np.ndarray) -> np.ndarray:
    """Return the distance [...] of points [..., 3] to the nearest wall or body; bodies count as their boxes."""
    z = room.half[2]
    nearest = (np.array(room.half) - np.abs(points - (0.0, 0.0, z))).min(-1)
    if not room.primitives:
        return nearest
    center = np.array([body.center for body in room.primitives])
    half = np.array([body.half for body in room.primitives])
    yaw = np.array([body.yaw for body in room.primitives])
    local = points[..., None, :] - center
    cos, sin = np.cos(yaw), np.sin(yaw)
    turned = np.stack(
        (cos * local[..., 0] + sin * local[..., 1], cos * local[..., 1] - sin * local[..., 0], local[..., 2]), -1
    )
    beyond = np.abs(turned) - half
    outside = np.sqrt((np.maximum(beyond, 0.0) ** 2).sum(-1))
    return np.minimum(nearest, (outside + np.minimum(beyond.max(-1), 0.0)).min(-1))


def _least_distance(center: np.ndarray) -> np.ndarray:
    """Return the least distance [C] between any two cameras of candidates [C, S, 3]."""
    gaps = ((center[:, :, None] - center[:, None]) ** 2).sum(-1) + 1e6 * np.eye(center.shape[1])
    return np.sqrt(gaps.min((-1, -2)))


class PathDrawer:
    """Draws paths for one room, determined by the seed, the room, the family and the number of frames."""

    def __init__(self, seed: int, room: Room, frames: int, family: RoomFamily) -> None:
        self._dice = Dice(seed, CAMERA_STREAM)
        self._room, self._frames, self._baseline = room, frames, family.baseline
        ahead = np.array((math.cos(room.heading), math.sin(room.heading)))
        self._ahead, self._across = ahead, np.array((-ahead[1], ahead[0]))
        self._reach = float(np.abs(ahead) @ room.half[:2])
        kinds = ("walk", "orbit", "wander")
        kind = kinds[self._dice.integer(0, 2)]
        self._kind = kind if family.path == "mixed" else family.path
        fov = math.radians(self._dice.uniform(*family.fov_deg))
        self.focal_per_width = 0.5 / math.tan(0.5 * fov)

    def draw(self) -> CameraPath:
        """Return a path whose cameras are clear of walls and furniture."""
        for scale in (1.0, 1.0, 0.7, 0.4, 0.2, 0.0):
            center = getattr(self, f"_{self._kind}")(scale * self._baseline)  # [C, S, 3]
            fits = clearance(self._room, center).min(-1) >= CLEARANCE_M
            apart = fits & (_least_distance(center) >= 0.8 * scale / self._frames)
            if fits.any():
                best = apart.argmax() if apart.any() else fits.argmax()
                return self._look(center[best], scale * self._baseline)
        return self._look(np.repeat(self._refuge()[None], self._frames, 0), 0.0)

    def _uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return low + (high - low) * self._dice.rng.random(shape)

    def _place(self, ahead: np.ndarray, across: np.ndarray, height: np.ndarray) -> np.ndarray:
        """Return points at shares of the room along and across the heading, kept within the walls."""
        flat = self._reach * (ahead[..., None] * self._ahead) + across[..., None] * self._across
        limit = np.array(self._room.half[:2]) - CLEARANCE_M - 0.1
        return np.concatenate((np.clip(flat, -limit, limit), height[..., None]), -1)

    def _start(self) -> np.ndarray:
        """Return candidates [C, 1, 3] in the half of the room behind its middle."""
        shape = (_CANDIDATES, 1)
        width = 0.6 * min(self._room.half[:2])
        return self._place(
            self._uniform(-0.95, -0.1, *shape), self._uniform(-width, width, *shape), self._uniform(1.15, 1.75, *shape)
        )

    def _wander(self, scale: float) -> np.ndarray:
        """Return candidates [C, S, 3] at random places around a start."""
        shape = (_CANDIDATES, self._frames)
        radius = scale * self._uniform(0.4, 1.5, _CANDIDATES, 1) * np.sqrt(self._uniform(0.0, 1.0, *shape))
        angle = self._uniform(0.0, 2 * math.pi, *shape)
        lift = np.minimum(scale, 1.5) * self._uniform(-0.25, 0.25, *shape)
        return self._start() + np.stack((radius * np.cos(angle), radius * np.sin(angle), lift), -1)

    def _walk(self, scale: float) -> np.ndarray:
        """Return candidates [C, S, 3] along curved walks."""
        count = _CANDIDATES
        length = scale * self._uniform(0.8, 2.8, count, 1)
        angle, turn = self._uniform(0.0, 2 * math.pi, count, 1), self._uniform(-1.2, 1.2, count, 1)
        along = np.linspace(0.0, 1.0, self._frames)[None] if self._frames > 1 else np.zeros((1, 1))
        step = 0.5 / max(1, self._frames - 1)
        along = along + step * self._uniform(-0.5, 0.5, count, self._frames)
        direction = angle + turn * along * 0.5
        rise = min(scale, 1.5) * self._uniform(-0.3, 0.3, count, 1) * along
        offset = np.stack((length * along * np.cos(direction), length * along * np.sin(direction), rise), -1)
        return self._start() + offset

    def _orbit(self, scale: float) -> np.ndarray:
        """Return candidates [C, S, 3] on arcs around a point ahead."""
        count = _CANDIDATES
        center = self._place(
            self._uniform(0.0, 0.5, count, 1), self._uniform(-0.5, 0.5, count, 1), self._uniform(1.15, 1.75, count, 1)
        )
        radius = self._uniform(1.3, 2.8, count, 1)
        arc = np.minimum(scale * np.radians(self._uniform(25.0, 85.0, count, 1)), 2.0)
        along = np.linspace(-0.5, 0.5, self._frames)[None] if self._frames > 1 else np.zeros((1, 1))
        along = along * np.sign(self._uniform(-1.0, 1.0, count, 1))
        heading = self._room.heading + math.pi + self._uniform(-0.6, 0.6, count, 1)
        angle = heading + arc * (along + self._uniform(-0.3, 0.3, count, self._frames) / self._frames)
        lift = min(scale, 1.5) * self._uniform(-0.2, 0.2, count, self._frames)
        return center + np.stack((radius * np.cos(angle), radius * np.sin(angle), lift), -1)

    def _loop(self, scale: float) -> np.ndarray:
        """Return candidates [C, S, 3] on closed ellipses around a point near the middle of the room."""
        count, frames = _CANDIDATES, self._frames
        ahead, across = self._uniform(-0.25, 0.25, count, 1), self._uniform(-0.4, 0.4, count, 1)
        center = self._place(ahead, across, self._uniform(1.15, 1.75, count, 1))
        radius = np.minimum(scale, 1.0) * self._uniform(0.5, 1.0, count, 2)
        along = np.arange(frames) / frames + self._uniform(-0.25, 0.25, count, frames) / frames
        angle = self._room.heading + np.sign(self._uniform(-1.0, 1.0, count, 1)) * 2 * math.pi * along
        lift = np.minimum(scale, 1.0) * self._uniform(-0.1, 0.1, count, frames)
        return center + np.stack((radius[:, :1] * np.cos(angle), radius[:, 1:] * np.sin(angle), lift), -1)

    def _look(self, center: np.ndarray, scale: float) -> CameraPath:
        """Return a path that looks at a jittered point in the half of the room ahead; in a loop, across it."""
        if self._kind == "loop":
            return self._look_across(center)
        frames, dice = self._frames, self._dice
        middle = self._reach * dice.uniform(0.35, 0.8) * self._ahead
        width = 0.35 * min(self._room.half[:2])
        middle = middle + dice.uniform(-width, width) * self._across
        height = dice.uniform(0.7, 1.3)
        jitter = scale * (0.3 if self._kind == "orbit" else 0.75)
        spread = jitter * self._uniform(-1.0, 1.0, frames, 3) * (1.0, 1.0, 0.6)
        target = np.array((*middle, height)) + spread
        flat = target[:, :2] - center[:, :2]
        behind = np.maximum(0.0, 0.8 - flat @ self._ahead)  # never look straight down or back
        target[:, :2] += behind[:, None] * self._ahead
        roll = np.radians(self._uniform(-4.0, 4.0, frames)) * min(1.0, scale)
        center = center.copy()
        center[:, 2] = np.clip(center[:, 2], 1.0, 1.9)
        return CameraPath(center, target, roll)

    def _look_across(self, center: np.ndarray) -> CameraPath:
        """Return a path that looks across its middle, and so turns once, with a jitter of a few degrees."""
        frames = len(center)
        middle = center.mean(0) - (1e-6 * self._ahead[0], 1e-6 * self._ahead[1], 0.0)  # any direction without motion
        flat = (center - middle)[:, :2]
        angle = np.arctan2(flat[:, 1], flat[:, 0]) + np.radians(self._uniform(-4.0, 4.0, frames))
        height = self._uniform(0.9, 1.3, frames)
        target = np.column_stack((center[:, 0] - 3 * np.cos(angle), center[:, 1] - 3 * np.sin(angle), height))
        roll = np.radians(self._uniform(-4.0, 4.0, frames))
        center = center.copy()
        center[:, 2] = np.clip(center[:, 2], 1.0, 1.9)
        return CameraPath(center, target, roll)

    def _refuge(self) -> np.ndarray:
        """Return the clearest of many places, where no candidate was clear enough."""
        x, y, _ = self._room.half
        grid = np.stack(np.meshgrid(np.linspace(-x, x, 24), np.linspace(-y, y, 24), (1.4, 1.9)), -1).reshape(-1, 3)
        return grid[clearance(self._room, grid).argmax()]
