import json
import sys

import numpy as np
import pytest
from commands import MODEL, draw
from PIL import Image

from qvggt.export.npz import load_prediction
from qvggt.export.result import open_result


@pytest.fixture
def result(qvggt, photos, tmp_path):
    """Return a folder with a reconstruction of two photographs without detail."""
    assert qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out").status == 0
    return tmp_path / "out"


def test_refine_says_why_cameras_stay_and_notes_it_in_the_result(qvggt, result, tmp_path):
    pytest.importorskip("pycolmap")
    done = qvggt("refine", result, "-o", tmp_path / "better", "--json", tmp_path / "figures.json")
    assert done.status == 0, done.err
    assert "too few matches" in done.out
    before, after = load_prediction(result / "prediction.npz"), load_prediction(tmp_path / "better" / "prediction.npz")
    np.testing.assert_array_equal(before.cam_from_world, after.cam_from_world)
    details = open_result(tmp_path / "better").info.details["refinement"]
    assert details == json.loads((tmp_path / "figures.json").read_text())["refinement"]
    assert [frame["name"] for frame in details["frames"]] == ["p0.jpg", "p1.jpg"]
    assert (tmp_path / "better" / "points.ply").exists()


def test_refine_rewrites_the_result_itself_and_another_folder_with_overwrite_only(qvggt, refused, result, tmp_path):
    pytest.importorskip("pycolmap")
    assert qvggt("refine", result, "-o", tmp_path / "better").status == 0
    assert "--overwrite" in refused("refine", result, "-o", tmp_path / "better")
    assert "refinement" not in open_result(result).info.details
    assert qvggt("refine", result).status == 0
    assert "refinement" in open_result(result).info.details


def test_refine_names_photographs_that_are_not_those_of_the_result(refused, result, tmp_path):
    pytest.importorskip("pycolmap")
    other = draw(tmp_path / "other" / "p0.jpg").parent
    assert "'p1.jpg' is not in" in refused("refine", result, "--images", other, "-o", tmp_path / "better")
    for name in ("p0.jpg", "p1.jpg"):
        Image.new("RGB", (80, 60)).save(other / name)
    assert "80x60 px, and 56x56" in refused("refine", result, "--images", other, "-o", tmp_path / "better")


def test_without_pycolmap_one_sentence_names_the_extra(refused, photos, result, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    remedy = 'pip install "qvggt[colmap]"'
    assert remedy in refused("refine", result, "-o", tmp_path / "better")
    assert remedy in refused("reconstruct", MODEL, photos, "-o", tmp_path / "better", "--refine")


def test_reconstruct_refines_at_once(qvggt, photos, tmp_path):
    pytest.importorskip("pycolmap")
    figures = tmp_path / "figures.json"
    done = qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out", "--refine", "--json", figures)
    assert "too few matches" in done.out
    values = json.loads(figures.read_text())
    assert values["refinement"]["kept"] == "none"
    assert values["postprocess_seconds"] > 0


def test_refine_refuses_impossible_options(refused, result):
    assert "at least 64" in refused("refine", result, "--max-size", "10")
