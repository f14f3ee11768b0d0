"""Known cameras from files and EXIF replace predicted ones; EXIF warns where a prediction is unlikely."""

import json

import numpy as np
import pytest
from PIL import ExifTags, Image

import qvggt
from qvggt.api.known_cameras import check_focal
from qvggt.export import write_cameras
from qvggt.postprocess.metric_scale import scaled
from qvggt.types import QvggtError


def write_photos(folder, names, focal_35mm=None):
    for name in names:
        exif = Image.Exif()
        if focal_35mm is not None:
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = focal_35mm
        Image.new("RGB", (224, 168)).save(folder / name, exif=exif)
    return [folder]


def test_with_known_cameras__a_number_is_in_pixels_of_the_photographs(room):
    found = qvggt.with_known_cameras(room, qvggt.KnownCameras(focal=200.0))
    np.testing.assert_allclose(found.prediction.intrinsics[:, 0, 0], 50)
    np.testing.assert_allclose(found.prediction.intrinsics[:, :2, 2], [(28, 21)] * 4)
    assert found.unit == "model"
    assert found.details["focal"]["frames"] == 4


def test_with_known_cameras__an_unlikely_focal_length_is_said(room, caplog):
    true = float(room.intrinsics[0, 0, 0]) / room.maps[0].scale[0]
    qvggt.with_known_cameras(room, qvggt.KnownCameras(focal=1.1 * true))
    assert caplog.text == ""
    qvggt.with_known_cameras(room, qvggt.KnownCameras(focal=2 * true))
    assert "0.50 times the known ones" in caplog.text
    assert "--focal" in caplog.text


def test_with_known_cameras__focal_length_from_exif(room, tmp_path):
    """26 mm of a full frame (43.27 mm diagonal) on 224x168 px, whose diagonal is 280 px."""
    images = write_photos(tmp_path, room.names, 26)
    found = qvggt.with_known_cameras(room, qvggt.KnownCameras(focal="exif"), images)
    np.testing.assert_allclose(found.prediction.intrinsics[:, 0, 0], 26 / 43.2666 * 280 / 4, rtol=1e-4)
    write_photos(tmp_path, room.names)
    with pytest.raises(QvggtError, match="no photograph has a 35 mm equivalent"):
        qvggt.with_known_cameras(room, qvggt.KnownCameras(focal="exif"), images)
    with pytest.raises(QvggtError, match="--images"):
        qvggt.with_known_cameras(room, qvggt.KnownCameras(focal="exif"))


def test_with_known_cameras__metric_poses_make_it_metric(room, tmp_path):
    write_cameras(tmp_path / "cameras.json", room, "meter")
    found = qvggt.with_known_cameras(scaled(room, 0.4), qvggt.KnownCameras(poses=tmp_path / "cameras.json"))
    assert found.unit == "meter"
    np.testing.assert_allclose(found.prediction.cam_from_world, room.cam_from_world, atol=1e-6)
    np.testing.assert_allclose(found.prediction.depth, room.depth, rtol=1e-5)


def test_with_known_cameras__a_rig_whose_relative_poses_are_unknown_leaves_the_unit(room, tmp_path):
    first, second, third, fourth = room.names
    rig = {
        "cameras": {"left": {"cam_from_rig": None}, "right": {"cam_from_rig": None}},
        "groups": [{"left": first, "right": second}, {"left": third, "right": fourth}],
    }
    (tmp_path / "rig.json").write_text(json.dumps(rig))
    found = qvggt.with_known_cameras(room, qvggt.KnownCameras(rig=tmp_path / "rig.json"))
    assert found.unit == "model"
    cameras = found.prediction.cam_from_world.astype(np.float64)
    relative = [cameras[i + 1, :, :3] @ cameras[i, :, :3].T for i in (0, 2)]
    np.testing.assert_allclose(relative[0], relative[1], atol=1e-6)


def test_check_focal__warns_beyond_a_fifth(room, tmp_path, caplog):
    true_mm = float(room.intrinsics[0, 0, 0]) * 4 / 280 * 43.2666
    images = write_photos(tmp_path, room.names, round(true_mm))
    assert check_focal(room, images) == {"frames": 4, "median_predicted_over_exif": pytest.approx(1, abs=0.03)}
    assert caplog.text == ""
    write_photos(tmp_path, room.names, round(true_mm * 1.5))
    assert check_focal(room, images)["median_predicted_over_exif"] == pytest.approx(1 / 1.5, abs=0.03)
    assert "--focal exif" in caplog.text
    write_photos(tmp_path, room.names)
    assert check_focal(room, images) is None
    assert check_focal(room, ["film.mp4"]) is None
    assert check_focal(room, []) is None
