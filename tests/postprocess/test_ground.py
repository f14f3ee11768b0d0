import numpy as np
import pytest

from qvggt.export.points import select_points
from qvggt.postprocess.ground import find_ground
from raycast_room import BOXES


def points_of(prediction):
    return select_points(prediction, "depth", max_points=10**6, drop_percent=0).points


def turned(prediction, degrees, axis):
    """Return points and cameras of a prediction whose world is rotated about an axis."""
    angle, (x, y, z) = np.radians(degrees), axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    cameras = prediction.cam_from_world.copy()
    cameras[:, :, :3] = cameras[:, :, :3] @ rotation.T
    return points_of(prediction) @ rotation.T, cameras


def test_ground_of_the_exact_room_is_its_floor(room):
    points = points_of(room)
    ground = find_ground(points, room.cam_from_world)
    assert ground.found
    heights = ground.from_world.apply(points)[:, 2]
    assert heights.min() == pytest.approx(0, abs=5e-3)
    assert heights.max() == pytest.approx(BOXES[0][1][2], abs=1e-2)
    table = BOXES[1][1][2]
    assert np.abs(heights - table).min() < 5e-3
    assert ground.from_world.scale == 1
    np.testing.assert_allclose(np.linalg.det(ground.from_world.rotation), 1)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0.8, 0)])
def test_ground_does_not_depend_on_the_world_frame(room, axis):
    heights = find_ground(points_of(room), room.cam_from_world).from_world.apply(points_of(room))[:, 2]
    points, cameras = turned(room, 35, axis)
    np.testing.assert_allclose(find_ground(points, cameras).from_world.apply(points)[:, 2], heights, atol=2e-3)


def test_ground_corrects_cameras_that_are_not_level(room):
    points, cameras = points_of(room), room.cam_from_world.astype(np.float64)
    angle = np.radians(6)
    roll = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    cameras[:] = roll @ cameras
    ground = find_ground(points, cameras)
    assert ground.found
    assert ground.from_world.apply(points)[:, 2].min() == pytest.approx(0, abs=1e-2)


def test_ground_without_a_floor_starts_at_the_lowest_points(room):
    points = points_of(room)
    height = find_ground(points, room.cam_from_world).from_world.apply(points)[:, 2]
    walls = points[(height > 1.6) & (height < 2.5)]
    ground = find_ground(walls, room.cam_from_world)
    assert not ground.found
    heights = ground.from_world.apply(walls)[:, 2]
    assert np.percentile(heights, 1) == pytest.approx(0, abs=1e-6)


def test_ground_without_cameras_takes_the_first_camera_as_level():
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform(-1, 1, 500), np.full(500, 0.7), rng.uniform(1, 4, 500)]
    things = rng.uniform((-1, -0.6, 1), (1, 0.6, 4), (100, 3))
    ground = find_ground(np.concatenate((floor, things)), None)
    assert ground.found
    np.testing.assert_allclose(ground.from_world.apply(floor)[:, 2], 0, atol=1e-9)
    with pytest.raises(ValueError, match="expected points"):
        find_ground(np.zeros((0, 3)), None)
