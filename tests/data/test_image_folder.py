import logging
from dataclasses import replace

import numpy as np
import pytest
from box_views import assert_true, view
from colmap_writing import write_binary, write_text
from PIL import Image

from qvggt.data.folder import ImageFolder
from qvggt.data.frames import pinhole
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

SIZE = (56, 42)
INTRINSICS = pinhole((60.0, 64.0), (27.0, 23.5))
PINHOLE = (1, "PINHOLE", *SIZE, (60.0, 64.0, 27.0, 23.5))
OPTIONS = ImageOptions(56, 14)
NAMES = ("img1.png", "img2.png", "img10.png")


def write_images(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(view(index, INTRINSICS, SIZE).photo).save(folder / name)


def registered(names=NAMES):
    views = [view(index, INTRINSICS, SIZE) for index in range(len(names))]
    return [
        (i + 1, name, 1, seen.rotation, seen.translation)
        for i, (name, seen) in enumerate(zip(names, views, strict=True))
    ]


@pytest.mark.parametrize("write", [write_text, write_binary])
@pytest.mark.parametrize(
    ("images", "model"), [("images", "sparse/0"), (".", "sparse"), ("images", "."), (".", "colmap")]
)
def test_known_cameras_come_back(tmp_path, write, images, model):
    write_images(tmp_path / images)
    write(tmp_path / model, [PINHOLE], registered())
    reader = ImageFolder(tmp_path)
    (record,) = reader.sequences()
    assert (record.name, record.frames) == (tmp_path.name, NAMES)
    scene = reader.load(record, (2, 0), OPTIONS)
    truth = [view(index, INTRINSICS, SIZE) for index in (2, 0)]
    assert np.allclose(scene.cam_from_world, [seen.cam_from_world for seen in truth])
    depth = np.stack([seen.depth for seen in truth])
    assert_true(replace(scene, depth=depth, valid=depth > 0), 1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_depth_beside_the_cameras_is_read(tmp_path, exact):
    write_images(tmp_path / "images")
    write_text(tmp_path / "sparse" / "0", [PINHOLE], registered())
    truth = [view(index, INTRINSICS, SIZE) for index in range(3)]
    for name, seen in zip(NAMES, truth, strict=True):
        for folder in ("depth", "depth_mm"):
            (tmp_path / folder).mkdir(exist_ok=True)
        stem = name.removesuffix(".png")
        millimeters = np.rint(seen.depth * 1000).astype(np.uint16)
        millimeters[0, :2] = 0, 65535  # neither is a measurement
        Image.fromarray(millimeters).save(tmp_path / "depth_mm" / name)
        if exact:
            np.save(tmp_path / "depth" / f"{stem}.npy", seen.depth)
    reader = ImageFolder(tmp_path)
    scene = reader.load(reader.sequences()[0], (0, 1, 2), OPTIONS)
    assert scene.depth is not None
    assert scene.valid is not None
    error = np.abs(scene.depth - np.stack([seen.depth for seen in truth]))
    assert scene.valid[:, 0, :2].all() == exact
    assert (error[scene.valid] <= (1e-6 if exact else 5.01e-4)).all()


def test_depth_that_some_frames_lack_is_none_for_the_scene(tmp_path):
    write_images(tmp_path / "images")
    write_text(tmp_path / "sparse" / "0", [PINHOLE], registered())
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "img1.npy", np.ones(SIZE[::-1], np.float32))
    reader = ImageFolder(tmp_path)
    (record,) = reader.sequences()
    assert reader.load(record, (0, 1), OPTIONS).depth is None
    assert reader.load(record, (0,), OPTIONS).depth is not None
    np.save(tmp_path / "depth" / "img1.npy", np.ones(3))
    with pytest.raises(QvggtError, match=r"img1\.npy is not an array"):
        reader.load(record, (0,), OPTIONS)


def test_images_in_subfolders_of_a_model(tmp_path):
    names = ("left/0.png", "right/0.png")
    write_images(tmp_path / "images", names)
    write_text(tmp_path / "sparse", [PINHOLE], registered(names))
    assert ImageFolder(tmp_path).sequences()[0].frames == names


def test_folder_of_scenes_with_and_without_cameras(tmp_path):
    write_images(tmp_path / "b" / "images")
    write_text(tmp_path / "b" / "sparse" / "0", [PINHOLE], registered())
    write_images(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    reader = ImageFolder(tmp_path)
    assert [record.name for record in reader.sequences()] == ["a", "b"]
    scenes = [reader.load(record, (0, 1), OPTIONS) for record in reader.sequences()]
    assert scenes[0].cam_from_world is None
    assert scenes[1].cam_from_world is not None
    assert np.array_equal(scenes[0].images, scenes[1].images)


def test_photographs_without_cameras_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((28, 56, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    reader = ImageFolder(tmp_path)
    assert reader.load(reader.sequences()[0], (0,), ImageOptions(28, 14, "pad")).images.shape == (1, 3, 28, 28)
    assert reader.load(reader.sequences()[0], (0,), ImageOptions(28, 14)).images.shape == (1, 3, 28, 28)
    assert (reader.load(reader.sequences()[0], (0,), ImageOptions(56, 14)).images == 0).all()  # 56 wide, cut to 56 high


def test_registered_images_that_are_not_there_and_distortion_are_warned_of(tmp_path, caplog):
    write_images(tmp_path, NAMES[:2])
    write_text(tmp_path, [(1, "SIMPLE_RADIAL", *SIZE, (60.0, 27.0, 23.5, 0.05))], registered())
    with caplog.at_level(logging.WARNING):
        assert ImageFolder(tmp_path).sequences()[0].frames == NAMES[:2]
    assert "2 of 3 registered images" in caplog.text
    assert "distortion" in caplog.text


def test_errors_say_what_was_looked_for(tmp_path):
    with pytest.raises(QvggtError, match="no image is in"):
        ImageFolder(tmp_path).sequences()
    with pytest.raises(QvggtError, match="no split 'test'"):
        ImageFolder(tmp_path, "test")
    write_text(tmp_path / "sparse", [PINHOLE], registered())
    with pytest.raises(QvggtError, match=r"img1\.png was looked for"):
        ImageFolder(tmp_path).sequences()
