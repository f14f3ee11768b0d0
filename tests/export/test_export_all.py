import errno
from dataclasses import replace

import pytest
import trimesh

from qvggt.export import write_all
from qvggt.options import ExportOptions
from qvggt.types import QvggtError

pytestmark = [pytest.mark.render, pytest.mark.usefixtures("coarse_pages")]


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_written_and_named(room, tmp_path):
    (tmp_path / "new" / "out").mkdir(parents=True)
    (tmp_path / "new" / "out" / "points.ply").write_text("of another run, to be replaced")
    written = write_all(room, tmp_path / "new" / "out", ExportOptions(max_points=1000), caption="4 bits")
    assert set(written) == names(tmp_path / "new" / "out")
    assert {"points.ply", "scene.glb", "cameras.json", "overview.png", "depth/scale.json"} < set(written)
    assert all(path == tmp_path / "new" / "out" / name for name, path in written.items())
    assert len(trimesh.load(written["points.ply"]).vertices) == 1000


def test_heads_that_were_not_run_leave_their_files_out(room, tmp_path):
    camera_only = replace(room, depth=None, depth_conf=None, world_points=None, world_points_conf=None)
    assert set(write_all(camera_only, tmp_path / "a")) == {"scene.glb", "cameras.json", "overview.png"}
    point_only = replace(room, depth=None, depth_conf=None, cam_from_world=None, intrinsics=None)
    written = write_all(point_only, tmp_path / "b", ExportOptions(points_from="head"))
    assert set(written) == {"points.ply", "scene.glb", "overview.png"}


def test_the_wrong_source_of_points_is_an_error_and_not_a_guess(room, tmp_path):
    with pytest.raises(QvggtError, match="point head"):
        write_all(replace(room, world_points=None), tmp_path, ExportOptions(points_from="head"))


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(room, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(QvggtError, match="disk is full"):
        write_all(room, tmp_path)
    assert names(tmp_path) == set()
