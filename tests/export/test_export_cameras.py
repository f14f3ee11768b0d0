import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from qvggt.export.cameras import original_intrinsics, write_cameras
from qvggt.types import FrameMap, QvggtError


@pytest.fixture
def document(room, tmp_path):
    write_cameras(tmp_path / "cameras.json", room)
    return json.loads((tmp_path / "cameras.json").read_text(encoding="utf-8"))


def test_cameras_read_back(room, document):
    assert (document["format"], document["version"]) == ("qvggt-cameras", 1)
    assert "OpenCV" in document["conventions"]
    assert tuple(frame["name"] for frame in document["frames"]) == room.names
    cameras = np.array([frame["cam_from_world"] for frame in document["frames"]])
    np.testing.assert_array_equal(cameras.astype(np.float32), room.cam_from_world)


def test_quaternion_translation_and_position_tell_the_same(document):
    for frame in document["frames"]:
        camera = np.array(frame["cam_from_world"])
        rotation = Rotation.from_quat(frame["quaternion_xyzw"]).as_matrix()
        np.testing.assert_allclose(rotation, camera[:, :3], atol=1e-6)
        np.testing.assert_allclose(rotation @ frame["position"] + frame["translation"], 0, atol=1e-5)


def test_the_photograph_has_four_times_the_pixels(document):
    for frame in document["frames"]:
        small, large = frame["processed"], frame["original"]
        assert (small["width"], small["height"]) == (56, 42)
        assert {key: value * 4 for key, value in small.items()} == pytest.approx(large)


@settings(max_examples=60, deadline=None)
@given(
    scale=st.tuples(st.floats(0.05, 4), st.floats(0.05, 4)),
    offset=st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
    point=st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.5, 9)),
)
def test_projection_commutes_with_the_frame_map(scale, offset, point):
    intrinsics = np.array([[400.0, 0, 259], [0, 410.0, 196], [0, 0, 1]])
    small = intrinsics @ point
    large = original_intrinsics(intrinsics, FrameMap((4000, 3000), scale, offset)) @ point
    np.testing.assert_allclose(large[:2] / large[2] * scale + offset, small[:2] / small[2], atol=1e-6)


def test_no_cameras_no_file(room, tmp_path):
    with pytest.raises(QvggtError, match="camera head"):
        write_cameras(tmp_path / "cameras.json", replace(room, cam_from_world=None))
    assert list(tmp_path.iterdir()) == []


def test_intrinsics_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\[3, 3\]"):
        original_intrinsics(np.eye(4), FrameMap((1, 1), (1.0, 1.0), (0.0, 0.0)))
