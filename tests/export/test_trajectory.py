"""Trajectories in three formats have the same poses, world_from_cam."""

import numpy as np
from scipy.spatial.transform import Rotation

from qvggt.export.trajectory import write_trajectories


def test_write_trajectories_are_poses_of_cameras_in_the_world(room, tmp_path):
    times = (0.0, 0.04, 1.5, 2.0)
    write_trajectories(tmp_path, room, times)
    tum = np.loadtxt(tmp_path / "tum.txt")
    euroc = np.loadtxt(tmp_path / "euroc.csv", delimiter=",")
    kitti = np.loadtxt(tmp_path / "kitti.txt").reshape(4, 3, 4)
    np.testing.assert_array_equal(tum[:, 0], times)
    np.testing.assert_array_equal(euroc[:, 0], [0, 40_000_000, 1_500_000_000, 2_000_000_000])
    np.testing.assert_array_equal(tum[:, 1:4], euroc[:, 1:4])
    np.testing.assert_array_equal(tum[:, [7, 4, 5, 6]], euroc[:, 4:])
    rotations = Rotation.from_quat(tum[:, 4:]).as_matrix()
    for pose, rotation, position, camera in zip(kitti, rotations, tum[:, 1:4], room.cam_from_world, strict=True):
        np.testing.assert_allclose(pose, np.column_stack((rotation, position)), atol=1e-8)
        np.testing.assert_allclose(camera[:, :3] @ rotation, np.eye(3), atol=1e-6)
        np.testing.assert_allclose(camera[:, :3] @ position + camera[:, 3], 0, atol=1e-6)
