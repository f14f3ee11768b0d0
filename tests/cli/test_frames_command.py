"""``qvggt frames``: pictures, contact sheet and JSON of the frames of a video."""

import json

import numpy as np
import pytest
from commands import contents
from PIL import Image

from qvggt.images.preprocess import load_images

av = pytest.importorskip("av")


@pytest.fixture
def video(tmp_path):
    """Return a video of 30 frames of 96 x 64 px that pans over smooth colors."""
    y, x = np.mgrid[0:64, 0:400]
    picture = np.stack([128 + 90 * np.sin(x / 5 + k) * np.cos(y / 7 - k) for k in range(3)], -1).astype(np.uint8)
    with av.open(str(tmp_path / "pan.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(30):
            frame = np.ascontiguousarray(picture[:, 8 * index : 8 * index + 96])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return tmp_path / "pan.mp4"


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.usefixtures("full_pictures")
def test_frames_of_a_video(qvggt, video, tmp_path, kind):
    out = tmp_path / "out"
    done = qvggt("frames", video, "-o", out, "--number", 5, "--format", kind, "--json", tmp_path / "figures.json")
    assert done.status == 0, done
    assert "5 of the 30 frames of pan.mp4" in done.out
    document = json.loads((out / "frames.json").read_text())
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["frames"], figures["video_frames"]) == (5, 30)
    assert f"{figures['video_seconds']:.1f} s and {figures['motion_widths']:.1f} widths of motion" in done.out
    assert f"the least sharp has {figures['least_relative_sharpness']:.2f}" in done.out
    files = [frame["file"] for frame in document["frames"]]
    assert [f"images/{path.name}" for path in sorted((out / "images").iterdir())] == files
    for frame in document["frames"]:
        assert frame["time_s"] == pytest.approx(frame["number"] / 10)
        assert f"_{frame['number']:02d}_" in frame["file"]
        with Image.open(out / frame["file"]) as image:
            assert (image.format, image.size) == (kind.upper(), (96, 64))
    assert len(document["measured"]["motion_widths"]) == 30
    pictures = load_images(out / "images")
    originals = load_images(video)
    assert len(pictures.names) == 5
    assert originals.images.shape[1:] == pictures.images.shape[1:]
    with Image.open(out / "contact.png") as sheet:
        assert sheet.width > 500


def test_equal_runs_write_equal_bytes(qvggt, video, tmp_path):
    for name in ("first", "second"):
        assert qvggt("frames", video, "-o", tmp_path / name, "--number", 3).status == 0
    first, second = (
        {path[len(str(folder)) :]: digest for path, digest in contents(folder).items()}
        for folder in (tmp_path / "first", tmp_path / "second")
    )
    assert first == second


def test_what_is_no_video_is_refused(refused, photos, tmp_path):
    assert "does not exist" in refused("frames", tmp_path / "none.mp4", "-o", tmp_path / "out")
    assert "p0.jpg" in refused("frames", photos / "p0.jpg", "-o", tmp_path / "out", within=photos)
    assert "at least 1" in refused("frames", tmp_path / "none.mp4", "-o", tmp_path / "out", "--number", 0)
