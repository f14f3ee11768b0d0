"""Every file of a metric reconstruction says that its lengths are in meters."""

import json

import pytest
from PIL import Image

from qvggt.export import write_all
from qvggt.export.overview import write_overview
from qvggt.export.result import ResultInfo
from qvggt.options import ExportOptions


def glb_document(path):
    data = path.read_bytes()
    return json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])


@pytest.mark.parametrize(("unit", "words"), [("meter", "meters"), ("model", "the model's unit")])
def test_write_all__every_file_states_its_unit(room, tmp_path, coarse_pages, unit, words):
    write_all(room, tmp_path, ResultInfo(unit=unit).export_options(max_points=1000))
    cameras = json.loads((tmp_path / "cameras.json").read_text())
    assert cameras["unit"] == unit
    assert f"Lengths are in {words}" in cameras["conventions"]
    depth = json.loads((tmp_path / "depth" / "scale.json").read_text())
    assert depth["unit"] == unit
    assert f"depth in {words}" in depth["conventions"]
    assert words in Image.open(tmp_path / "depth" / "room_01.png").text["Description"]
    assert glb_document(tmp_path / "scene.glb")["asset"]["extras"] == {"unit": unit}
    header = (tmp_path / "points.ply").read_bytes()[:300].decode("ascii", "replace")
    assert ("meters" in header) == (unit == "meter")


def test_write_overview__the_scale_bar_is_labeled_in_meters(room, tmp_path, coarse_pages, monkeypatch):
    labels = []
    monkeypatch.setattr("matplotlib.axes.Axes.text", lambda self, x, y, text, **style: labels.append(text))
    for unit, label in (("meter", "m"), ("model", "model unit")):
        write_overview(tmp_path / "o.png", room, None, unit=unit)
        assert labels[-1].rstrip("s").endswith(f" {label}")


def test_result_info_export_options():
    info = ResultInfo("nano", points_from="head", drop_percent=5, unit="meter")
    assert info.export_options(9) == ExportOptions("head", 9, 5, title="nano", unit="meter")
