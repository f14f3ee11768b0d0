"""Rendered images are told from photographs by a mark in their files."""

import numpy as np
import pytest
from PIL import Image

from qvggt.images.rendered import has_photographs, save_rendered
from qvggt.weights.pretrained import SAMPLE_SCENE


@pytest.fixture
def image():
    return Image.fromarray(np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3))


@pytest.mark.parametrize(("name", "quality"), [("a.png", None), ("a.jpg", 90)])
def test_the_mark_changes_no_pixel_and_is_found(image, tmp_path, name, quality):
    plain, marked = tmp_path / f"plain-{name}", tmp_path / "rendered" / name
    marked.parent.mkdir()
    image.save(plain, **({} if quality is None else {"quality": quality}))
    save_rendered(image, marked, quality)
    np.testing.assert_array_equal(Image.open(marked), Image.open(plain))
    assert has_photographs(plain)
    assert not has_photographs(marked)
    assert not has_photographs(marked.parent)
    assert not has_photographs([str(marked), str(tmp_path / "rendered" / "*")])
    assert has_photographs([marked, plain])
    assert has_photographs(str(tmp_path / "*.*"))


def test_arrays_and_files_that_cannot_be_opened_count_for_nothing(image, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    assert not has_photographs([np.asarray(image), image])
    assert not has_photographs(np.zeros((2, 8, 8, 3), np.uint8))
    for missing in (tmp_path, tmp_path / "none.jpg", tmp_path / "*.png", "a\0b.png", ""):
        assert not has_photographs(missing)


def test_videos_and_camera_raw_files_are_photographs(tmp_path):
    for name in ("walk.mp4", "raw.dng"):
        (tmp_path / name).write_bytes(b"whatever is in it")
        assert has_photographs(tmp_path / name)


def test_the_sample_scene_is_rendered():
    assert not has_photographs(SAMPLE_SCENE)
