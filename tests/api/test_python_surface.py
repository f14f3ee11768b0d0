"""What a user of the Python package meets: completion, help, representations, and the methods of a prediction."""

import dataclasses
import pydoc
import typing
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

import qvggt
from qvggt.export.points import select_points
from qvggt.export.result import open_result
from qvggt.options import RESULT_FILES, ExportOptions
from qvggt.types import QvggtError


def test_completion_and_help_show_the_public_names():
    assert dir(qvggt) == sorted(qvggt.__all__)
    text = pydoc.render_doc(qvggt, renderer=pydoc.plaintext)
    for name in ("reconstruct(", "load(", "quantize(", "class Prediction"):
        assert name in text


def test_the_package_is_typed():
    assert (files("qvggt") / "py.typed").is_file()


def test_representation_of_a_prediction(room):
    assert repr(replace(room, world_points=None, world_points_conf=None, pose_enc=None)) == (
        "Prediction(images=[4, 3, 42, 56], names=('room_01.jpg', ..., 'room_04.jpg'), maps=4 FrameMap, "
        "cam_from_world=[4, 3, 4], intrinsics=[4, 3, 3], depth=[4, 42, 56], depth_conf=[4, 42, 56], "
        "heads=('camera', 'depth'))"
    )
    assert len(repr(room)) < 400


def test_heads_of_a_prediction(room):
    assert replace(room, world_points_conf=room.depth_conf + 1).heads == ("camera", "depth", "point")
    assert replace(room, world_points_conf=room.depth_conf).heads == ("camera", "depth")  # unprojected
    only_points = replace(room, depth=None, depth_conf=None, cam_from_world=None, intrinsics=None)
    assert only_points.heads == ("point",)


def test_representations_of_other_values_with_arrays(room):
    images = qvggt.ImageSet(room.images, room.maps, room.names)
    assert repr(images).startswith("ImageSet(images=[4, 3, 42, 56], maps=4 FrameMap, names=('room_01.jpg', ...,")
    assert repr(qvggt.Scene("a", room.images)) == "Scene(name='a', images=[4, 3, 42, 56], group='')"
    cloud = room.points(max_points=10)
    assert repr(cloud) == "PointCloud(points=[10, 3], colors=[10, 3], confidence=[10])"


def array_classes():
    """Return the dataclasses with arrays among the public classes and what their fields hold."""
    waiting = [getattr(qvggt, name) for name in qvggt.__all__]
    found, seen = [], set()
    while waiting:
        each = waiting.pop()
        waiting += typing.get_args(each)
        if not (isinstance(each, type) and dataclasses.is_dataclass(each)) or each in seen:
            continue
        seen.add(each)
        hints = list(typing.get_type_hints(each).values())
        waiting += hints
        if any("ndarray" in str(hint) or "Tensor'" in str(hint) for hint in hints):
            found.append(each)
    return sorted(found, key=lambda owner: owner.__name__)


@pytest.mark.parametrize("owner", array_classes(), ids=lambda owner: owner.__name__)
def test_values_with_arrays_can_be_compared_and_hashed(owner):
    assert owner.__eq__ is object.__eq__
    assert owner.__hash__ is object.__hash__


def test_predictions_can_be_compared(room):
    copy = replace(room)
    assert room == room
    assert (room == copy, room != copy) == (False, True)
    assert copy not in [room]
    assert len({room, copy}) == 2


def test_a_prediction_saves_what_commands_take(room, tmp_path):
    assert room.save(tmp_path / "out") == tmp_path / "out"
    result = open_result(tmp_path / "out")
    np.testing.assert_array_equal(result.prediction.depth, room.depth)
    assert "quality" in result.info.details
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {*RESULT_FILES, "result.json"}
    with pytest.raises(QvggtError, match="exists already"):
        room.save(tmp_path / "out")
    room.save(tmp_path / "out", overwrite=True, files=["cameras.json"])
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {"cameras.json", "result.json"}
    with pytest.raises(QvggtError, match=r"points\.obj"):
        room.save(tmp_path / "other", files=["points.obj"])
    assert not (tmp_path / "other").exists()


def test_a_prediction_of_the_point_head_alone_is_saved(room, tmp_path):
    qvggt.Prediction(room.images, room.names, room.maps, world_points=room.world_points).save(tmp_path / "out")
    assert open_result(tmp_path / "out").info.points_from == "head"
    assert (tmp_path / "out" / "points.ply").is_file()


def test_points_of_a_prediction_are_those_of_its_files(room):
    cloud = room.points()
    expected = select_points(
        room, "depth", max_points=ExportOptions.max_points, drop_percent=ExportOptions.drop_percent
    )
    np.testing.assert_array_equal(cloud.points, expected.points)
    np.testing.assert_array_equal(cloud.colors, expected.colors)
    assert len(room.points(max_points=7)) == 7
    assert len(room.points(drop_percent=0)) == room.depth.size
    assert len(replace(room, depth=None).points(drop_percent=0)) == room.depth.size  # of the point head
    with pytest.raises(QvggtError, match="camera head"):
        replace(room, cam_from_world=None).points("depth")


def test_camera_centers_of_a_prediction(room):
    centers = room.camera_centers()
    assert centers.shape == (4, 3)
    homogeneous = np.concatenate((centers, np.ones((4, 1))), 1)
    np.testing.assert_allclose(np.einsum("sij,sj->si", room.cam_from_world, homogeneous), 0, atol=1e-5)
    with pytest.raises(QvggtError, match="no cameras"):
        replace(room, cam_from_world=None).camera_centers()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": np.ones((1, 42, 56), np.float32)}, "depth"),
        ({"images": np.ones((4, 42, 56), np.float32)}, "images"),
        ({"names": ("a",)}, "one name"),
        ({"maps": ()}, "FrameMap"),
        ({"intrinsics": [1, 2]}, "intrinsics"),
    ],
)
def test_a_prediction_has_arrays_of_one_shape(room, changes, words):
    with pytest.raises(QvggtError, match=words):
        replace(room, **changes)


@pytest.mark.parametrize(
    "values", [(1.0, np.eye(2), np.zeros(3)), ("1", np.eye(3), np.zeros(3)), (np.nan, np.eye(3), np.zeros(3))]
)
def test_a_similarity_has_finite_numbers(values):
    with pytest.raises(QvggtError, match="similarity must be"):
        qvggt.Similarity(*values)
