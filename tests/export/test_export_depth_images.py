import json
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qvggt.export.depth_images import DepthRange, safe_names, stored_per_unit, write_depth_images
from qvggt.types import FrameMap, QvggtError


def test_depth_reads_back_within_half_a_step(room, tmp_path):
    written = write_depth_images(tmp_path / "depth", room)
    document = json.loads((tmp_path / "depth" / "scale.json").read_text())
    assert {p.name for p in written} == {p.name for p in (tmp_path / "depth").iterdir()}
    assert tuple(frame["name"] for frame in document["frames"]) == room.names
    scale = document["stored_per_unit"]
    for i, frame in enumerate(document["frames"]):
        image = Image.open(tmp_path / "depth" / frame["depth"])
        assert image.mode == "I;16"
        assert float(image.text["stored_per_unit"]) == scale
        np.testing.assert_allclose(np.asarray(image) / scale, room.depth[i], atol=0.51 / scale)
        preview = Image.open(tmp_path / "depth" / frame["preview"])
        assert (preview.mode, preview.size) == ("RGB", (56, 42))


def test_padding_and_what_is_not_finite_are_zero(room, tmp_path):
    depth = room.depth.copy()
    depth[0, 20, 30:33] = np.nan, np.inf, -1
    maps = (FrameMap((56, 30), (1.0, 1.0), (0.0, 6.0)), *room.maps[1:])
    write_depth_images(tmp_path, replace(room, depth=depth, maps=maps))
    stored = np.asarray(Image.open(tmp_path / "room_01.png"))
    assert (stored[:6] == 0).all()
    assert (stored[36:] == 0).all()
    assert (stored[20, 30:33] == 0).all()
    assert (stored[6:20] > 0).all()


def test_tiny_depths_are_not_taken_for_none(room, tmp_path):
    depth = room.depth.copy()
    depth[0, 0, :2] = 1e-9, 4e4
    write_depth_images(tmp_path, replace(room, depth=depth))
    assert np.asarray(Image.open(tmp_path / "room_01.png"))[0, :2].tolist() == [1, 40000]


@settings(max_examples=100, deadline=None)
@given(largest=st.floats(1e-6, 1e9))
def test_the_scale_uses_its_16_bits(largest):
    scale = stored_per_unit(largest)
    assert 65535 * 0.39 < largest * scale <= 65535


def test_no_depth_at_all_is_refused_and_all_bad_depth_is_black(room, tmp_path):
    with pytest.raises(QvggtError, match="depth head"):
        write_depth_images(tmp_path, replace(room, depth=None))
    write_depth_images(tmp_path, replace(room, depth=np.full_like(room.depth, np.nan)))
    assert not np.asarray(Image.open(tmp_path / "room_01.png")).any()


def test_near_is_warm_and_far_is_cool():
    near, far = DepthRange(1.0, 5.0).colors(np.array([1.0, 5.0]), np.array([True, True])).astype(int)
    assert near[0] > near[2]
    assert far[2] > far[0]


def test_names_stay_recognizable():
    names = ["IMG 1.JPG", "video.mp4#12", "a/b.png", "ünï–ço\nde.heic", "CON.png", "..", "IMG_1.png", "IMG_2.CR2"]
    expected = ("IMG_1", "video.mp4_12", "a_b", "ünï_ço_de", "_CON", "frame", "IMG_1-2", "IMG_2")
    assert safe_names(names) == expected


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.text(max_size=20) | st.sampled_from(["a", "A.png", "a_preview", "a.jpg", "x" * 300]), max_size=9)
)
def test_names_are_safe_and_never_collide(names):
    stems = safe_names(names)
    files = [unicodedata.normalize("NFKC", f).casefold() for s in stems for f in (f"{s}.png", f"{s}_preview.png")]
    assert len(set(files)) == 2 * len(names)
    for stem in stems:
        assert stem
        assert not stem.startswith((".", "-"))
        assert not set(stem) & set('/\\:*?"<>|\0\n$ ')
        assert len(f"{stem}_preview.png".encode()) <= 200
