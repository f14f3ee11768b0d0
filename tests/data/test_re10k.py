import logging
from dataclasses import replace

import numpy as np
import pytest
from box_views import assert_true, view
from PIL import Image

from qvggt.data.frames import pinhole
from qvggt.data.re10k import RealEstate10K
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

SIZE = (64, 36)
INTRINSICS = pinhole((34.0, 35.0), (31.0, 18.5))
TIMESTAMPS = (52553000, 52586000, 153119000)
OPTIONS = ImageOptions(64, 4)


def camera_line(timestamp, seen):
    shares = [
        INTRINSICS[0, 0] / SIZE[0], INTRINSICS[1, 1] / SIZE[1], INTRINSICS[0, 2] / SIZE[0], INTRINSICS[1, 2] / SIZE[1]
    ]  # fmt: skip
    pose = np.column_stack((seen.rotation, seen.translation)).ravel()
    return " ".join(
        [str(timestamp), *(f"{x:.9f}" for x in shares), "0.000000000", "0.000000000", *map(repr, pose.tolist())]
    )


def write_sequence(root, name, layout="frames/test", present=TIMESTAMPS, suffix="png"):
    (root / "test").mkdir(parents=True, exist_ok=True)
    lines = ["https://www.youtube.com/watch?v=abc"]
    folder = root / layout / name
    for index, timestamp in enumerate(TIMESTAMPS):
        seen = view(index, INTRINSICS, SIZE)
        lines.append(camera_line(timestamp, seen))
        if timestamp in present:
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(seen.photo).save(folder / f"{timestamp}.{suffix}")
    (root / "test" / f"{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("layout", "suffix"), [("frames/test", "png"), ("test", "jpg")])
def test_known_cameras_come_back(tmp_path, layout, suffix):
    write_sequence(tmp_path, "0c4c5d5f751aabf5", layout, suffix=suffix)
    reader = RealEstate10K(tmp_path)
    (record,) = reader.sequences()
    assert record.frames == tuple(map(str, TIMESTAMPS))
    assert record.group == ""
    scene = reader.load(record, (2, 0), OPTIONS)
    truth = [view(index, INTRINSICS, SIZE) for index in (2, 0)]
    assert np.allclose(scene.cam_from_world, [seen.cam_from_world for seen in truth], atol=1e-12)
    assert scene.depth is None
    assert scene.valid is None
    depth = np.stack([seen.depth for seen in truth])
    assert_true(replace(scene, depth=depth, valid=depth > 0), 1e-6, shade=0.02)


def test_intrinsics_follow_the_size_of_the_extracted_frames(tmp_path):
    write_sequence(tmp_path, "a")
    for path in (tmp_path / "frames/test/a").iterdir():
        Image.open(path).resize((32, 18)).save(path)
    scene = RealEstate10K(tmp_path).load(RealEstate10K(tmp_path).sequences()[0], (0,), ImageOptions(32, 2))
    assert np.allclose(scene.intrinsics[0], [[17, 0, 15.5 - 0.5], [0, 17.5, 9.25 - 0.5], [0, 0, 1]])


def test_only_extracted_frames_are_candidates(tmp_path, caplog):
    write_sequence(tmp_path, "a", present=TIMESTAMPS[1:])
    write_sequence(tmp_path, "b", present=())
    with caplog.at_level(logging.WARNING):
        (record,) = RealEstate10K(tmp_path).sequences()
    assert (record.name, record.frames) == ("a", tuple(map(str, TIMESTAMPS[1:])))
    assert "1 of 2 sequences" in caplog.text


def test_list_of_sequences(tmp_path):
    for name in ("a", "b", "c"):
        write_sequence(tmp_path, name)
    (tmp_path / "mine.txt").write_text("c\nb.txt\n\n")
    assert [r.name for r in RealEstate10K(tmp_path, sequence_list=tmp_path / "mine.txt").sequences()] == ["b", "c"]
    (tmp_path / "test_sequences.txt").write_text("a\n")
    assert [r.name for r in RealEstate10K(tmp_path).sequences()] == ["a"]
    with pytest.raises(QvggtError, match=r"gone\.txt was looked for"):
        RealEstate10K(tmp_path, sequence_list=tmp_path / "gone.txt").sequences()


@pytest.mark.parametrize("line", ["52553000 0.5 0.5", "x " + "0 " * 18, "1 " + "nan " * 18, "1 " + "0 " * 17 + "zero"])
def test_damaged_camera_file_is_named(tmp_path, line):
    write_sequence(tmp_path, "a")
    (tmp_path / "test/a.txt").write_text(f"https://video\n{line}\n")
    with pytest.raises(QvggtError, match=r"a\.txt is damaged"):
        RealEstate10K(tmp_path).sequences()


def test_wrong_folder_and_missing_frames_say_what_was_looked_for(tmp_path):
    with pytest.raises(QvggtError, match=r"test/<sequence>\.txt was looked for"):
        RealEstate10K(tmp_path).sequences()
    write_sequence(tmp_path, "a", present=())
    with pytest.raises(QvggtError, match=r"<timestamp>\.png was looked for"):
        RealEstate10K(tmp_path).sequences()
    write_sequence(tmp_path, "a")
    reader = RealEstate10K(tmp_path)
    (record,) = reader.sequences()
    (tmp_path / "frames/test/a" / f"{TIMESTAMPS[0]}.png").unlink()
    with pytest.raises(QvggtError, match=f"{TIMESTAMPS[0]}.png was looked for"):
        reader.load(record, (0,), OPTIONS)
    with pytest.raises(QvggtError, match="no split 'val'"):
        RealEstate10K(tmp_path, "val")
