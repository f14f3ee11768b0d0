import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from qvggt.export.glb import frustum_mesh, gltf_from_world, write_glb
from qvggt.export.gltf import linear_from_srgb
from qvggt.export.points import select_points
from qvggt.postprocess.frames import GLTF_FROM_OPENCV, camera_centers
from qvggt.types import QvggtError


@pytest.fixture(scope="module")
def cloud(room):
    return select_points(room, "depth", max_points=4000, drop_percent=0)


@pytest.fixture
def path(room, cloud, tmp_path):
    write_glb(tmp_path / "scene.glb", room, cloud)
    return tmp_path / "scene.glb"


def apply(transform, points):
    return points @ transform[:3, :3].T + transform[:3, 3]


def test_points_are_upright_and_centered(room, cloud, path):
    scene = trimesh.load(path)
    transform, name = scene.graph["points"]
    points = apply(transform, scene.geometry[name].vertices)
    np.testing.assert_allclose(points, apply(gltf_from_world(room, cloud), cloud.points), atol=1e-4)
    assert np.abs((np.percentile(points, 5, 0) + np.percentile(points, 95, 0)) / 2).max() < 1e-3
    # The room's floor and ceiling are 2.6 apart and level, although the first camera looks down.
    assert np.ptp(points[:, 1]) == pytest.approx(2.6, abs=0.05)


def test_colors_are_linear_light(cloud, path):
    scene = trimesh.load(path)
    stored = np.asarray(scene.geometry["points"].colors)[:, :3] / 255
    np.testing.assert_allclose(stored, linear_from_srgb(cloud.colors / 255), atol=1 / 255)


def test_cameras_stand_and_look_where_they_should(room, cloud, path):
    scene, world = trimesh.load(path), gltf_from_world(room, cloud)
    for i, name in enumerate(room.names):
        pose = scene.graph[f"camera {i + 1}: {name}"][0]
        center = camera_centers(room.cam_from_world[i : i + 1].astype(float))[0]
        np.testing.assert_allclose(pose[:3, 3], apply(world, center), atol=1e-4)
        # glTF cameras look along -z with y up; rows 2 and 1 of cam_from_world are forward and down.
        np.testing.assert_allclose(-pose[:3, 2], world[:3, :3] @ room.cam_from_world[i, 2, :3], atol=1e-4)
        np.testing.assert_allclose(pose[:3, 1], -world[:3, :3] @ room.cam_from_world[i, 1, :3], atol=1e-4)


def test_one_camera_at_the_identity_only_changes_axes_and_center(room_factory):
    room = room_factory(frames=1)
    transform = gltf_from_world(room, select_points(room, "depth", max_points=500, drop_percent=0))
    np.testing.assert_allclose(transform[:3, :3], GLTF_FROM_OPENCV, atol=1e-6)


def test_the_container_is_consistent(room, path):
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    json_length, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert json_length % 4 == 0
    document = json.loads(data[20 : 20 + json_length])
    binary_length, kind = struct.unpack_from("<I4s", data, 20 + json_length)
    assert kind == b"BIN\0"
    assert document["buffers"][0]["byteLength"] == binary_length == len(data) - 28 - json_length
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= binary_length
    lens = document["cameras"][0]["perspective"]
    assert lens["aspectRatio"] == pytest.approx(room.images.shape[-1] / room.images.shape[-2])
    assert np.degrees(2 * np.arctan(np.tan(lens["yfov"] / 2) * lens["aspectRatio"])) == pytest.approx(70, abs=1e-3)


def test_each_camera_has_its_color(path):
    scene = trimesh.load(path)
    frustums = [g for name, g in scene.geometry.items() if name.startswith("frustum")]
    assert len({tuple(g.visual.material.baseColorFactor) for g in frustums}) == 4


def test_frustum_faces_point_outward_and_its_flap_is_above():
    vertices, faces = frustum_mesh((1.0, 0.7, 1.5))
    bars = trimesh.Trimesh(vertices[:-3], faces[:-1], process=False)
    assert bars.is_watertight
    assert bars.volume > 0
    assert vertices[-3:, 1].min() > 0.7
    assert vertices[:, 2].max() < 0.1


def test_cameras_alone_and_points_alone(room, cloud, tmp_path):
    write_glb(tmp_path / "cameras.glb", room, None)
    assert len(trimesh.load(tmp_path / "cameras.glb").geometry) == 4
    write_glb(tmp_path / "points.glb", replace(room, cam_from_world=None), cloud)
    assert list(trimesh.load(tmp_path / "points.glb").geometry) == ["points"]
    with pytest.raises(QvggtError, match="no cameras"):
        write_glb(tmp_path / "none.glb", replace(room, cam_from_world=None), None)
    assert not (tmp_path / "none.glb").exists()
