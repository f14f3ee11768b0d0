import numpy as np
import pytest

from qvggt.app.saving import file_bytes, frame_pictures, in_meters, save_as
from qvggt.export.result import Result, ResultInfo, open_result, write_result
from qvggt.types import QvggtError


def test_a_photograph_is_shown_beside_its_depth(room):
    picture = next(frame_pictures(room, [1]))
    height, width = room.depth.shape[1:]
    larger = picture.shape[0] // height
    assert picture.shape[1] >= 560
    photo = picture[::larger, : larger * width : larger]
    np.testing.assert_array_equal(photo, np.rint(255 * room.images[1].transpose(1, 2, 0)))


def test_downloads_have_the_points_of_a_distorted_lens(room, tmp_path):
    lens = {"radial_distortion": -0.1, "lens_focal_px": [50.0, 50.0]}
    frames = [{"name": name, **lens} for name in room.names]
    pinholes = Result(tmp_path, room, ResultInfo(drop_percent=0))
    lenses = Result(tmp_path, room, ResultInfo(drop_percent=0, details={"refinement": {"frames": frames}}))
    downloaded = file_bytes(lenses, "points.ply", 10**6)
    write_result(room, lenses.info, tmp_path, max_points=10**6, files=("points.ply",))
    assert downloaded == (tmp_path / "points.ply").read_bytes() != file_bytes(pinholes, "points.ply", 10**6)


def test_files_and_results_in_meters(room, tmp_path):
    result = Result(tmp_path / "room", room, ResultInfo(drop_percent=0))
    metric = in_meters(result, 2.0)
    assert metric.info.unit == "meter"
    assert metric.info.details["scale"]["meters_per_unit"] == 2.0
    assert b"meters" in file_bytes(metric, "points.ply", 100)[:400]
    assert b"meters" not in file_bytes(result, "points.ply", 100)[:400]
    saved = open_result(save_as(metric, str(tmp_path / "metric")))
    np.testing.assert_allclose(saved.prediction.depth, 2 * room.depth, rtol=1e-6)
    with pytest.raises(QvggtError, match="metric"):
        save_as(metric, str(tmp_path / "metric"))  # never over an earlier one
    with pytest.raises(QvggtError, match="name the folder"):
        save_as(metric, " ")
