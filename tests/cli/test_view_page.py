"""``qvggt view --html``: the page as a file."""

import json
import re

import pytest
from PIL import Image

from qvggt.export.result import ResultInfo, save_result


@pytest.fixture
def results(room, tmp_path):
    """Return the folders of two results, which are equal."""
    for name in ("float", "4-bit"):
        save_result(room, ResultInfo(drop_percent=40.0, unit="meter"), tmp_path / name)
    return tmp_path / "float", tmp_path / "4-bit"


def scene_of(page):
    return json.loads(re.search(r'<script id="scene" type="application/json">(.*?)</script>', page.read_text())[1])


def test_view_writes_a_page_of_one_result_or_two(qvggt, results, tmp_path):
    done = qvggt("view", *results, "--html", tmp_path / "two.html")
    assert f"{tmp_path / 'two.html'} shows the scene" in done.out.replace("\n", "")
    scene = scene_of(tmp_path / "two.html")
    assert [each["name"] for each in scene["results"]] == ["float", "4-bit"]
    assert (scene["hidden_percent"], scene["unit"]) == (40, "m")
    figures = tmp_path / "figures.json"
    one = ("view", results[0], "--html", tmp_path / "one.html", "--max-points", 300, "--json", figures)
    assert qvggt(*one).status == 0
    assert json.loads(figures.read_text()) == {"bytes": (tmp_path / "one.html").stat().st_size}
    assert "--html" in qvggt("view", results[0], "--json", figures).sentence
    assert scene_of(tmp_path / "one.html")["pixels"] == 300


def test_two_results_of_one_name_are_told_apart(qvggt, room, tmp_path):
    for name in ("a", "b"):
        save_result(room, ResultInfo(), tmp_path / name / "out")
    qvggt("view", tmp_path / "a" / "out", tmp_path / "b" / "out", "--html", tmp_path / "page.html")
    first, second = scene_of(tmp_path / "page.html")["results"]
    assert first["name"] != second["name"]


def test_a_page_that_cannot_be_made_leaves_no_file(refused, room_factory, results, tmp_path):
    save_result(room_factory(frames=3), ResultInfo(), tmp_path / "other")
    assert "different images" in refused("view", results[0], tmp_path / "other", "--html", tmp_path / "page.html")
    assert "got 3" in refused("view", *results, results[0], "--html", tmp_path / "page.html")


def test_view_writes_a_turntable(qvggt, refused, results, tmp_path):
    sizes = ("--seconds", 0.5, "--size", 96, 72)
    done = qvggt("view", *results, "--turntable", tmp_path / "turn.gif", *sizes)
    assert f"{tmp_path / 'turn.gif'} shows the turning scene" in done.out.replace("\n", "")
    with Image.open(tmp_path / "turn.gif") as picture:
        assert (picture.size, picture.n_frames) == ((3 * 96 + 12, 102), 6)
    assert ".mp4, .gif or .webp" in refused("view", results[0], "--turntable", tmp_path / "turn.avi")
    assert "more than 0" in refused("view", results[0], "--turntable", tmp_path / "turn.gif", "--turn", -5)
    assert "width and a height" in refused("view", results[0], "--turntable", tmp_path / "turn.gif", "--size", 5)
