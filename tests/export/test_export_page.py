import base64
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest

from qvggt.export.page import write_page
from qvggt.export.points import select_points
from qvggt.geometry import Similarity
from qvggt.options import ExportOptions
from qvggt.postprocess.similarity import transformed
from qvggt.types import QvggtError

WHOLE = ExportOptions(max_points=10**6, drop_percent=0.0)
POINT = np.dtype([("position", "<u2", 3), ("confidence", "u1"), ("depth", "u1")])
SHARED = np.dtype([("color", "u1", 3), ("frame", "u1")])
MOVE = Similarity(1.7, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([0.3, -2.0, 1.0]))


def read(path):
    """Return the scene of a page, the points of each result, what these share, and their differences."""
    text = path.read_text(encoding="utf-8")
    scene = json.loads(re.search(r'<script id="scene" type="application/json">(.*?)</script>', text)[1])
    data = zlib.decompress(base64.b64decode(re.search(r'<script id="data" type="text/plain">(.*?)</script>', text)[1]))
    count, results = scene["pixels"], len(scene["results"])
    points = [np.frombuffer(data, POINT, count, 8 * count * i) for i in range(results)]
    shared = np.frombuffer(data, SHARED, count, 8 * count * results)
    return scene, points, shared, np.frombuffer(data, "u1", offset=count * (8 * results + 4))


def places(scene, points):
    return np.array(scene["box"]["low"]) + np.array(scene["box"]["size"]) * points["position"] / 65535


def distances(points):
    sample = points[:: len(points) // 40]
    return np.linalg.norm(sample[:, None] - sample[None], axis=-1)


def test_a_page_holds_every_point_within_half_a_step(room, tmp_path):
    write_page(tmp_path / "page.html", {"room": room}, WHOLE)
    scene, (points,), shared, rest = read(tmp_path / "page.html")
    cloud = select_points(room, "depth", max_points=10**6, drop_percent=0)
    assert len(points) == len(cloud)
    assert len(rest) == 0
    # Rigid up to the scale, which the depth range states: distances are equal in the order of colors and confidence.
    order = np.random.default_rng(0).permutation(len(cloud))
    np.testing.assert_array_equal(shared["color"], cloud.colors[order])
    found = places(scene, points) * scene["depth"]["unit"]
    step = max(scene["box"]["size"]) * scene["depth"]["unit"] / 65535
    np.testing.assert_allclose(distances(found), distances(cloud.points[order].astype(float)), atol=2 * step)
    assert set(shared["frame"].tolist()) == {0, 85, 170, 255}


def test_the_page_s_world_is_upright_and_of_size_one(room, tmp_path):
    write_page(tmp_path / "page.html", {"room": room}, WHOLE)
    scene, (points,), _, _ = read(tmp_path / "page.html")
    found = places(scene, points)
    low, high = np.percentile(found, (5, 95), axis=0)
    assert np.linalg.norm(high - low) == pytest.approx(1, abs=1e-3)
    floor = found[found[:, 1] < np.percentile(found[:, 1], 10)]
    assert np.ptp(floor[:, 1]) < 0.02
    cameras = np.array([camera["position"] for camera in scene["results"][0]["cameras"]])
    assert (cameras[:, 1] > floor[:, 1].max()).all()


def test_confidence_is_a_rank_and_equal_ones_are_most_confident(room, tmp_path):
    write_page(tmp_path / "a.html", {"room": room}, WHOLE)
    _, (points,), _, _ = read(tmp_path / "a.html")
    assert np.mean(points["confidence"] / 255 >= 0.25) == pytest.approx(0.75, abs=0.01)
    write_page(tmp_path / "b.html", {"room": replace(room, depth_conf=np.ones_like(room.depth))}, WHOLE)
    assert (read(tmp_path / "b.html")[1][0]["confidence"] == 255).all()


def test_a_moved_and_scaled_copy_does_not_differ(room, tmp_path):
    write_page(tmp_path / "page.html", {"a": room, "b": transformed(room, MOVE)}, WHOLE)
    scene, (first, second), _, difference = read(tmp_path / "page.html")
    assert np.abs(first["position"].astype(int) - second["position"].astype(int)).max() <= 1
    assert scene["heat"]["median"] < 1e-5
    assert len(difference) == scene["pixels"]


def test_the_heat_map_shows_how_far_points_are_apart(room, tmp_path):
    depth = room.depth.copy()
    depth[0, :, :20] *= 1.1
    write_page(tmp_path / "page.html", {"a": room, "b": replace(room, depth=depth)}, WHOLE)
    scene, _, shared, difference = read(tmp_path / "page.html")
    assert scene["heat"]["median"] < 1e-6
    far = difference * scene["heat"]["limit"] / 255
    # Rays are longer than depth by up to the field of view: 1.1 is at least 10 % of depth.
    assert ((far >= 0.0999) | (difference == 255) | (far < 1e-4)).all()
    changed = shared["frame"][difference > 0]
    assert set(changed.tolist()) == {0}
    assert len(changed) == 20 * room.depth.shape[1]


def test_more_points_than_allowed_are_thinned_alike_in_both(room, tmp_path):
    write_page(tmp_path / "page.html", {"a": room, "b": room}, ExportOptions(max_points=500))
    scene, (first, second), _, difference = read(tmp_path / "page.html")
    assert scene["pixels"] == 500
    np.testing.assert_array_equal(first, second)
    assert not difference.any()


def test_results_of_other_images_are_refused(room, room_factory, tmp_path):
    with pytest.raises(QvggtError, match="different images"):
        write_page(tmp_path / "page.html", {"a": room, "b": room_factory(frames=3)})
    with pytest.raises(QvggtError, match="depth"):
        write_page(tmp_path / "page.html", {"a": room, "b": replace(room, depth=None, depth_conf=None)})
    assert not list(tmp_path.iterdir())


def test_names_cannot_leave_their_place(room, tmp_path):
    evil = "</script><script>alert(1)</script>{{data}}"
    write_page(tmp_path / "page.html", {evil: replace(room, names=(evil,) * 4)}, replace(WHOLE, title=evil))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert read(tmp_path / "page.html")[0]["results"][0]["name"] == evil


def test_a_page_asks_for_nothing_and_is_equal_between_runs(room, tmp_path):
    for name in ("a.html", "b.html"):
        write_page(tmp_path / name, {"room": room})
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|@import|https?://|\bfetch\(""", text)
    assert "default-src 'none'" in text


def test_points_of_the_head_need_no_cameras(room, tmp_path):
    alone = replace(room, cam_from_world=None, intrinsics=None, depth=None, depth_conf=None)
    write_page(tmp_path / "page.html", {"room": alone}, ExportOptions("head"))
    scene, (points,), _, _ = read(tmp_path / "page.html")
    assert scene["depth"] is None
    assert scene["results"][0]["cameras"] == []
    assert len(points) > 9000
