import logging
import os

import pytest
from PIL import Image

from qvggt.images.scenes import content_hash, count_frames, find_scenes
from qvggt.types import QvggtError


def folder(path, images=1):
    path.mkdir(parents=True)
    for index in range(images):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(path / f"{index}.png")
    return path


def video(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not decoded here")
    return path


def found(*places, **options):
    return {scene.name: scene.source for scene in find_scenes(list(places), **options)}


def test_find_scenes_takes_folders_and_videos_in_natural_order_and_says_what_it_skips(tmp_path, caplog):
    wanted = {"s2": folder(tmp_path / "s2"), "s10": folder(tmp_path / "s10"), "walk": video(tmp_path / "walk.MP4")}
    (tmp_path / "notes.txt").touch()
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path / "*") == wanted
    assert list(found(tmp_path / "*")) == list(wanted)
    assert "skipped 1 file that is no video, first 'notes.txt'" in caplog.text


def test_find_scenes_leaves_out_the_output_folder_and_what_is_in_it(tmp_path):
    folder(tmp_path / "a")
    folder(tmp_path / "out" / "a")
    assert list(found(tmp_path / "*", tmp_path / "*" / "a", output=tmp_path / "out")) == ["a"]


def test_find_scenes_takes_a_scene_once(tmp_path):
    folder(tmp_path / "a")
    assert list(found(tmp_path / "*", tmp_path / "a", f"{tmp_path}/a/")) == ["a"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["kitchen/images", "hall/images"], ["hall-images", "kitchen-images"]),
        (["walk", "walk.mp4"], ["walk", "walk.mp4"]),
        (["a/walk.mp4", "b/walk.mp4"], ["a-walk.mp4", "b-walk.mp4"]),
        (["living room (2)"], ["living_room_2"]),
        (["-o"], ["o"]),
        (["con"], ["con_"]),
        (["küche"], ["küche"]),
        (["x" * 200], ["x" * 60]),
    ],
)
def test_find_scenes_names_folders_uniquely_and_safely(tmp_path, paths, names):
    for path in paths:
        (video if path.endswith(".mp4") else folder)(tmp_path / path)
    assert list(found(*(tmp_path / path for path in paths))) == names


def test_find_scenes_tells_names_apart_that_differ_in_case_or_are_reserved(tmp_path):
    for name in ("Room", "room", "list.json"):
        (tmp_path / name).mkdir()
    names = list(found(tmp_path / "*", reserved=["list.json"]))
    assert len({name.casefold() for name in names} | {"list.json"}) == 4
    assert [name.split("-")[0] for name in names] == ["list.json", "Room", "room"]
    assert names[1:] == list(found(tmp_path / "[Rr]oom"))  # other scenes do not change them


@pytest.mark.parametrize(
    ("place", "words"),
    [("none/*/", "nothing matches"), ("none", "does not exist"), ("*.txt", "found no scenes")],
)
def test_find_scenes_refuses_to_find_nothing(tmp_path, place, words):
    (tmp_path / "a.txt").touch()
    with pytest.raises(QvggtError, match=words):
        find_scenes(tmp_path / place)


def test_content_hash_notices_every_change_of_photographs_and_nothing_else(tmp_path):
    (scene,) = find_scenes(folder(tmp_path / "a", 2))
    hashes = [content_hash(scene)]
    (tmp_path / "a" / "notes.txt").write_text("not a photograph")
    os.utime(tmp_path / "a" / "0.png", (0, 0))
    assert content_hash(scene) == hashes[0]
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "a" / "0.png")
    hashes.append(content_hash(scene))
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "2.png")
    hashes.append(content_hash(scene))
    (tmp_path / "a" / "2.png").unlink()
    hashes.append(content_hash(scene))
    assert len(set(hashes)) == 4


def test_count_frames_of_folders_videos_and_what_cannot_be_read(tmp_path):
    (photographs,) = find_scenes(folder(tmp_path / "a", 3))
    (walk,) = find_scenes(video(tmp_path / "walk.mp4"))
    (empty,) = find_scenes(folder(tmp_path / "empty", 0))
    assert [count_frames(photographs, None, frames) for frames in (None, 2, 5)] == [3, 2, 3]
    assert [count_frames(walk, None, frames) for frames in (None, 20)] == [16, 20]
    assert count_frames(empty, None, None) == count_frames(walk, 2.0, None) == 0
