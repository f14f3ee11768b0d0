"""Depth as floats: NumPy and OpenEXR read back the same values."""

import json
from dataclasses import replace

import numpy as np
import pytest

from qvggt.export.depth_arrays import write_depth_arrays
from qvggt.types import FrameMap, QvggtError


def load(path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    with pytest.importorskip("OpenEXR").File(str(path)) as file:
        return file.channels()["Y"].pixels


@pytest.mark.parametrize("kind", ["npy", "exr"])
def test_write_depth_arrays_keep_float32_and_mark_what_has_no_depth(room, tmp_path, kind):
    if kind == "exr":
        pytest.importorskip("OpenEXR")
    padded = replace(room, maps=(FrameMap((400, 420), (0.1, 0.1), (8.0, 0.0)), *room.maps[1:]))
    written = write_depth_arrays(tmp_path / "depth", padded, kind, "meter")
    document = json.loads((tmp_path / "depth" / "scale.json").read_text())
    assert document["unit"] == "meter"
    assert [frame["depth"] for frame in document["frames"]] == [path.name for path in written[:-1]]
    for path, depth in zip(written[1:], room.depth[1:], strict=False):
        np.testing.assert_array_equal(load(path), depth)
    first = load(written[0])
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first[:, 8:48], room.depth[0][:, 8:48])
    assert not first[:, :8].any()
    assert not first[:, 48:].any()
    before = {path.name: path.read_bytes() for path in written}
    write_depth_arrays(tmp_path / "again", padded, kind, "meter")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}


def test_write_depth_arrays_without_depth(room, tmp_path):
    with pytest.raises(QvggtError, match="no depth"):
        write_depth_arrays(tmp_path, replace(room, depth=None), "npy")
