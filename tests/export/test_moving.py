import io
import sys

import numpy as np
import pytest
from PIL import Image

from qvggt.export.moving import moving_kind, moving_picture
from qvggt.types import QvggtError

GRAYS = [np.full((90, 160, 3), 20 * index, np.uint8) for index in range(6)]


def test_an_mp4_has_every_picture():
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(moving_picture(GRAYS, "mp4"))) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert [frame.shape for frame in frames] == [(90, 160, 3)] * 6
    np.testing.assert_allclose([frame.mean() for frame in frames], [20 * index for index in range(6)], atol=3)


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_a_gif_or_webp_has_every_picture_and_is_endless(kind):
    picture = Image.open(io.BytesIO(moving_picture(iter(GRAYS), kind)))
    assert (picture.format, picture.n_frames, picture.size, picture.info["loop"]) == (kind.upper(), 6, (160, 90), 0)
    for index in range(6):
        picture.seek(index)
        assert abs(np.asarray(picture.convert("RGB"), int).mean() - 20 * index) < 4
        assert picture.info["duration"] == pytest.approx(83, abs=3)  # GIFs count in hundredths of a second


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp"])
def test_equal_pictures_give_equal_bytes(kind):
    if kind == "mp4":
        pytest.importorskip("av")
    assert moving_picture(GRAYS, kind) == moving_picture(GRAYS, kind)


def test_the_ending_names_the_kind(monkeypatch):
    assert moving_kind("a/b.GIF") == "gif"
    assert moving_kind("b.webp") == "webp"
    for name in ("b.avi", "gif", "b"):
        with pytest.raises(QvggtError, match=r"\.mp4, \.gif or \.webp"):
            moving_kind(name)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(QvggtError, match=r"qvggt\[video\]"):
        moving_kind("b.mp4")
