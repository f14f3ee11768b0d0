"""Nano, also quantized, warns once if it is given photographs, and never about rooms that qvggt rendered."""

import shutil

import pytest
from commands import MODEL

import qvggt
from qvggt.api.quantize import quantize_to
from qvggt.cli.examples import EXAMPLES
from qvggt.weights.pretrained import SAMPLE_SCENE, sample_images

WARNING = "qvggt: warning: nano is a demonstration model of synthetic rooms; use facebook/VGGT-1B for photographs\n"


@pytest.fixture(scope="module")
def nano_4bit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano") / "nano-4bit"
    quantize_to("nano", folder)
    return folder


def reconstruct(qvggt, model, images, tmp_path):
    done = qvggt("reconstruct", model, images, "-o", tmp_path / "out", "--files", "cameras.json", "--overwrite")
    assert done.status == 0, done
    return done.err


def test_photographs_are_warned_of_in_a_line(qvggt, photos, tmp_path, nano_4bit):
    for model in ("nano", nano_4bit):
        assert reconstruct(qvggt, model, photos, tmp_path) == WARNING
    assert reconstruct(qvggt, MODEL, photos, tmp_path) == ""


def test_rooms_are_not(qvggt, tmp_path, nano_4bit):
    assert qvggt("render", "rooms", "-o", tmp_path / "rooms", "--scenes", 1, "--frames", 2, "--size", 112).status == 0
    shutil.copytree(next(tmp_path.glob("rooms/*/images")), tmp_path / "copied")
    for images in (tmp_path / "copied", SAMPLE_SCENE / "000.jpg"):
        assert reconstruct(qvggt, nano_4bit, images, tmp_path) == ""


def test_a_batch_of_scenes_is_warned_of_once(qvggt, photos, tmp_path):
    for name in ("a", "b", "c"):
        shutil.copytree(photos, tmp_path / "captures" / name)
    command = ("reconstruct", "nano", "--scenes", tmp_path / "captures" / "*", "-o", tmp_path / "out")
    done = qvggt(*command, "--files", "cameras.json")
    assert done.status == 0
    assert done.err == WARNING


def test_fidelity_on_photographs_warns_too(qvggt, photos, nano_4bit):
    assert qvggt("fidelity", "nano", nano_4bit, photos).err == WARNING
    assert qvggt("fidelity", "nano", nano_4bit, *sample_images()[:2]).err == ""


def test_a_call_from_python_warns(photos, caplog):
    model = qvggt.load("nano")
    qvggt.reconstruct(model, photos, heads="camera")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        WARNING.removeprefix("qvggt: warning: ").rstrip()
    ]
    caplog.clear()
    qvggt.reconstruct(model, sample_images()[:2], heads="camera")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_no_example_shows_nano_on_photographs():
    lines = [line.split() for lines in EXAMPLES.values() for line in lines]
    assert not [line for line in lines if any(w.startswith("nano") for w in line) and any("photos" in w for w in line)]
