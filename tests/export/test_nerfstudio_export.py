"""``transforms.json``: its cameras see the points of its point cloud at their pixels."""

import json

import numpy as np
import trimesh

from qvggt.export.nerfstudio import write_nerfstudio
from qvggt.export.points import select_points
from qvggt.export.views import write_processed


def test_write_nerfstudio__cameras_see_points_at_their_pixels(room, tmp_path):
    views = write_processed(tmp_path / "images", room)
    cloud = select_points(room, "depth", max_points=10**6, drop_percent=0)
    write_nerfstudio(tmp_path, views, cloud, "meter")
    document = json.loads((tmp_path / "transforms.json").read_text())
    points = np.asarray(trimesh.load(tmp_path / document["ply_file_path"]).vertices, np.float64)
    np.testing.assert_array_equal(document["applied_transform"], np.eye(4)[:3])
    assert document["unit"] == "meter"
    v, u = np.mgrid[:42, :56] + 0.5
    for frame, part in zip(document["frames"], np.split(points, 4), strict=True):
        assert (tmp_path / frame["file_path"]).is_file()
        assert (frame["w"], frame["h"]) == (56, 42)
        pose = np.array(frame["transform_matrix"])
        assert np.linalg.det(pose[:3, :3]) > 0.999999
        local = (part - pose[:3, 3]) @ pose[:3, :3]  # OpenGL: x right, y up, looking along -z
        assert (local[:, 2] < 0).all()
        x = frame["fl_x"] * local[:, 0] / -local[:, 2] + frame["cx"]
        y = -frame["fl_y"] * local[:, 1] / -local[:, 2] + frame["cy"]
        np.testing.assert_allclose(np.column_stack((x, y)), np.column_stack((u.ravel(), v.ravel())), atol=2e-3)


def test_write_nerfstudio_names_masks(room, tmp_path):
    views = write_processed(tmp_path / "images", room)
    write_nerfstudio(tmp_path, views, select_points(room, "depth", max_points=9, drop_percent=0), has_masks=True)
    frames = json.loads((tmp_path / "transforms.json").read_text())["frames"]
    assert [frame["mask_path"] for frame in frames] == [f"masks/{view.name}.png" for view in views]
