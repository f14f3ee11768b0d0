"""Gaussians to start from: what trainers read back is the cloud."""

import numpy as np
import pytest
import trimesh

from qvggt.export.points import PointCloud
from qvggt.export.splat import SH_DEGREE_0, neighbor_distance, write_splat


def fields(path) -> dict[str, np.ndarray]:
    data = trimesh.load(path).metadata["_ply_raw"]["vertex"]["data"]
    return {name: np.asarray(data[name], np.float64).reshape(-1) for name in data.dtype.names}


def test_write_splat_stores_what_trainers_compute_first(tmp_path):
    rng = np.random.default_rng(0)
    points, colors = rng.normal(size=(300, 3)).astype("f4"), rng.integers(0, 256, (300, 3)).astype("u1")
    write_splat(tmp_path / "splat.ply", PointCloud(points, colors, np.ones(300, "f4")), "meter")
    found = fields(tmp_path / "splat.ply")
    assert list(found) == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
        *(f"f_rest_{index}" for index in range(45)),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]
    np.testing.assert_array_equal(np.stack([found[axis] for axis in "xyz"], 1), points)
    back = np.stack([found[f"f_dc_{c}"] * SH_DEGREE_0 + 0.5 for c in range(3)], 1)
    np.testing.assert_allclose(back * 255, colors, atol=1e-3)
    np.testing.assert_allclose(1 / (1 + np.exp(-found["opacity"])), 0.1, rtol=1e-6)
    squared = np.sort(((points[:, None] - points) ** 2).sum(-1), axis=1)[:, 1:4].mean(1)
    for axis in range(3):
        np.testing.assert_allclose(np.exp(found[f"scale_{axis}"]), np.sqrt(squared), rtol=1e-4)
    assert (found["rot_0"] == 1).all()
    assert not any(found[f"rot_{k}"].any() for k in (1, 2, 3))
    assert b"meters" in (tmp_path / "splat.ply").read_bytes()[:200]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_neighbor_distance_of_few_and_equal_points(count):
    points = np.zeros((count, 3))
    points[-1, 0] = 3.0
    distance = neighbor_distance(points)
    assert distance.shape == (count,)
    assert (distance > 0).all()
    if count == 2:
        np.testing.assert_allclose(distance, 3)
