import logging

import numpy as np
import pytest
from box_views import assert_true, view
from PIL import Image

from qvggt.data.frames import pinhole
from qvggt.data.scannet import ScanNet
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

COLOR = pinhole((117.0, 118.0), (64.0, 47.5))  # of 128x96, pixel centers at integers
DEPTH = pinhole((289.0, 290.0), (159.8, 120.9))  # of 320x240: not the color camera's times 2.5
OPTIONS = ImageOptions(128, 16)  # the color images as they are


def write_matrix(path, matrix):
    path.write_text("\n".join(" ".join(f"{value:.9f}" for value in row) for row in matrix) + "\n")


def write_scene(root, name="scans/scene0000_00", frames=2, lost=()):
    folder = root / name
    for kind in ("color", "depth", "pose", "intrinsic"):
        (folder / kind).mkdir(parents=True)
    for index in range(frames):
        seen = view(index, COLOR, (128, 96), pixel_center=0.0)
        Image.fromarray(seen.photo).save(folder / "color" / f"{index}.jpg", quality=98, subsampling=0)
        depth = view(index, DEPTH, (320, 240), pixel_center=0.0).depth
        Image.fromarray(np.rint(depth * 1000).astype(np.uint16)).save(folder / "depth" / f"{index}.png")
        pose = np.full((4, 4), -np.inf) if index in lost else seen.world_from_cam
        write_matrix(folder / "pose" / f"{index}.txt", pose)
    for kind, intrinsics in (("color", COLOR), ("depth", DEPTH)):
        matrix = np.eye(4)
        matrix[:3, :3] = intrinsics
        write_matrix(folder / "intrinsic" / f"intrinsic_{kind}.txt", matrix)


@pytest.mark.parametrize("place", ["scans", "scans_test", "."])
def test_known_cameras_and_depth_of_another_camera_come_back(tmp_path, place):
    write_scene(tmp_path, f"{place}/scene0000_00")
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\n")
    reader = ScanNet(tmp_path)
    (record,) = reader.sequences()
    assert (record.name, record.frames) == ("scene0000_00", ("0.jpg", "1.jpg"))
    scene = reader.load(record, (1, 0), OPTIONS)
    assert np.allclose(scene.intrinsics, COLOR)
    # The nearest depth pixel is up to half of one away: 0.5 / 289 of the depth, more on slanted walls.
    assert_true(scene, 0.012, shade=0.02)
    assert scene.valid.all()


def test_frames_without_pose_are_no_candidates_and_order_is_natural(tmp_path):
    write_scene(tmp_path, frames=12, lost=(3,))
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\n")
    assert ScanNet(tmp_path).sequences()[0].frames == tuple(f"{i}.jpg" for i in range(12) if i != 3)


def test_scenes_that_are_not_there_are_counted(tmp_path, caplog):
    write_scene(tmp_path, frames=1)
    (tmp_path / "scannetv2_val.txt").write_text("scene0000_00\nscene0000_01\n")
    with caplog.at_level(logging.WARNING):
        assert len(ScanNet(tmp_path, "val").sequences()) == 1
    assert "1 of the 2 scenes" in caplog.text


def test_errors_say_what_was_looked_for(tmp_path):
    with pytest.raises(QvggtError, match=r"scannetv2_train\.txt was looked for"):
        ScanNet(tmp_path).sequences()
    with pytest.raises(QvggtError, match="no split 'calib'"):
        ScanNet(tmp_path, "calib")
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\n")
    with pytest.raises(QvggtError, match=r"scans/<scene>/color/ was looked for"):
        ScanNet(tmp_path).sequences()
    write_scene(tmp_path)
    reader = ScanNet(tmp_path)
    (record,) = reader.sequences()
    folder = tmp_path / "scans" / "scene0000_00"
    (folder / "depth" / "0.png").unlink()
    with pytest.raises(QvggtError, match=r"depth/0\.png was looked for"):
        reader.load(record, (0,), OPTIONS)
    (folder / "intrinsic" / "intrinsic_depth.txt").unlink()
    with pytest.raises(QvggtError, match=r"intrinsic_depth\.txt was looked for"):
        reader.load(record, (0,), OPTIONS)
    (folder / "pose" / "0.txt").unlink()
    with pytest.raises(QvggtError, match=r"pose/0\.txt was looked for"):
        ScanNet(tmp_path).sequences()
