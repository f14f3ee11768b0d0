from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.postprocess.frames import (
    GLTF_FROM_OPENCV,
    camera_centers,
    cameras_of,
    frame_colors,
    level_rotation,
    photo_mask,
    to_uint8,
)
from qvggt.types import FrameMap, QvggtError


def camera(yaw: float, pitch: float) -> np.ndarray:
    """Return cam_from_world [3, 4] at the origin of a y-down world: turned by yaw, then tilted by pitch."""
    turn = [[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]]
    tilt = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    return np.concatenate((np.array(tilt) @ np.array(turn), np.zeros((3, 1))), 1)


def test_one_camera_at_the_identity_gives_the_plain_change_of_axes():
    np.testing.assert_allclose(level_rotation(camera(0, 0)[None]), GLTF_FROM_OPENCV, atol=1e-12)
    np.testing.assert_array_equal(level_rotation(None), GLTF_FROM_OPENCV)


@settings(max_examples=60, deadline=None)
@given(
    pitches=st.lists(st.floats(-1.2, 1.2), min_size=3, max_size=8),
    spread=st.floats(1.5, 2.6),
    start=st.floats(-3, 3),
)
def test_up_is_found_from_tilted_cameras_with_level_horizons(pitches, spread, start):
    yaws = start + np.linspace(0, spread, len(pitches))
    rotation = level_rotation(np.stack([camera(y, p) for y, p in zip(yaws, pitches, strict=True)]))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ (0, -1, 0), (0, 1, 0), atol=0.03)


@settings(max_examples=40, deadline=None)
@given(yaw=st.floats(-3, 3), pitch=st.floats(-1.4, 1.4))
def test_the_first_camera_looks_into_the_screen(yaw, pitch):
    cameras = np.stack([camera(yaw, pitch), camera(yaw + 1, 0.1)])
    view = level_rotation(cameras) @ cameras[0, 2, :3]
    assert view[0] == pytest.approx(0, abs=1e-9)
    assert view[2] < 0


def test_a_camera_that_looks_straight_down_still_gives_a_rotation():
    down = camera(0, -np.pi / 2)
    rotation = level_rotation(np.stack([down, camera(0.5, 0), camera(2, 0)]))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)


def test_centers_are_where_the_camera_sees_nothing_before_it(room):
    centers = camera_centers(room.cam_from_world)
    back = np.einsum("sij,sj->si", room.cam_from_world[:, :, :3], centers) + room.cam_from_world[:, :, 3]
    np.testing.assert_allclose(back, 0, atol=1e-5)


def test_padding_is_masked_and_cropping_is_not(room):
    padded = FrameMap((40, 42), (1.0, 1.0), (8.0, 0.0))
    cropped = FrameMap((100, 100), (1.0, 1.0), (-10.0, -20.0))
    mask = photo_mask(replace(room, maps=(padded, cropped, *room.maps[2:])))
    assert mask[0, :, 8:48].all()
    assert not mask[0, :, :8].any()
    assert not mask[0, :, 48:].any()
    assert mask[1:].all()


def test_missing_and_infinite_cameras_are_refused_by_name(room):
    with pytest.raises(QvggtError, match="no cameras"):
        cameras_of(replace(room, cam_from_world=None))
    broken = room.cam_from_world.copy()
    broken[2, 0, 0] = np.nan
    with pytest.raises(QvggtError, match="room_03"):
        cameras_of(replace(room, cam_from_world=broken))


def test_colors_differ_from_frame_to_frame():
    assert frame_colors(0).shape == (0, 3)
    assert len(np.unique(frame_colors(9), axis=0)) == 9


def test_rounding_to_bytes_clips():
    np.testing.assert_array_equal(to_uint8(np.array([-1, 0, 0.5, 1, 2, np.nan])), [0, 0, 128, 255, 255, 0])
