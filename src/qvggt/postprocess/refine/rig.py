"""Frames that cameras of a rig took at one moment: they move as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qvggt.postprocess.frames import camera_centers, frame_index
from qvggt.types import Prediction, QvggtError


@dataclass(frozen=True)
class RigFrames:
    """Which frames move together, and how they stand to each other.

    Attributes:
        moment: [S] int64: frames of one number were taken at one moment by cameras that are fixed to each other.
        sensor: [S] int64: the camera of the rig that took the frame; 0 for frames that move alone.
        cam_from_rig: [S, 3, 4] float64, from the first frame of the moment to this one.
    """

    moment: np.ndarray
    sensor: np.ndarray
    cam_from_rig: np.ndarray

    @classmethod
    def of(cls, prediction: Prediction, cameras: np.ndarray, moments: Sequence[Mapping[str, str]] = ()) -> RigFrames:
        """Return the frames of a rig whose relative poses are those of ``cameras`` [S, 3, 4].

        Args:
            prediction: whose frames they are.
            cameras: of the frames.
            moments: for each moment the name of each camera's frame, by the camera's name.

        Raises:
            QvggtError: a frame does not exist, or is named twice.
        """
        moment, sensor = np.arange(len(cameras)), np.zeros(len(cameras), np.int64)
        relative, seen, numbers = np.tile(np.eye(4)[:3], (len(cameras), 1, 1)), set(), {}
        for group in moments:
            places = {camera: frame_index(prediction, name) for camera, name in group.items()}
            if not seen.isdisjoint(places.values()) or len(set(places.values())) < len(places):
                raise QvggtError(f"a frame of the rig is named twice, in {', '.join(group.values())}: name each once")
            seen |= set(places.values())
            first = min(places.values(), default=0)
            for camera, place in places.items():
                moment[place], sensor[place] = first, numbers.setdefault(camera, len(numbers))
                relative[place] = composed(cameras[place], inverted(cameras[first]))
        return cls(moment, sensor, relative)

    @property
    def together(self) -> bool:
        """Whether any frames move together."""
        return len(np.unique(self.moment)) < len(self.moment)

    @property
    def sets_scale(self) -> bool:
        """Whether cameras of a rig are apart, which fixes the scale of the world."""
        return bool(np.linalg.norm(camera_centers(self.cam_from_rig), axis=1).max() > 0)

    def moving_with(self, frames: np.ndarray) -> np.ndarray:
        """Return the frames [S] bool that move if these [S] bool do."""
        return np.isin(self.moment, self.moment[frames])

    def wholly(self, chosen: np.ndarray, among: np.ndarray) -> np.ndarray:
        """Return the frames [S] bool of moments in which all of the frames ``among`` some are ``chosen``."""
        return self.moving_with(among) & ~self.moving_with(among & ~chosen)

    def followed(self, cameras: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Return cameras [S, 3, 4] in which those that move with some frames [S] bool stand in the rig as they do."""
        placed = cameras.copy()
        for index in np.flatnonzero(self.moving_with(frames) & ~frames):
            leader = np.flatnonzero(frames & (self.moment == self.moment[index]))[0]
            rig_from_world = composed(inverted(self.cam_from_rig[leader]), cameras[leader])
            placed[index] = composed(self.cam_from_rig[index], rig_from_world)
        return placed


def composed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the pose [3, 4] that applies ``other`` first, then ``one``."""
    return np.column_stack((one[:, :3] @ other[:, :3], one[:, :3] @ other[:, 3] + one[:, 3]))


def inverted(pose: np.ndarray) -> np.ndarray:
    """Return the inverse of a pose [3, 4]."""
    return np.column_stack((pose[:, :3].T, -pose[:, :3].T @ pose[:, 3]))
