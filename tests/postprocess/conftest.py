"""A rendered room as photographs and as the prediction of an imperfect model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from qvggt import geometry
from qvggt.data.rooms.family import render_rooms
from qvggt.postprocess.frames import camera_centers
from qvggt.types import FrameMap, Prediction

ORIGINAL, PROCESSED = 300, 150


@dataclass(frozen=True)
class Photographed:
    """Photographs, and the prediction of a perfect model for images of half their size."""

    photographs: list[Image.Image]
    truth: Prediction

    def disturbed(self, degrees: float = 1.5, focal: float = 1.03, seed: int = 0) -> Prediction:
        """Return the prediction with turned and moved cameras, wrong focal lengths and wrongly scaled depth maps."""
        rng = np.random.default_rng(seed)
        cameras = self.truth.cam_from_world.astype(np.float64)
        centers = camera_centers(cameras)
        for index in range(1, len(cameras)):
            rotation = Rotation.from_rotvec(np.radians(degrees) * unit(rng)).as_matrix() @ cameras[index, :, :3]
            distance = np.linalg.norm(centers[index] - centers[0])
            center = centers[index] + np.tan(np.radians(degrees)) * distance * unit(rng)
            cameras[index] = np.column_stack((rotation, -rotation @ center))
        intrinsics = self.truth.intrinsics.copy()
        intrinsics[:, (0, 1), (0, 1)] *= focal
        depth = self.truth.depth * np.exp(0.05 * rng.normal(size=(len(cameras), 1, 1))).astype(np.float32)
        return predicted(self.truth, cameras, intrinsics, depth)

    def moved(self, cameras: np.ndarray, focal: float) -> Prediction:
        """Return the prediction with other cameras and wrong focal lengths."""
        intrinsics = self.truth.intrinsics.copy()
        intrinsics[:, (0, 1), (0, 1)] *= focal
        return predicted(self.truth, cameras, intrinsics, self.truth.depth)


def unit(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def predicted(base: Prediction, cameras: np.ndarray, intrinsics: np.ndarray, depth: np.ndarray) -> Prediction:
    """Return a prediction with these cameras and depth maps, and the encoding and points that belong to them."""
    poses, lenses = torch.from_numpy(cameras).float(), torch.from_numpy(intrinsics).float()
    size = (base.images.shape[2], base.images.shape[3])
    return replace(
        base,
        cam_from_world=poses.numpy(),
        intrinsics=lenses.numpy(),
        pose_enc=geometry.cameras_to_pose_encoding(poses, lenses, size).numpy(),
        depth=depth.astype(np.float32),
        world_points=geometry.unproject_frames(torch.from_numpy(depth).float(), lenses, poses).numpy(),
    )


def render(frames: int) -> Photographed:
    batch = render_rooms([3_000_001], frames, (ORIGINAL, ORIGINAL), samples=2)
    pixels = np.rint(batch.images[0].permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    photographs = [Image.fromarray(each) for each in pixels]
    small = [np.asarray(each.resize((PROCESSED, PROCESSED), Image.Resampling.BOX)) for each in photographs]
    cameras = batch.cam_from_world[0].double()
    cameras = geometry.compose_cameras(cameras, geometry.invert_camera(cameras[:1])).numpy()
    intrinsics = batch.intrinsics[0].double().numpy().copy()
    intrinsics[:, :2, 2] += 0.5  # from a first pixel centered at (0, 0) to one at (0.5, 0.5)
    intrinsics[:, :2] *= PROCESSED / ORIGINAL
    depth = batch.depth[0, :, ::2, ::2].numpy()
    base = Prediction(
        images=np.stack(small).transpose(0, 3, 1, 2).astype(np.float32) / 255,
        names=tuple(f"{index:03d}.png" for index in range(frames)),
        maps=(FrameMap((ORIGINAL, ORIGINAL), (0.5, 0.5), (0.0, 0.0)),) * frames,
        depth_conf=np.ones_like(depth),
        world_points_conf=np.ones_like(depth),
    )
    return Photographed(photographs, predicted(base, cameras, intrinsics, depth))


@pytest.fixture(scope="session")
def photographed() -> Photographed:
    """Return four photographs of a room."""
    return render(4)
