import numpy as np
import pytest
from box_views import assert_true, view
from PIL import Image

from qvggt.data.frames import pinhole
from qvggt.data.seven_scenes import SevenScenes
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

INTRINSICS = pinhole((525.0, 525.0), (320.0, 240.0))  # pixel centers at integers
OPTIONS = ImageOptions(640, 16)  # the images as they are


def write_scene(root, scene="chess", sequences=(3, 5), frames=2):
    folder = root / scene
    folder.mkdir(parents=True)
    (folder / "TestSplit.txt").write_text("".join(f"sequence{number}\r\n" for number in sequences))
    (folder / "TrainSplit.txt").write_text("sequence1\n")
    for number in (1, *sequences):
        (folder / f"seq-{number:02d}").mkdir()
        for index in range(frames):
            stem = folder / f"seq-{number:02d}" / f"frame-{index:06d}"
            seen = view(index, INTRINSICS, (640, 480), pixel_center=0.0)
            Image.fromarray(seen.photo).save(f"{stem}.color.png", compress_level=1)
            registered = np.rint(seen.depth * 1000).astype(np.uint16)
            registered[:, :10], registered[:, 10:20], registered[:, 20:30] = 65535, 0, 10001
            Image.fromarray(registered).save(f"{stem}.depth.proj.png", compress_level=1)
            Image.fromarray(np.full((480, 640), 1234, np.uint16)).save(f"{stem}.depth.png", compress_level=1)
            rows = ("\t ".join(f"{value:.9e}" for value in row) + "\t \n" for row in seen.world_from_cam)
            (folder / f"seq-{number:02d}" / f"frame-{index:06d}.pose.txt").write_text("".join(rows))


def test_known_cameras_and_registered_depth_come_back(tmp_path):
    write_scene(tmp_path, sequences=(3,))
    reader = SevenScenes(tmp_path, depth="registered")
    (record,) = reader.sequences()
    assert (record.name, record.frames) == ("chess/seq-03", ("frame-000000", "frame-000001"))
    scene = reader.load(record, (1, 0), OPTIONS)
    assert np.allclose(scene.intrinsics, INTRINSICS)
    assert np.allclose(scene.cam_from_world[0], view(1, INTRINSICS, (2, 2)).cam_from_world, atol=1e-8)
    assert_true(scene, 1e-3)
    assert not scene.valid[:, :, :30].any()
    assert scene.valid[:, :, 30:].all()


def test_sensor_depth_is_another_file(tmp_path):
    write_scene(tmp_path, sequences=(3,))
    reader = SevenScenes(tmp_path)
    scene = reader.load(reader.sequences()[0], (0,), OPTIONS)
    assert np.allclose(scene.depth, 1.234)


def test_split_files_decide(tmp_path):
    write_scene(tmp_path, "heads", frames=1)
    write_scene(tmp_path, "chess", sequences=(12,), frames=1)
    assert [r.name for r in SevenScenes(tmp_path).sequences()] == ["chess/seq-12", "heads/seq-03", "heads/seq-05"]
    assert [r.name for r in SevenScenes(tmp_path, "train").sequences()] == ["chess/seq-01", "heads/seq-01"]


def test_errors_say_what_was_looked_for(tmp_path):
    with pytest.raises(QvggtError, match=r"<scene>/TestSplit\.txt was looked for"):
        SevenScenes(tmp_path).sequences()
    with pytest.raises(QvggtError, match="no split 'val'"):
        SevenScenes(tmp_path, "val")
    write_scene(tmp_path, sequences=(3,), frames=1)
    reader = SevenScenes(tmp_path, depth="registered")
    (record,) = reader.sequences()
    stem = tmp_path / "chess" / "seq-03" / "frame-000000"
    stem.with_name("frame-000000.depth.proj.png").unlink()
    with pytest.raises(QvggtError, match=r"frame-000000\.depth\.proj\.png was looked for"):
        reader.load(record, (0,), OPTIONS)
    pose = stem.with_name("frame-000000.pose.txt")
    pose.write_text("1 0 0 0 nan")
    with pytest.raises(QvggtError, match="5 numbers, not 4x4"):
        reader.load(record, (0,), OPTIONS)
    pose.write_text("nan " * 16)
    with pytest.raises(QvggtError, match="not finite"):
        reader.load(record, (0,), OPTIONS)
    pose.unlink()
    with pytest.raises(QvggtError, match=r"frame-000000\.pose\.txt was looked for"):
        reader.load(record, (0,), OPTIONS)
    (tmp_path / "chess" / "TestSplit.txt").write_text("sequence9\n")
    with pytest.raises(QvggtError, match="seq-09 has no frames"):
        SevenScenes(tmp_path).sequences()
    (tmp_path / "chess" / "TestSplit.txt").write_text("third\n")
    with pytest.raises(QvggtError, match="'third'"):
        SevenScenes(tmp_path).sequences()
