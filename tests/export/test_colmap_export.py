"""COLMAP models read back by COLMAP's own library and by the reader for datasets."""

from dataclasses import replace

import numpy as np
import pytest

from qvggt.data.colmap import read_model
from qvggt.export.colmap import write_colmap
from qvggt.export.tracks import find_tracks
from qvggt.export.views import write_processed


@pytest.fixture(scope="module")
def exported(room_factory, tmp_path_factory):
    """Return views and tracks of a room whose depths disagree a little."""
    room = room_factory(56, 42, frames=3)
    room = replace(room, depth=room.depth * np.array([1, 1.01, 0.99], np.float32)[:, None, None])
    views = write_processed(tmp_path_factory.mktemp("images"), room)
    return views, find_tracks(room, views, max_points=500, drop_percent=25)


def read(folder):
    return pytest.importorskip("pycolmap").Reconstruction(str(folder))


def pose_of(image) -> np.ndarray:
    """cam_from_world [3, 4]: a method since pycolmap 3.12, an attribute before."""
    pose = image.cam_from_world
    return (pose() if callable(pose) else pose).matrix()


@pytest.mark.parametrize("text", [False, True])
def test_pycolmap_reads_the_same_cameras_images_and_points(exported, tmp_path, text):
    views, tracks = exported
    assert write_colmap(tmp_path, views, tracks, text=text) == 3
    model = read(tmp_path)
    assert (len(model.cameras), len(model.images), len(model.points3D)) == (3, 3, len(tracks.points))
    for number, view in enumerate(views, 1):
        image = model.images[number]
        camera = model.cameras[image.camera_id]
        assert (image.name, camera.width, camera.height) == (view.name, *view.size)
        assert camera.model.name == "PINHOLE"
        np.testing.assert_allclose(camera.calibration_matrix(), view.intrinsics, rtol=1e-12)
        np.testing.assert_allclose(pose_of(image), view.cam_from_world, atol=1e-12)
        here = tracks.frame == number - 1
        np.testing.assert_allclose([p.xy for p in image.points2D], tracks.pixels[here], rtol=1e-12)
        assert [p.point3D_id - 1 for p in image.points2D] == tracks.owner[here].tolist()
    for number, (point, color, error) in enumerate(zip(tracks.points, tracks.colors, tracks.errors, strict=True), 1):
        stored = model.points3D[number]
        np.testing.assert_allclose(stored.xyz, point, rtol=1e-12)
        assert stored.color.tolist() == color.tolist()
        assert stored.error == pytest.approx(error)
        for element in stored.track.elements:
            assert model.images[element.image_id].points2D[element.point2D_idx].point3D_id == number


def test_pycolmap_computes_the_reprojection_error_that_is_written(exported, tmp_path):
    write_colmap(tmp_path, *exported)
    model = read(tmp_path)
    stated = model.compute_mean_reprojection_error()
    assert stated == pytest.approx(exported[1].errors.mean())
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() == pytest.approx(stated, rel=1e-9)
    assert 0.05 < stated < 1


def test_write_colmap_shares_equal_cameras(exported, tmp_path):
    views, tracks = exported
    assert write_colmap(tmp_path, views, tracks, share_cameras=True) == 1
    model = read(tmp_path)
    assert {image.camera_id for image in model.images.values()} == {1}


@pytest.mark.parametrize("text", [False, True])
def test_the_reader_of_datasets_reads_it_too(exported, tmp_path, text):
    views, tracks = exported
    write_colmap(tmp_path, views, tracks, text=text)
    cameras, images = read_model(tmp_path)
    for view, image in zip(views, images, strict=True):
        assert image.name == view.name
        np.testing.assert_allclose(cameras[image.camera_id].intrinsics(), view.intrinsics)
        np.testing.assert_allclose(image.cam_from_world, view.cam_from_world, atol=1e-12)


def test_write_colmap_binary_layout(exported, tmp_path):
    views, tracks = exported
    write_colmap(tmp_path, views, tracks)
    observations = len(tracks.owner)
    names = sum(len(view.name) + 1 for view in views)
    assert (tmp_path / "cameras.bin").stat().st_size == 8 + 3 * (4 + 4 + 8 + 8 + 4 * 8)
    assert (tmp_path / "images.bin").stat().st_size == 8 + 3 * (4 + 7 * 8 + 4 + 8) + names + 24 * observations
    assert (tmp_path / "points3D.bin").stat().st_size == 8 + len(tracks.points) * (
        8 + 24 + 3 + 8 + 8
    ) + 8 * observations
