"""A scene with exact truth, and the prediction that a perfect model would make of it in its own unit."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qvggt.eval.ground_truth import unproject_maps
from qvggt.eval.metrics.pose import relative_to_first
from qvggt.types import FrameMap, Prediction, Scene

SIZE = 24
UNIT = 0.4  # the perfect model's unit, per meter


@pytest.fixture
def scene() -> Scene:
    rng = np.random.default_rng(0)
    frames = 4
    rotation = Rotation.from_rotvec(rng.normal(0, 0.2, (frames, 3))).as_matrix()
    cameras = np.concatenate((rotation, rng.normal(0, 0.5, (frames, 3, 1))), -1)
    intrinsics = np.tile(np.array([[20.0, 0, SIZE / 2], [0, 22.0, SIZE / 2], [0, 0, 1]]), (frames, 1, 1))
    v, u = np.mgrid[:SIZE, :SIZE]
    depth = np.stack([2.5 + 0.5 * np.sin(u / 4 + k) + 0.3 * np.cos(v / 5 - k) for k in range(frames)])
    valid = np.ones(depth.shape, bool)
    valid[:, :2, :3] = False
    images = np.zeros((frames, 3, SIZE, SIZE), np.float32)
    return Scene("bumps", images, cameras, intrinsics, depth.astype(np.float32), valid, "group")


@pytest.fixture
def perfect(scene: Scene) -> Prediction:
    cameras = relative_to_first(scene.cam_from_world)
    cameras[:, :, 3] *= UNIT
    depth = scene.depth * UNIT
    frames = len(depth)
    return Prediction(
        images=scene.images,
        names=tuple(f"{k}.png" for k in range(frames)),
        maps=(FrameMap((SIZE, SIZE), (1.0, 1.0), (0.0, 0.0)),) * frames,
        cam_from_world=cameras.astype(np.float32),
        intrinsics=scene.intrinsics.astype(np.float32),
        depth=depth,
        world_points=unproject_maps(depth, scene.intrinsics, cameras).astype(np.float32),
    )
