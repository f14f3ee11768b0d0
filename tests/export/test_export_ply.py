import numpy as np
import trimesh

from qvggt.export.ply import write_ply
from qvggt.export.points import PointCloud, select_points


def test_another_reader_gets_the_same_points_and_colors(room, tmp_path):
    cloud = select_points(room, "depth", max_points=3000, drop_percent=10)
    write_ply(tmp_path / "points.ply", cloud)
    read = trimesh.load(tmp_path / "points.ply")
    assert isinstance(read, trimesh.PointCloud)
    np.testing.assert_array_equal(np.asarray(read.vertices, np.float32), cloud.points)
    np.testing.assert_array_equal(np.asarray(read.colors)[:, :3], cloud.colors)
    raw = read.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_array_equal(np.asarray(raw["confidence"], np.float32).reshape(-1), cloud.confidence)


def test_the_file_is_its_header_and_19_bytes_a_point(tmp_path):
    cloud = PointCloud(np.array([[1, 2, 3]], "f4"), np.array([[4, 5, 6]], "u1"), np.array([7], "f4"))
    write_ply(tmp_path / "points.ply", cloud)
    header, data = (tmp_path / "points.ply").read_bytes().split(b"end_header\n")
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\n")
    assert b"element vertex 1\n" in header
    assert data == np.array([1, 2, 3], "<f4").tobytes() + bytes([4, 5, 6]) + np.array([7], "<f4").tobytes()


def test_no_points_are_a_valid_file(tmp_path):
    write_ply(tmp_path / "points.ply", PointCloud(np.empty((0, 3), "f4"), np.empty((0, 3), "u1"), np.empty(0, "f4")))
    assert b"element vertex 0\n" in (tmp_path / "points.ply").read_bytes()
