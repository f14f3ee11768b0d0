import numpy as np
import pytest

from qvggt.app.measure import length_text
from qvggt.app.picking import looking, orbit, pick_point


def test_pick_takes_the_nearest_point_on_the_ray():
    points = np.array([[0, 0, 5.0], [0, 0, 2.0], [1, 0, 2.0], [0, 0, -1.0]])
    assert pick_point(points, np.zeros(3), np.array([0, 0, 3.0])) == 1
    assert pick_point(points, np.zeros(3), np.array([1, 0, 2.0])) == 2
    assert pick_point(points, np.zeros(3), np.array([0, 1.0, 0])) is None


def test_pick_takes_the_point_closest_to_the_ray_among_those_equally_near():
    points = np.array([[0.010, 0, 2.0], [0.001, 0, 2.001], [0.0, 0, 3.0]])
    assert pick_point(points, np.zeros(3), np.array([0, 0, 1.0])) == 1


def test_pick_hits_the_disc_of_a_large_point():
    points = np.array([[0.2, 0, 2.0]])
    ray = np.array([0, 0, 1.0])
    assert pick_point(points, np.zeros(3), ray) is None
    assert pick_point(points, np.zeros(3), ray, size=0.5) == 0
    assert pick_point(np.zeros((0, 3)), np.zeros(3), ray) is None


def test_orbit_keeps_distance_and_height_and_looks_at_the_center():
    center, start = np.array([1.0, 2.0, 0.5]), np.array([4.0, 2.0, 2.5])
    places, rotations = orbit(center, start, 8)
    np.testing.assert_allclose(places[0], start)
    np.testing.assert_allclose(np.linalg.norm(places - center, axis=1), np.linalg.norm(start - center))
    np.testing.assert_allclose(places[:, 2], 2.5)
    np.testing.assert_allclose(places[4], [-2.0, 2.0, 2.5])
    toward = (center - places) / np.linalg.norm(center - places, axis=1, keepdims=True)
    np.testing.assert_allclose(rotations[:, :, 2], toward, atol=1e-12)
    np.testing.assert_allclose(rotations[:, 2, 0], 0, atol=1e-12)  # level
    np.testing.assert_allclose(np.linalg.det(rotations), 1)


def test_looking_straight_down_is_a_rotation_too():
    rotation = looking(np.array([0, 0, -2.0]))
    np.testing.assert_allclose(rotation[:, 2], [0, 0, -1])
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    ("length", "meters", "text"), [(2, None, "2 units"), (2, 1.5, "3 m"), (0.02, 1.0, "2 cm"), (12.345, 1, "12.3 m")]
)
def test_lengths_are_in_meters_once_the_scale_is_known(length, meters, text):
    assert length_text(length, meters) == text
