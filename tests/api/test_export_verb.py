"""The verb export: every format from a result on disk, equal bytes for equal runs, and what is missing in words."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import qvggt
from qvggt.export.result import ResultInfo, save_result
from qvggt.options import ExportFormat, FormatOptions
from qvggt.types import Prediction, QvggtError

FORMATS = ExportFormat.__args__
FILES = {
    "colmap": {"images", "sparse"},
    "nerfstudio": {"images", "transforms.json", "sparse_pc.ply"},
    "splat": {"splat.ply"},
    "ply": {"points.ply"},
    "glb": {"scene.glb"},
    "trajectory": {"tum.txt", "kitti.txt", "euroc.csv"},
    "depth": {"depth"},
}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def save(prediction: Prediction, folder: Path, **info) -> Path:
    """Write a result with its photographs beside it, as ``reconstruct`` would."""
    photos = folder / "photos"
    photos.mkdir(parents=True)
    for name, frame, image in zip(prediction.names, prediction.maps, prediction.images, strict=True):
        pixels = (image.transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(pixels).resize(frame.original_size).save(photos / name, quality=90)
    save_result(prediction, ResultInfo(images=(str(photos),), **info), folder / "result")
    return folder / "result"


@pytest.fixture
def result(room, tmp_path):
    return save(room, tmp_path, unit="meter", drop_percent=10)


@pytest.mark.parametrize("kind", FORMATS)
def test_export_writes_every_format_twice_alike(result, tmp_path, kind):
    options = FormatOptions(max_points=500)
    report = qvggt.export(result, tmp_path / "one", kind, options)
    qvggt.export(str(result), tmp_path / "two", kind, options)
    written = contents(tmp_path / "one")
    assert written == contents(tmp_path / "two")
    assert {name.split("/")[0] for name in written} == FILES[kind] | {"export.json"}
    summary = json.loads(written.pop("export.json"))
    assert summary == {"version": 1, **report.to_json(), "files": list(report.files)}
    assert (report.format, report.unit, report.frames) == (kind, "meter", 4)
    assert report.bytes == sum(map(len, written.values()))
    assert sorted(written) == sorted(report.files)
    if kind not in ("trajectory", "depth"):
        assert report.points == 500


def test_export_takes_the_options_of_the_reconstruction(room, tmp_path):
    result = save(room, tmp_path, drop_percent=60)
    few = qvggt.export(result, tmp_path / "few", "ply").points
    assert few == pytest.approx(0.4 * room.depth.size, rel=0.01)
    many = qvggt.export(result, tmp_path / "many", "ply", FormatOptions(drop_percent=0)).points
    assert many == room.depth.size


def test_export_of_one_frame(room_factory, tmp_path):
    result = save(room_factory(frames=1), tmp_path)
    for kind in FORMATS:
        report = qvggt.export(result, tmp_path / kind, kind, FormatOptions(max_points=100))
        assert report.frames == 1
    colmap = json.loads((tmp_path / "colmap" / "export.json").read_text())
    assert (colmap["points"], colmap["observations"], colmap["cameras"]) == (100, 100, 1)


def test_export_of_a_prediction_in_memory(room, tmp_path):
    report = qvggt.export(room, tmp_path / "scene", "colmap", FormatOptions(resolution="processed"))
    assert report.unit == "model"
    with pytest.raises(QvggtError, match=r"not known.*--images"):
        qvggt.export(room, tmp_path / "other", "colmap")
    assert not (tmp_path / "other").exists()


def test_export_finds_images_that_moved(result, tmp_path):
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(QvggtError, match="photos"):
        qvggt.export(result, tmp_path / "out", "nerfstudio")
    qvggt.export(result, tmp_path / "out", "nerfstudio", images=tmp_path / "elsewhere")
    copied = (tmp_path / "out" / "images" / "room_01.jpg").read_bytes()
    assert copied == (tmp_path / "elsewhere" / "room_01.jpg").read_bytes()


def test_export_writes_masks_for_colmap_and_nerfstudio(room, tmp_path):
    mask = np.ones(room.depth.shape, bool)
    mask[:, :10] = False
    result = save(replace(room, mask=mask), tmp_path)
    for kind in ("colmap", "nerfstudio"):
        report = qvggt.export(result, tmp_path / kind, kind)
        assert [name for name in report.files if name.startswith("masks/")] == [
            f"masks/{name}.png" for name in room.names
        ]


def test_export_shares_one_camera(room, tmp_path):
    intrinsics = room.intrinsics * np.linspace(0.95, 1.05, 4, dtype=np.float32)[:, None, None]
    intrinsics[:, :, 2] = room.intrinsics[:, :, 2]
    result = save(replace(room, intrinsics=intrinsics), tmp_path)
    assert qvggt.export(result, tmp_path / "own", "colmap").cameras == 4
    assert qvggt.export(result, tmp_path / "shared", "colmap", FormatOptions(shared_camera=True)).cameras == 1


def test_export_replaces_only_an_earlier_export(result, tmp_path):
    qvggt.export(result, tmp_path / "out", "colmap", FormatOptions(resolution="processed"))
    with pytest.raises(QvggtError, match="--overwrite"):
        qvggt.export(result, tmp_path / "out", "ply")
    (tmp_path / "out" / "diary.txt").write_text("precious")
    qvggt.export(result, tmp_path / "out", "ply", overwrite=True)
    assert sorted(contents(tmp_path / "out")) == ["diary.txt", "export.json", "points.ply"]


@pytest.mark.parametrize(
    ("missing", "kinds"),
    [
        (("cam_from_world", "intrinsics"), ("colmap", "nerfstudio", "splat", "ply", "trajectory")),
        (("depth", "world_points"), ("colmap", "nerfstudio", "splat", "ply", "depth")),
    ],
)
def test_export_says_which_output_is_missing(room, tmp_path, missing, kinds):
    result = save(replace(room, **dict.fromkeys(missing)), tmp_path)
    for kind in kinds:
        with pytest.raises(QvggtError, match=r"cameras|depth"):
            qvggt.export(result, tmp_path / "out", kind)
        assert not (tmp_path / "out").exists()
    with pytest.raises(QvggtError, match=r"obj.*colmap"):
        qvggt.export(result, tmp_path / "out", "obj")


def test_export_says_that_timestamps_are_frame_numbers(result, tmp_path, caplog):
    assert qvggt.export(result, tmp_path / "one", "trajectory").times == "index"
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    caplog.set_level("WARNING", logger="qvggt")
    assert qvggt.export(result, tmp_path / "two", "trajectory").times == "index"
    assert "numbers of the frames" in caplog.text


def test_export_is_the_verb_whatever_was_imported_before():
    from qvggt.export import write_all
    from qvggt.export.ply import write_ply

    assert callable(write_all)
    assert callable(write_ply)
    assert qvggt.export.__module__ == "qvggt.api.export"
