import numpy as np
import pytest
from box_views import assert_true, view
from PIL import Image

from qvggt.data.frames import pinhole
from qvggt.data.nrgbd import NeuralRgbd
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

INTRINSICS = pinhole((554.2562584220408, 554.2562584220408), (320.0, 240.0))  # pixel centers at integers
OPTIONS = ImageOptions(640, 16)  # the images as they are


def opengl_pose(seen):
    """Camera-to-world whose columns are the camera's right, up and backward axes and its center."""
    pose = seen.world_from_cam
    right, down, forward, center = pose.T
    return np.stack((right, -down, -forward, center), axis=1)


def write_scene(root, name="green_room", frames=3, lost=()):
    folder = root / name
    for kind in ("images", "depth", "depth_filtered"):
        (folder / kind).mkdir(parents=True)
    lines = []
    for index in range(frames):
        seen = view(index, INTRINSICS, (640, 480), pixel_center=0.0)
        Image.fromarray(seen.photo).save(folder / "images" / f"img{index}.png", compress_level=1)
        millimeters = np.rint(seen.depth * 1000).astype(np.uint16)
        millimeters[:16] = 0
        Image.fromarray(millimeters).save(folder / "depth" / f"depth{index}.png", compress_level=1)
        filtered = np.full_like(millimeters, 2000)
        Image.fromarray(filtered).save(folder / "depth_filtered" / f"depth{index}.png", compress_level=1)
        pose = np.full((4, 4), np.nan) if index in lost else opengl_pose(seen)
        lines += [" ".join(map(repr, row)) for row in pose.tolist()]
    (folder / "poses.txt").write_text("\n".join(lines) + "\n")


def test_known_cameras_and_depth_come_back(tmp_path):
    write_scene(tmp_path)
    reader = NeuralRgbd(tmp_path)
    (record,) = reader.sequences()
    assert (record.name, record.frames) == ("green_room", ("img0.png", "img1.png", "img2.png"))
    scene = reader.load(record, (2, 0), OPTIONS)
    assert np.allclose(scene.intrinsics, INTRINSICS)
    assert np.allclose(scene.cam_from_world[0], view(2, INTRINSICS, (2, 2)).cam_from_world)
    assert_true(scene, 1e-3)
    assert not scene.valid[:, :16].any()
    assert scene.valid[:, 16:].all()


def test_filtered_depth_is_another_folder(tmp_path):
    write_scene(tmp_path, frames=1)
    reader = NeuralRgbd(tmp_path, depth_folder="depth_filtered")
    assert np.allclose(reader.load(reader.sequences()[0], (0,), OPTIONS).depth, 2.0)


def test_frames_without_pose_or_image_are_no_candidates(tmp_path):
    write_scene(tmp_path, frames=4, lost=(1,))
    (tmp_path / "green_room/images/img3.png").unlink()
    assert NeuralRgbd(tmp_path).sequences()[0].frames == ("img0.png", "img2.png")


def test_scene_of_another_camera_is_left_out(tmp_path):
    for name in ("whiteroom", "icl_living_room", "kitchen"):
        write_scene(tmp_path, name, frames=1)
    assert [record.name for record in NeuralRgbd(tmp_path).sequences()] == ["kitchen", "whiteroom"]


def test_errors_say_what_was_looked_for(tmp_path):
    with pytest.raises(QvggtError, match=r"<scene>/poses\.txt was looked for"):
        NeuralRgbd(tmp_path).sequences()
    with pytest.raises(QvggtError, match="no split 'train'"):
        NeuralRgbd(tmp_path, "train")
    write_scene(tmp_path, frames=1)
    reader = NeuralRgbd(tmp_path)
    (record,) = reader.sequences()
    (tmp_path / "green_room/depth/depth0.png").unlink()
    with pytest.raises(QvggtError, match=r"depth/depth0\.png was looked for"):
        reader.load(record, (0,), OPTIONS)
    (tmp_path / "green_room/poses.txt").write_text("1 0 0 0\n")
    with pytest.raises(QvggtError, match=r"poses\.txt is damaged \(not a stack of 4x4"):
        NeuralRgbd(tmp_path).sequences()
    (tmp_path / "green_room/poses.txt").write_text("nan " * 16)
    with pytest.raises(QvggtError, match=r"images/img0\.png was looked for"):
        NeuralRgbd(tmp_path).sequences()
