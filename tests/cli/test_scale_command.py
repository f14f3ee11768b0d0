"""A saved reconstruction becomes metric, in place or in a new folder, and says so."""

import json

import numpy as np
import pytest
from commands import MODEL, contents

from qvggt.export.result import ResultInfo, open_result, write_result
from qvggt.postprocess.frames import camera_centers
from qvggt.postprocess.metric_scale import scaled


@pytest.fixture
def result(room, tmp_path):
    info = ResultInfo("nano", ("/photos",), drop_percent=40, details={"quality": {"sharp": True}})
    write_result(scaled(room, 0.4), info, tmp_path / "result")
    return tmp_path / "result"


@pytest.fixture(scope="module")
def baseline(room):
    places = camera_centers(room.cam_from_world)
    return float(np.linalg.norm(places[0] - places[3]))


def test_scale__in_place(qvggt, result, room, tmp_path, baseline):
    names = {path.name for path in result.iterdir()}
    text = f"room_01.jpg:room_04.jpg={baseline * 100:.9f}cm"
    done = qvggt("scale", result, "--scale", text, "--json", tmp_path / "scale.json")
    assert done.status == 0
    assert "2.5 m per unit, from 1 distance; a second one" in done.out  # whose residual is 0, whatever it is
    assert {path.name for path in result.iterdir() if not path.name.startswith(".")} == names
    opened = open_result(result)
    np.testing.assert_allclose(opened.prediction.depth, room.depth, rtol=1e-5)
    assert opened.info.unit == "meter"
    assert opened.info.drop_percent == 40
    assert opened.info.details["quality"] == {"sharp": True}
    figures = json.loads((tmp_path / "scale.json").read_text())["scale"]
    assert figures == opened.info.details["scale"]
    assert figures["meters_per_unit"] == pytest.approx(2.5, rel=1e-6)
    assert json.loads((result / "cameras.json").read_text())["unit"] == "meter"


def test_scale__in_a_new_folder_leaves_the_result_alone(qvggt, result, tmp_path):
    before = contents(result)
    arguments = ("scale", result, "--scale", "room_01.jpg:room_04.jpg=3m", "-o", tmp_path / "metric")
    assert qvggt(*arguments).status == 0
    assert contents(result) == before
    first = contents(tmp_path / "metric")
    assert qvggt(*arguments).sentence.endswith("(--overwrite)")
    assert qvggt(*arguments, "--overwrite").status == 0
    assert contents(tmp_path / "metric") == first


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (("room_01.jpg:room_4.jpg=3m",), "did you mean 'room_04.jpg'"),
        (("room_01.jpg:room_04.jpg=3",), "a length in m, cm"),
        (("room_01.jpg:room_04.jpg=0m",), "above 0"),
        (("room_01.jpg:room_04.jpg=3m", "gps"), "one kind of source, got 2"),
        (("sideways",), "expected A:B=1.5m"),
        (("missing.csv",), "missing"),
        (("room_01.jpg=missing.png",), "missing"),
        (("gps",), "/photos"),
        (("room_01.jpg:room_04.jpg=3m", "--align-world"), "only known camera positions"),
    ],
)
def test_scale__what_gives_no_scale_changes_nothing(refused, result, scale, words):
    assert words in refused("scale", result, "--scale", *scale)


def test_reconstruct_scale__refusals_come_before_the_model_is_loaded(refused, photos, tmp_path):
    said = refused("reconstruct", "no-such-model", photos, "-o", tmp_path / "out", "--scale", "a:b")
    assert "expected A:B=1.5m" in said


def test_reconstruct_scale__from_a_depth_image(qvggt, photos, tmp_path):
    np.save(tmp_path / "depth.npy", np.full((56, 56), 2.0, np.float32))
    done = qvggt(
        "reconstruct", MODEL, photos, "-o", tmp_path / "out", "--scale", f"p0.jpg={tmp_path / 'depth.npy'}",
        "--json", tmp_path / "figures.json",
    )  # fmt: skip
    assert done.status == 0, done
    info = open_result(tmp_path / "out").info
    assert info.unit == "meter"
    assert json.loads((tmp_path / "figures.json").read_text())["scale"] == info.details["scale"]
    assert "scale: " in done.out
