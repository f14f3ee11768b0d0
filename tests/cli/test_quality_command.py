"""What ``reconstruct`` says about its result: on the terminal, in JSON and on the overview."""

import json

import numpy as np
import pytest
from PIL import Image

from qvggt.weights.pretrained import sample_images


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Return the sample scene, its fifth picture replaced by smooth noise."""
    folder = tmp_path_factory.mktemp("sample")
    for index, path in enumerate(sample_images()):
        with Image.open(path) as image:
            if index == 4:
                pixels = np.random.default_rng(3).integers(0, 255, (9, 12, 3), np.uint8)
                Image.fromarray(pixels).resize(image.size).save(folder / f"{index}.png")
            else:
                image.save(folder / f"{index}.png")
    return folder


@pytest.mark.usefixtures("full_pictures")
def test_a_picture_of_something_else_is_named(qvggt, sample, tmp_path):
    done = qvggt("reconstruct", "nano", sample, "-o", tmp_path / "out", "--json", tmp_path / "f.json")
    (line,) = (line for line in done.out.splitlines() if line.startswith("quality:"))
    assert "4.png does not fit the other frames" in line
    quality = json.loads((tmp_path / "out" / "result.json").read_text())["details"]["quality"]
    assert json.loads((tmp_path / "f.json").read_text())["quality"] == quality
    (finding,) = quality["findings"]
    assert (finding["kind"], finding["frames"]) == ("misfit", [4])
    assert line == f"quality: {finding['text']}"
    assert [frame["group"] for frame in quality["frames"]] == [0, 0, 0, 0, 1, 0, 0, 0]
    overview = np.asarray(Image.open(tmp_path / "out" / "overview.png").convert("RGB"))[:120, -400:]
    assert (overview == (0xF2, 0xB0, 0x40)).all(-1).sum() > 500


def test_a_good_scene_is_said_to_be_good(qvggt, sample, tmp_path):
    (sample / "4.png").rename(tmp_path / "4.png")
    done = qvggt("reconstruct", "nano", sample, "-o", tmp_path / "out")
    (tmp_path / "4.png").rename(sample / "4.png")
    assert "quality: no faults found\n" in done.out
    assert "quality" not in done.err


def test_cameras_alone_are_not_judged(qvggt, sample, tmp_path):
    done = qvggt("reconstruct", "nano", sample, "-o", tmp_path / "out", "--heads", "camera")
    assert "quality" not in done.out
    assert json.loads((tmp_path / "out" / "result.json").read_text())["details"] == {}
