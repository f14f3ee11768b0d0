import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.export import raster
from qvggt.export.points import PointCloud
from qvggt.export.topview import draw_top_view, height_limit, upright_turn, view_extent


def cloud_of(points, colors):
    return PointCloud(np.asarray(points, "f4"), np.asarray(colors, "u1"), np.ones(len(points), "f4"))


def test_the_higher_point_hides_the_lower():
    floor = np.stack(np.meshgrid(np.linspace(-1, 1, 60), [0.0], np.linspace(-1, 1, 60)), -1).reshape(-1, 3)
    table = floor * 0.3 + (0, 0.5, 0)
    points = np.concatenate((table, floor))
    colors = np.repeat([[255, 0, 0], [0, 0, 255]], len(floor), 0)
    view = draw_top_view(cloud_of(points, colors), np.eye(3), np.array([[0, 0.6, 0]]), (80, 80))
    assert view.rgba[40, 40].tolist() == [255, 0, 0, 255]
    assert view.rgba[40, 8, 2] > 200
    assert view.rgba[0, 0, 3] == 0


def test_bands_of_rows_meet_without_a_seam(monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (3000, 3)) * (2, 1, 1) + (0, rng.integers(0, 2), 0)
    cloud = cloud_of(points, rng.integers(0, 255, (3000, 3)))
    whole = draw_top_view(cloud, np.eye(3), np.zeros((0, 3)), (90, 70))
    monkeypatch.setattr(raster, "_BAND_PX", 20)
    np.testing.assert_array_equal(draw_top_view(cloud, np.eye(3), np.zeros((0, 3)), (90, 70)).rgba, whole.rgba)


def test_right_is_x_and_up_the_page_is_minus_z():
    points = [[1.0, 0, 0]] * 9 + [[0, 0, -1.0]] * 9 + [[0, 0, 0]] * 9
    colors = [[255, 0, 0]] * 9 + [[0, 255, 0]] * 9 + [[0, 0, 255]] * 9
    view = draw_top_view(cloud_of(points, colors), np.eye(3), np.zeros((0, 3)), (64, 64))
    rows, columns = (view.rgba[..., :3] > 128).nonzero()[:2]
    channel = (view.rgba[..., :3] > 128).nonzero()[2]
    place = {k: (rows[channel == k].mean(), columns[channel == k].mean()) for k in range(3)}
    assert place[0][1] > place[2][1]
    assert place[1][0] < place[2][0]


def test_a_ceiling_above_the_cameras_is_cut():
    heights = np.concatenate((np.zeros(50), np.linspace(0, 2.5, 20), np.full(30, 2.5)))
    limit, cut = height_limit(heights, np.array([1.4, 1.5]))
    assert 1.5 < limit < 2
    assert cut
    # From below, the cameras are no guide: most of the scene stays.
    limit, cut = height_limit(heights + 10, np.array([1.4]))
    assert np.mean(heights + 10 <= limit) > 0.6
    assert not cut


@settings(max_examples=25, deadline=None)
@given(degrees=st.floats(-40, 40), seed=st.integers(0, 99))
def test_walls_are_turned_to_the_page(degrees, seed):
    rng = np.random.default_rng(seed)
    side = rng.uniform(-1, 1, (4000, 2)) * (2, 1.5)
    wall = rng.integers(0, 4, 4000)
    side[wall == 0, 0], side[wall == 1, 0], side[wall == 2, 1], side[wall == 3, 1] = -2, 2, -1.5, 1.5
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    total = upright_turn(side @ rotation.T) @ rotation
    # Right up to quarter turns, which look alike.
    off = np.degrees(np.arctan2(total[1, 0], total[0, 0])) % 90
    assert min(off, 90 - off) <= 1.01


def test_a_few_points_are_not_turned():
    np.testing.assert_array_equal(upright_turn(np.ones((3, 2))), np.eye(2))
    np.testing.assert_array_equal(upright_turn(np.ones((300, 2))), np.eye(2))


@settings(max_examples=40, deadline=None)
@given(aspect=st.floats(0.2, 5), count=st.integers(0, 30), cameras=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_extent_holds_every_camera_and_has_the_page_s_shape(aspect, count, cameras, seed):
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 3, (cameras, 2))
    left, right, bottom, top = view_extent(rng.normal(0, 1, (count, 2)), centers, aspect)
    assert (right - left) / (top - bottom) == pytest.approx(aspect)
    assert ((centers > (left, bottom)) & (centers < (right, top))).all()
