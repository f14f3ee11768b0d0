import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.export.freeview import Viewpoint, draw_free_view, height_below_ceiling, view_angles
from qvggt.export.points import PointCloud


def cloud_of(points, colors):
    return PointCloud(np.asarray(points, "f4"), np.asarray(colors, "u1"), np.ones(len(points), "f4"))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), cameras=st.integers(0, 5), wide=st.sampled_from([(300, 200), (200, 300), (640, 90)]))
def test_every_point_and_camera_is_in_the_picture(seed, cameras, wide):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (500, 3)) * rng.uniform(0.5, 4, 3) + rng.normal(0, 5, 3)
    centers = points.mean(0) + rng.normal(0, 2, (cameras, 3))
    view = Viewpoint.fitting(points, centers, wide)
    pixels, distances = view.project(np.concatenate((points, centers)))
    assert (distances > 0).all()
    assert ((pixels >= 0) & (pixels <= wide)).all()
    # And fills it: one of both sides is used by four fifths.
    assert (np.ptp(pixels, axis=0) / wide).max() > 0.8


def test_outliers_do_not_shrink_the_scene():
    points = np.random.default_rng(0).uniform(-1, 1, (5000, 3))
    near = Viewpoint.fitting(points, np.zeros((0, 3)), (300, 200))
    far = Viewpoint.fitting(np.concatenate((points, [[900.0, 20, -700]])), np.zeros((0, 3)), (300, 200))
    assert np.linalg.norm(far.eye) < 1.6 * np.linalg.norm(near.eye)


def test_the_eye_is_behind_and_above_the_cameras():
    points = np.random.default_rng(0).uniform(-1, 1, (500, 3)) + np.array((0, 0, -4))
    centers = np.array([[-1.0, 0.2, 0], [0, 0.2, 0.3], [1, 0.2, 0]])
    view = Viewpoint.fitting(points, centers, (300, 200))
    assert view.eye[2] > centers[:, 2].max()
    assert view.eye[1] > centers[:, 1].max()
    turned = Viewpoint.fitting(points[:, ::-1], centers[:, ::-1], (300, 200))
    assert turned.eye[0] > centers[:, 2].max()


def test_cameras_all_around_see_the_scene_from_where_the_first_is():
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    around = np.stack((np.sin(angles), np.zeros(8), np.cos(angles)), 1)
    assert abs(view_angles(np.zeros(3), around)[0]) < 0.5


def test_right_is_right_up_is_up_and_near_hides_far():
    view = Viewpoint(np.array([0.0, 0, 5]), np.eye(3), 100.0, (200, 200))
    pixels, distances = view.project(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2]]))
    np.testing.assert_allclose(pixels, [[100, 100], [120, 100], [100, 80], [100, 100]])
    np.testing.assert_allclose(distances, [5, 5, 5, 3])
    wall = np.stack(np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 60), [0.0]), -1).reshape(-1, 3)
    points = np.concatenate((wall * 0.4 + (0, 0, 1), wall))
    colors = np.repeat([[255, 0, 0], [0, 0, 255]], len(wall), 0)
    picture = draw_free_view(cloud_of(points, colors), np.eye(3), np.array([[0.0, 0, 4]]), (120, 120))
    middle, _ = picture.viewpoint.project(np.array([[0.0, 0, 1], [0.9, 0, 0]]))
    near, far = (picture.rgba[int(y), int(x)].tolist() for x, y in middle)
    assert near == [255, 0, 0, 255]
    assert far[2] > 200
    assert picture.rgba[1, 1, 3] == 0


def test_a_ceiling_is_left_out_and_walls_stay():
    rng = np.random.default_rng(0)
    walls = rng.uniform((-2, 0, -2), (2, 2.5, 2), (2000, 3))
    assert height_below_ceiling(walls[:, 1]) == np.inf
    ceiling = rng.uniform((-2, 2.45, -2), (2, 2.5, 2), (1000, 3))
    limit = height_below_ceiling(np.concatenate((walls, ceiling))[:, 1])
    assert 2.1 < limit < 2.45
    colors = np.zeros((3000, 3))
    assert draw_free_view(cloud_of(np.concatenate((walls, ceiling)), colors), np.eye(3), np.zeros((0, 3)), (60, 60)).cut
