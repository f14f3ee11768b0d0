"""Impossible names, sizes and cameras are refused before they enter a scene, whatever the dataset."""

import numpy as np
import pytest
from PIL import Image

from qvggt.data.checks import check_frame, check_intrinsics, check_name, check_size
from qvggt.data.dataset import SequenceRecord
from qvggt.data.frames import Frame, build_scene
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

POSE = np.eye(4)[:3]
LENS = np.array([[0.9, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]])


def changed(matrix, at, value):
    matrix = matrix.copy()
    matrix[at] = value
    return matrix


@pytest.mark.parametrize("name", ["a/b.png", "a b é.JPG", "\udcff.png", "...png", "a" * 255, "C.png"])
def test_check_name_returns_names_inside_the_dataset(name):
    assert check_name(name, "list.txt") == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\0b", "characters"),
        ("a\nb", "characters"),
        ("\ud800.png", "characters"),
        ("", "not text"),
        (3, "not text"),
        (None, "not text"),
        ("../b.png", "leads out"),
        ("a/../../b.png", "leads out"),
        ("/etc/passwd", "leads out"),
        ("C:/b.png", "leads out"),
        ("a" * 300, "longer than 255"),
        ("é" * 128 + "/b.png", "longer than 255"),
    ],
)
def test_check_name_refuses_other_names(name, words):
    with pytest.raises(QvggtError, match=f"list.txt names a file .*{words}") as caught:
        check_name(name, "list.txt")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_check_size_refuses_nothing_and_less():
    assert check_size(3, 2, "cameras.txt") == (3, 2)
    for size in ((0, 2), (3, 0), (-3, 2)):
        with pytest.raises(QvggtError, match="not above 0"):
            check_size(*size, "cameras.txt")


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        (changed(POSE, (0, 3), np.nan), "not finite"),
        (changed(POSE, (0, 0), np.inf), "not finite"),
        (changed(POSE, (0, 0), -1), "orthonormal"),  # a mirror
        (POSE * [2, 2, 2, 1], "orthonormal"),
        (POSE * 0, "orthonormal"),
        (changed(POSE, (0, 1), 0.1), "orthonormal"),
        (changed(POSE, (0, 0), 1e300), "orthonormal"),
    ],
)
def test_check_frame_refuses_poses_that_no_camera_has(pose, words):
    with pytest.raises(QvggtError, match=f"frame 7 of room has .*{words}"):
        check_frame("room", "7", pose, LENS)


@pytest.mark.parametrize(
    "lens",
    [changed(LENS, (0, 0), value) for value in (0, -1, np.nan, np.inf)]
    + [changed(LENS, (1, 1), 0), changed(LENS, (0, 2), np.nan), changed(LENS, (2, 2), 0), LENS * 0],
)
def test_check_intrinsics_refuses_lenses_that_no_pinhole_camera_has(lens):
    with pytest.raises(QvggtError, match="intrinsics that"):
        check_intrinsics(lens, "it")


def test_check_frame_takes_rounded_rotations_and_unknown_cameras():
    check_frame("room", "7", np.round(POSE + 1e-4, 4), LENS)
    check_frame("room", "7", None, None)


def test_build_scene_checks_every_frame_before_it_reads_one(tmp_path):
    Image.fromarray(np.zeros((14, 14, 3), np.uint8)).save(tmp_path / "0.png")
    frames = [Frame(tmp_path / "0.png", POSE, LENS), Frame(tmp_path / "missing.png", POSE * 2, LENS)]
    with pytest.raises(QvggtError, match="frame 1 of room"):
        build_scene(SequenceRecord("room", ("0", "1")), ("0", "1"), frames, ImageOptions(14, 14))
