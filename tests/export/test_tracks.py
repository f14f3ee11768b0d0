"""Tracks of the exact room: pixels that truly see one point, and errors that measure how well frames agree."""

from dataclasses import replace

import numpy as np
import pytest

from qvggt.export.tracks import find_tracks
from qvggt.export.views import write_processed
from qvggt.types import QvggtError
from raycast_room import cast, room_cameras


@pytest.fixture
def tracks_of(tmp_path):
    """Return a function from a prediction to its views and tracks."""

    def find(prediction, **options):
        views = write_processed(tmp_path, prediction)
        options = {"max_points": 3000, "drop_percent": 0} | options
        return views, find_tracks(prediction, views, **options)

    return find


def test_find_tracks_observes_points_that_are_truly_visible(room_factory, tracks_of):
    views, tracks = tracks_of(room_factory(224, 168))
    assert len(tracks.points) == 3000
    assert np.bincount(tracks.owner).min() >= 2
    centers, poses = room_cameras(4)
    world = (tracks.points - poses[0][:, 3]) @ poses[0][:, :3]
    distance, _ = cast(centers[0], world[tracks.owner] - centers[0])
    for frame, view in enumerate(views):
        here = tracks.frame == frame
        points = world[tracks.owner[here]]
        distance, _ = cast(centers[frame], points - centers[frame])
        assert (np.abs(distance - 1) < 0.05).mean() > 0.99
        assert (tracks.pixels[here] >= 0).all()
        assert (tracks.pixels[here] <= view.size).all()
    assert tracks.errors.mean() < 0.02


def test_find_tracks_sorts_observations_and_takes_no_pixel_twice(room, tracks_of):
    _, tracks = tracks_of(room)
    order = tracks.frame * len(tracks.points) + tracks.owner
    assert (np.diff(order) > 0).all()
    assert len(np.unique(tracks.owner)) == len(tracks.points) == len(tracks.errors) == len(tracks.colors)


def test_find_tracks_errors_are_those_of_the_mean_of_disagreeing_depths(room, tracks_of):
    depth = room.depth.copy()
    depth[1] *= 1.02
    views, tracks = tracks_of(replace(room, depth=depth))
    _, exact = tracks_of(room)
    assert tracks.errors.mean() > 5 * exact.errors.mean()
    assert np.median(tracks.errors) > 1000 * np.median(exact.errors)
    errors = np.empty(len(tracks.owner))
    for frame, view in enumerate(views):
        here = tracks.frame == frame
        local = tracks.points[tracks.owner[here]] @ view.cam_from_world[:, :3].T + view.cam_from_world[:, 3]
        found = local @ view.intrinsics.T
        errors[here] = np.linalg.norm(found[:, :2] / found[:, 2:] - tracks.pixels[here], axis=1)
    means = [errors[tracks.owner == point].mean() for point in range(200)]
    np.testing.assert_allclose(tracks.errors[:200], means, rtol=1e-9)


def test_find_tracks_is_repeatable_and_seeded(room, tracks_of):
    _, one = tracks_of(room, max_points=200)
    _, two = tracks_of(room, max_points=200)
    _, other = tracks_of(room, max_points=200, seed=1)
    np.testing.assert_array_equal(one.points, two.points)
    assert not np.array_equal(one.points, other.points)


def test_find_tracks_leaves_out_masked_and_unsure_pixels(room, tracks_of):
    mask = np.ones(room.depth.shape, bool)
    mask[:, :, :28] = False
    _, tracks = tracks_of(replace(room, mask=mask))
    assert tracks.pixels[:, 0].min() >= 28
    confidence = np.ones_like(room.depth_conf)
    confidence[:, :21] = 5
    _, tracks = tracks_of(replace(room, depth_conf=confidence), drop_percent=60)
    own = tracks.pixels[np.isclose(tracks.pixels % 1, 0.5, atol=1e-4).all(1)]
    assert np.quantile(own[:, 1], 0.5) < 21


def test_find_tracks_keeps_points_of_frames_that_share_none(room, room_factory, tracks_of):
    turned = room.cam_from_world.copy()
    turned[1] = np.diag((-1.0, 1, -1)) @ room.cam_from_world[0]
    _, tracks = tracks_of(replace(room, cam_from_world=turned), max_points=400)
    lengths = np.bincount(tracks.owner)
    assert set(tracks.owner[tracks.frame == 1]) == set(np.flatnonzero(lengths == 1))
    assert (lengths == 1).sum() == 100  # a quarter: its share of the frames
    assert len(lengths) == 400
    _, single = tracks_of(room_factory(frames=1), max_points=50)
    assert len(single.points) == 50
    assert (single.frame == 0).all()
    assert single.errors.max() < 1e-3


def test_find_tracks_of_the_point_head(room, tracks_of):
    moved = replace(room, depth=room.depth * 3)
    _, from_head = tracks_of(moved, points_from="head")
    _, from_depth = tracks_of(moved, points_from="depth")
    assert from_head.errors.mean() < 0.1
    assert np.linalg.norm(from_depth.points, axis=1).mean() > 2 * np.linalg.norm(from_head.points, axis=1).mean()


def test_find_tracks_without_points(room, tracks_of):
    with pytest.raises(QvggtError, match="no finite points"):
        tracks_of(replace(room, mask=np.zeros(room.depth.shape, bool)))
    with pytest.raises(QvggtError, match="depth"):
        tracks_of(replace(room, depth=None, world_points=None))


def test_find_tracks_keeps_at_most_sixteen_evenly_spaced_observations(room_factory, tracks_of):
    views, tracks = tracks_of(room_factory(28, 28, frames=40), max_points=300)
    lengths = np.bincount(tracks.owner)
    assert lengths.max() == 16
    longest = np.flatnonzero(lengths == 16)
    spans = [np.ptp(tracks.frame[tracks.owner == point]) for point in longest.tolist()]
    assert np.mean(spans) > 15
    assert len(np.unique(tracks.frame)) == len(views) == 40
