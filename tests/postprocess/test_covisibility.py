"""Which frames see a point, against exact ray casting in the room."""

from dataclasses import replace

import numpy as np
import pytest

from qvggt.postprocess.covisibility import Surfaces, confident_pixels, covisibility, see
from qvggt.types import FrameMap, QvggtError
from raycast_room import cast, room_cameras


def seen_exactly(points: np.ndarray, frame: int, frames: int) -> np.ndarray:
    """Whether nothing is between camera ``frame`` and points [N, 3], given in the first camera's frame."""
    centers, poses = room_cameras(frames)
    first = poses[0]
    world = (points - first[:, 3]) @ first[:, :3]
    distance, _ = cast(centers[frame], world - centers[frame])
    return distance > 0.99


def test_see_agrees_with_ray_casting(room_factory):
    room = room_factory(224, 168)
    surfaces = Surfaces.of(room)
    for frame, other in ((0, 3), (3, 0), (1, 2)):
        points = surfaces.surface_points(frame, np.arange(224 * 168))
        sight = see(surfaces, other, points, 0.02)
        inside = ((sight.pixels >= 0) & (sight.pixels < (224, 168))).all(1)
        exact = inside & seen_exactly(points, other, 4)
        assert 0.2 < exact.mean() < exact.sum() / inside.sum() < 0.99  # some are outside, others are occluded
        assert (sight.visible == exact).mean() > 0.99
        assert not sight.visible[~inside].any()


def test_see_returns_the_pixels_and_the_depth_that_made_the_points(room):
    surfaces = Surfaces.of(room)
    pixels = np.array([[0.5, 0.5], [55.5, 41.5], [20.5, 7.5]])
    depth = room.depth[2][[0, 41, 7], [0, 55, 20]]
    sight = see(surfaces, 2, surfaces.points(2, pixels, depth))
    np.testing.assert_allclose(sight.pixels, pixels, atol=1e-5)  # rotations are float32
    np.testing.assert_allclose(sight.depth, depth, rtol=1e-6)
    assert sight.visible.all()
    behind = see(surfaces, 2, surfaces.points(2, pixels, -depth))
    assert not behind.visible.any()
    assert np.isnan(behind.pixels).all()
    for factor in (0.9, 1.1):  # in front of the surface, and behind it
        assert not see(surfaces, 2, surfaces.points(2, pixels, factor * depth)).visible.any()
        assert see(surfaces, 2, surfaces.points(2, pixels, factor * depth), tolerance=0.12).visible.all()


def test_see_interpolates_inverse_depth_exactly_on_planes(room_factory):
    room = room_factory(28, 28, frames=1)
    y, x = np.mgrid[:28, :28] + 0.5
    lens = room.intrinsics[0]
    rays = np.stack(((x - lens[0, 2]) / lens[0, 0], (y - lens[1, 2]) / lens[1, 1], np.ones_like(x)), -1)
    slanted = 3 / (rays @ (0.9, 0.3, 1.0))
    surfaces = Surfaces.of(replace(room, depth=slanted[None].astype(np.float32)))
    pixels = np.random.default_rng(0).uniform(0.5, 27.5, (200, 2))
    exact = 3 / (np.column_stack(((pixels - lens[:2, 2]) / (lens[0, 0], lens[1, 1]), np.ones(200))) @ (0.9, 0.3, 1.0))
    sight = see(surfaces, 0, surfaces.points(0, pixels, exact))
    np.testing.assert_allclose(sight.depth, exact, rtol=1e-5)


def test_see_excludes_padding_and_masked_pixels(room):
    mask = np.ones(room.depth.shape, bool)
    mask[0, 10:20] = False
    maps = (FrameMap((400, 420), (0.1, 0.1), (8.0, 0.0)), *room.maps[1:])  # columns 8 to 48
    surfaces = Surfaces.of(replace(room, mask=mask, maps=maps))
    points = Surfaces.of(room).surface_points(0, np.arange(56 * 42))
    expected = mask[0].copy()
    expected[:, :8] = expected[:, 48:] = False
    np.testing.assert_array_equal(see(surfaces, 0, points).visible.reshape(42, 56), expected)


def test_surfaces_of_world_points_are_those_of_depth(room):
    of_points = Surfaces.of(replace(room, depth=None))
    np.testing.assert_allclose(of_points.depth, room.depth, rtol=1e-5)
    with pytest.raises(QvggtError, match="depth"):
        Surfaces.of(replace(room, depth=None, world_points=None))
    with pytest.raises(QvggtError, match="no cameras"):
        Surfaces.of(replace(room, cam_from_world=None))


def test_covisibility_is_the_exact_share(room_factory):
    room = room_factory(112, 84)
    shares = covisibility(room, tolerance=0.02, max_pixels=10**6, drop_percent=0)
    surfaces = Surfaces.of(room)
    for frame in range(4):
        points = surfaces.surface_points(frame, np.arange(112 * 84))
        for other in range(4):
            pixels = see(surfaces, other, points).pixels
            inside = ((pixels >= 0) & (pixels < (112, 84))).all(1)
            exact = (inside & seen_exactly(points, other, 4)).mean()
            assert shares[frame, other] == pytest.approx(exact, abs=0.01)
    np.testing.assert_array_equal(np.diag(shares), 1)
    np.testing.assert_allclose(covisibility(room, 0.02, 1000, 0), shares, atol=0.04)


def test_covisibility_of_unrelated_and_empty_frames(room):
    turned = room.cam_from_world.copy()
    turned[1] = np.diag((-1.0, 1, -1)) @ room.cam_from_world[0]  # looks the other way
    mask = np.ones(room.depth.shape, bool)
    mask[3] = False
    shares = covisibility(replace(room, cam_from_world=turned, mask=mask))
    assert shares[0, 1] == shares[1, 0] == 0
    assert (shares[3] == 0).all()
    assert (shares[:, 3] == 0).all()


def test_confident_pixels_drops_the_least_confident(room):
    surfaces = Surfaces.of(room)
    confidence = room.depth_conf[0].ravel()
    kept = confident_pixels(room, surfaces, 0, 25)
    assert len(kept) == pytest.approx(0.75 * confidence.size, abs=2)
    assert confidence[kept].min() >= np.delete(confidence, kept).max()
    assert len(confident_pixels(replace(room, depth_conf=np.ones_like(room.depth_conf)), surfaces, 0)) == 56 * 42
