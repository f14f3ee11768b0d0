"""Rooms written to files and read back: the same cameras, depth and pictures."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qvggt.data.colmap import read_model
from qvggt.data.folder import ImageFolder
from qvggt.data.rooms.export import Pictures, Written, write_rooms
from qvggt.data.rooms.family import SPLITS, RoomFamily, choose_rooms, load_rooms, render_rooms
from qvggt.geometry import project
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

pytestmark = pytest.mark.render

PART = choose_rooms("val", 2, 3)
PICTURES = Pictures((42, 56))


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.parent != folder}


def test_what_is_written_reads_back_as_it_was(tmp_path):
    assert write_rooms(tmp_path / "out", PART, PICTURES, "val") == Written(2, 0)
    reader = ImageFolder(tmp_path / "out")
    for record, room in zip(reader.sequences(), load_rooms("val", (42, 56), 2, 3), strict=True):
        scene = reader.load(record, range(3), ImageOptions(56, 14))
        assert record.name == room.name.replace("/", "-")
        np.testing.assert_allclose(scene.cam_from_world, room.cam_from_world, atol=1e-6)
        np.testing.assert_allclose(scene.intrinsics, room.intrinsics, atol=1e-6, rtol=0)
        np.testing.assert_array_equal(scene.depth, room.depth)
        assert scene.valid is not None
        assert scene.valid.all()
        np.testing.assert_allclose(scene.images, room.images, atol=0.51 / 255)


def test_millimeters_serve_where_exact_depth_is_missing(tmp_path):
    write_rooms(tmp_path, replace(PART, scenes=1), PICTURES)
    for path in tmp_path.glob("*/depth/*.npy"):
        path.unlink()
    reader = ImageFolder(tmp_path)
    scene = reader.load(reader.sequences()[0], range(3), ImageOptions(56, 14))
    room = next(load_rooms("val", (42, 56), 1, 3))
    np.testing.assert_allclose(scene.depth, room.depth, atol=5.1e-4)


def test_points_lie_in_the_pixels_whose_color_they_have(tmp_path):
    write_rooms(tmp_path, replace(PART, scenes=1, frames=1), PICTURES)
    model = tmp_path / "room-00000" / "sparse" / "0"
    cameras, (image,) = read_model(model)
    table = np.loadtxt(model / "points3D.txt")
    picture = np.asarray(Image.open(tmp_path / "room-00000" / "images" / image.name))
    intrinsics = cameras[1].intrinsics()
    points = torch.from_numpy(table[:, 1:4])
    pixels, _ = project(points, torch.from_numpy(intrinsics), torch.from_numpy(image.cam_from_world))
    u, v = np.floor(pixels.numpy().T).astype(int)  # COLMAP's pixel (u, v) spans u..u+1
    assert np.array_equal(picture[v, u], table[:, 4:7])


def test_a_second_run_goes_on_where_the_first_stopped(tmp_path, monkeypatch):
    def stop(scene: str, share: float) -> None:
        if scene == "room-00001":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rooms(tmp_path, PART, PICTURES, on_progress=stop)
    assert sorted(os.listdir(tmp_path)) == ["index.json", "room-00000"]
    before = stamps(tmp_path)
    assert write_rooms(tmp_path, PART, PICTURES) == Written(1, 1)
    assert before.items() <= stamps(tmp_path).items()
    assert write_rooms(tmp_path, replace(PART, scenes=3), PICTURES) == Written(1, 2)
    assert write_rooms(tmp_path, PART, PICTURES) == Written(0, 2)
    assert len(json.loads((tmp_path / "index.json").read_text())["scenes"]) == 3

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(QvggtError, match="disk is full"):
        write_rooms(tmp_path, replace(PART, scenes=4), PICTURES)
    assert sorted(os.listdir(tmp_path)) == ["index.json", "room-00000", "room-00001", "room-00002"]


def test_rooms_of_other_options_are_replaced_only_when_allowed(tmp_path):
    write_rooms(tmp_path, PART, PICTURES)
    other = Pictures((42, 56), jpeg_quality=90)
    with pytest.raises(QvggtError, match="other options"):
        write_rooms(tmp_path, PART, other)
    assert write_rooms(tmp_path, replace(PART, scenes=1), other, overwrite=True) == Written(1, 0)
    assert sorted(os.listdir(tmp_path)) == ["index.json", "room-00000"]
    assert sorted(os.listdir(tmp_path / "room-00000" / "images")) == ["000.jpg", "001.jpg", "002.jpg"]


def test_the_index_tells_how_to_render_the_same_again(tmp_path):
    part = replace(SPLITS["real-like"], scenes=1, frames=2)
    write_rooms(tmp_path, part, Pictures((28, 28), samples=2))
    index = json.loads((tmp_path / "index.json").read_text())
    family = RoomFamily(**{k: tuple(v) if isinstance(v, list) else v for k, v in index["family"].items()})
    size = (index["height_px"], index["width_px"])
    batch = render_rooms([index["scenes"][0]["seed"]], index["frames"], size, family, samples=index["samples"])
    picture = np.asarray(Image.open(tmp_path / "room-00000" / "images" / "001.png"))
    again = (batch.images[0, 1].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)
    assert np.array_equal(picture, again)


def test_errors_say_how_to_mend_them(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(QvggtError, match="other files"):
        write_rooms(tmp_path, PART, PICTURES, overwrite=True)
    with pytest.raises(QvggtError, match="at most"):
        write_rooms(tmp_path / "a", SPLITS["train"], PICTURES)
    with pytest.raises(QvggtError, match="seed must lie"):
        write_rooms(tmp_path / "a", replace(PART, first_seed=-1), PICTURES)
    for wrong in ({"image_hw": (4, 56)}, {"samples": 0}, {"jpeg_quality": 100}):
        with pytest.raises(QvggtError, match="must lie"):
            Pictures(**wrong)
    assert not (tmp_path / "a").exists()
