"""The sample scene is the room that its README names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from qvggt.data.rooms.family import SPLITS, render_rooms
from qvggt.geometry import unproject
from qvggt.weights.pretrained import SAMPLE_SCENE

SEED = 7_000_124


def truth() -> dict[str, np.ndarray]:
    with np.load(SAMPLE_SCENE / "truth.npz") as file:
        return dict(file)


def test_it_is_small_and_whole():
    values = truth()
    photos = [SAMPLE_SCENE / name for name in values["names"]]
    assert len(photos) == 8
    assert sum(path.stat().st_size for path in photos) < 700_000
    assert (SAMPLE_SCENE / "truth.npz").stat().st_size < 300_000
    assert {Image.open(path).size for path in photos} == {tuple(values["image_hw"][::-1])}
    assert not any(SEED in part.seeds for part in SPLITS.values())


def test_photographs_cameras_and_depth_are_those_of_its_seed():
    values = truth()
    batch = render_rooms([SEED], 8, (98, 130))  # an eighth of the pixels and the same cameras
    np.testing.assert_allclose(values["cam_from_world"], batch.cam_from_world[0], atol=1e-5)
    focal = values["intrinsics"][:, 0, 0] / values["image_hw"][1]
    np.testing.assert_allclose(focal, batch.intrinsics[0, :, 0, 0] / 130, rtol=1e-5)
    for name, image in zip(values["names"], batch.images[0], strict=True):
        small = Image.open(SAMPLE_SCENE / name).resize((130, 98), Image.Resampling.BOX)
        error = np.abs(np.asarray(small) / 255 - image.permute(1, 2, 0).numpy())
        assert error.mean() < 0.03


def test_points_of_all_frames_lie_in_one_room():
    values = truth()
    half = np.diag([0.5, 0.5, 1.0]) @ values["intrinsics"]
    depth = torch.from_numpy(values["depth_mm"] / 1000)
    points = unproject(depth, torch.from_numpy(half), torch.from_numpy(values["cam_from_world"]))
    assert points[..., 2].min() > -0.01  # the floor
    centers = points.flatten(0, 2)
    assert (centers.abs().amax(0) < 4.0).all()
    lowest = points[..., 2].flatten(1).amin(1)
    assert (lowest.abs() < 0.02).all()  # every frame sees the floor, all at the same height


def test_readme_has_the_command():
    text = Path(SAMPLE_SCENE / "README.md").read_text()
    assert f"--seed {SEED} --scenes 1 --size 518 392 --samples 2 --jpeg 92" in text
