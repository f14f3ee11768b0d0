"""Exported points project onto the centers of their pixels, by the cameras that are exported with them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from qvggt.export import select_points, write_cameras, write_glb, write_ply
from qvggt.types import FrameMap

FRAMES = 2
MAPS = {
    "resized": FrameMap((4032, 3024), (56 / 4032, 42 / 3024), (0.0, 0.0)),
    "cropped": FrameMap((3000, 4000), (56 / 3000, 75 / 4000), (0.0, -16.0)),
    "padded": FrameMap((1000, 1000), (42 / 1000, 42 / 1000), (7.0, 0.0)),
}


@pytest.fixture(params=MAPS)
def exported(request, room_factory, tmp_path):
    frame_map = MAPS[request.param]
    room = replace(room_factory(frames=FRAMES), maps=(frame_map,) * FRAMES)
    cloud = select_points(room, "depth", max_points=10**9, drop_percent=0)
    write_ply(tmp_path / "points.ply", cloud)
    write_glb(tmp_path / "scene.glb", room, cloud)
    write_cameras(tmp_path / "cameras.json", room)
    return tmp_path, frame_map


def centers_of(frame_map: FrameMap) -> np.ndarray:
    """Centers [N, 2] of the processed pixels that lie on the photograph, in its own pixels."""
    v, u = np.mgrid[:42, :56] + 0.5
    original = (np.stack((u, v), -1) - frame_map.offset) / frame_map.scale
    inside = ((original > 0) & (original < frame_map.original_size)).all(-1)
    return original[inside]


def project(points: np.ndarray, frame: dict, kind: str) -> np.ndarray:
    pose, lens = np.array(frame["cam_from_world"]), frame[kind]
    local = points @ pose[:, :3].T + pose[:, 3]
    return local[:, :2] / local[:, 2:] * (lens["fx"], lens["fy"]) + (lens["cx"], lens["cy"])


def test_write_ply__points_project_onto_the_pixels_of_photographs(exported):
    folder, frame_map = exported
    points = np.asarray(trimesh.load(folder / "points.ply").vertices, np.float64)
    frames = json.loads((folder / "cameras.json").read_text())["frames"]
    expected = centers_of(frame_map)
    for frame, part in zip(frames, np.split(points, FRAMES), strict=True):
        assert (frame["original"]["width"], frame["original"]["height"]) == frame_map.original_size
        np.testing.assert_allclose(project(part, frame, "original"), expected, atol=0.02)
        np.testing.assert_allclose(
            project(part, frame, "processed"), expected * frame_map.scale + frame_map.offset, atol=2e-3
        )


def test_write_glb__points_are_seen_at_their_pixels_through_its_cameras(exported):
    folder, frame_map = exported
    data = (folder / "scene.glb").read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document = json.loads(data[20 : 20 + length])
    scene = trimesh.load(folder / "scene.glb")
    transform, name = scene.graph["points"]
    points = np.asarray(scene.geometry[name].vertices) @ transform[:3, :3].T + transform[:3, 3]
    expected = (centers_of(frame_map) * frame_map.scale + frame_map.offset) / (56, 42)
    nodes = [node for node in document["nodes"] if "camera" in node]
    for node, part in zip(nodes, np.split(points, FRAMES), strict=True):
        pose = np.array(node["matrix"]).reshape(4, 4).T
        view = document["cameras"][node["camera"]]["perspective"]
        local = (part - pose[:3, 3]) @ pose[:3, :3]
        half = np.tan(view["yfov"] / 2)
        seen = local[:, :2] / -local[:, 2:] / (half * view["aspectRatio"], half)  # -1..1, y up
        np.testing.assert_allclose((seen * (1, -1) + 1) / 2, expected, atol=1e-4)
