"""Frames of videos that the tests encode: which are taken, which way is up, what fails and how."""

from __future__ import annotations

import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.images import video
from qvggt.images.preprocess import load_images
from qvggt.images.video import choose_times, read_video
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

av = pytest.importorskip("av")


def encode(path: Path, count: int, rate: int = 10, size: tuple[int, int] = (64, 48)) -> Path:
    """A video whose frame ``i`` has brightness 10 i, and a red upper left quarter."""
    with av.open(str(path), "w") as container:
        codec = {".avi": "mpeg4", ".webm": "libvpx"}.get(path.suffix, "mpeg4")
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for index in range(count):
            picture = np.full((size[1], size[0], 3), 10 * index, np.uint8)
            picture[: size[1] // 2, : size[0] // 2] = (250, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def taken(source: Path, **options) -> list[int]:
    """Numbers of the frames, as the names say, after checking that the pixels say the same."""
    result = load_images(source, ImageOptions(size=56, **options))
    numbers = [int(name.rpartition("#")[2]) for name in result.names]
    brightness = result.images[:, 1, -8:, -8:].mean(axis=(1, 2)) * 255
    np.testing.assert_allclose(brightness, np.array(numbers) * 10, atol=5)
    assert result.names[0] == f"{source.name}#0"
    return numbers


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "mov", "webm"])
def test_a_number_of_frames_is_evenly_spread(tmp_path, ending):
    path = encode(tmp_path / f"film.{ending}", 21)
    assert taken(path, frames=5) == [0, 5, 10, 15, 20]
    assert taken(path, frames=1) == [0]
    assert taken(path, frames=100) == list(range(21))
    assert len(taken(path)) == 16  # the default


def test_the_number_of_frames_taken_is_logged(tmp_path, caplog):
    path = encode(tmp_path / "film.mp4", 21)
    with caplog.at_level("INFO"):
        list(read_video(path, frames=5))
    assert [record.message for record in caplog.records] == [f"taking 5 of the 21 frames of {str(path)!r}"]


def test_frames_per_second(tmp_path):
    path = encode(tmp_path / "film.mp4", 21, rate=10)
    assert taken(path, fps=2) == [0, 5, 10, 15, 20]
    assert taken(path, fps=10) == list(range(21))
    assert taken(path, fps=1000) == list(range(21))
    assert taken(path, fps=0.01) == [0]
    assert taken(path, fps=2, frames=3) == [0, 10, 20]
    rounded = encode(tmp_path / "film.mkv", 21, rate=30)  # Matroska keeps whole milliseconds
    assert taken(rounded, fps=30) == list(range(21))
    assert taken(rounded, fps=15) == list(range(0, 21, 2))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.floats(1, 120), st.floats(0.1, 240), st.integers(1, 50) | st.none())
def test_chosen_times_are_frames_of_the_video_in_order(count, rate, fps, frames):
    times = [index / rate for index in range(count)]
    chosen = choose_times(times, fps, frames)
    assert chosen[0] == 0
    assert set(chosen) <= set(times)
    assert all(a < b for a, b in pairwise(chosen))
    assert len(chosen) <= (frames or count)
    if frames is None:
        assert len(chosen) <= (times[-1] + 1e-3) * fps + 1


def turn(path: Path, degrees: int) -> None:
    """Writes into an MP4 file that its picture is to be shown turned clockwise, as a phone does."""
    data = bytearray(path.read_bytes())
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    start = data.index(b"tkhd") + 4 + 40  # the matrix of a version 0 track header
    data[start : start + 36] = matrix
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_rotation_metadata_turns_the_frames(tmp_path, degrees, corner):
    path = encode(tmp_path / "film.mp4", 2)
    turn(path, degrees)
    _, image = next(iter(read_video(path, frames=1)))
    assert image.size == ((48, 64) if degrees != 180 else (64, 48))
    pixels = np.asarray(image).astype(int)
    corners = {(row, column): pixels[row, column, 0] for row in (0, -1) for column in (0, -1)}
    assert max(corners, key=lambda place: corners[place]) == corner


def sentence(source: object, **options) -> str:
    with pytest.raises(QvggtError) as caught:
        load_images(source, ImageOptions(size=56, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_frames_no_video_and_no_sense(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert "no video stream" in sentence(tmp_path / "sound.mp4")
    (tmp_path / "text\n.mp4").write_text("no film" * 100)
    assert "cannot be read as a video" in sentence(tmp_path / "text\n.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert "cannot be read as a video" in sentence(tmp_path / "empty.mp4")
    assert "does not exist" in sentence(tmp_path / "none.mp4")


def test_read_video__an_unknown_codec_is_named(tmp_path):
    path = encode(tmp_path / "film.mkv", 2)
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4", b"V_OTHER"))
    assert "codec" in sentence(path)


def test_zero_frames(tmp_path):
    encode(tmp_path / "none.avi", 0)
    assert "none.avi" in sentence(tmp_path / "none.avi")


def test_a_film_cut_short_gives_what_is_left(tmp_path, caplog):
    path = encode(tmp_path / "film.avi", 21, size=(320, 240))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    numbers = taken(path, frames=4)
    assert len(numbers) == 4
    assert numbers[-1] < 20
    path.write_bytes(data[:2000])
    sentence(path)


def test_frames_that_cannot_be_decoded_cost_only_themselves(tmp_path):
    path = encode(tmp_path / "film.avi", 21, size=(320, 240))
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 256, len(data) // 4).astype(np.uint8).tobytes()
    data[len(data) // 2 : len(data) // 2 + len(noise)] = noise
    path.write_bytes(bytes(data))
    assert 1 <= len(load_images(path, ImageOptions(size=56, frames=8)).names) <= 8


LIMITED = """
import json, sys
from qvggt.images.preprocess import load_images
from qvggt.inference.process_memory import peak_memory_bytes, resident_memory_bytes
from qvggt.options import ImageOptions

before = resident_memory_bytes()
load_images(sys.argv[1], ImageOptions(56), lambda: int(sys.argv[2]))
print(peak_memory_bytes() - before)
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process")
def test_read_video__4k_stays_within_the_memory_that_is_left(tmp_path):
    path, left = encode(tmp_path / "film.mp4", 6, size=(3840, 2160)), 240_000_000
    done = subprocess.run([sys.executable, "-c", LIMITED, path, str(left)], capture_output=True, text=True, check=True)
    assert 100_000_000 < int(done.stdout) < left
    with pytest.raises(QvggtError, match=r"film\.mp4' needs 211 MB to decode"):
        load_images(path, ImageOptions(56), lambda: 10**8)


def test_read_video__a_limit_changes_the_number_of_threads_and_nothing_else(tmp_path, monkeypatch):
    path = encode(tmp_path / "film.mp4", 21)
    monkeypatch.setattr(video, "_DECODER_BYTES", 0)
    free = load_images(path, ImageOptions(56))
    close = load_images(path, ImageOptions(56), lambda: 20 * 64 * 48)
    np.testing.assert_array_equal(close.images, free.images)
    assert close.names == free.names


def test_a_video_among_images_and_a_rate_without_a_video(tmp_path):
    path = encode(tmp_path / "film.mp4", 2)
    assert "give it alone" in sentence([path, path])
    assert load_images([path], ImageOptions(size=56)).names == ("film.mp4#0", "film.mp4#1")
    assert load_images(str(tmp_path / "f*"), ImageOptions(size=56, frames=1)).names == ("film.mp4#0",)
    assert "video only" in sentence([np.zeros((4, 4), np.uint8)], fps=1)


def test_without_its_library_the_extra_is_named(tmp_path, monkeypatch):
    path = encode(tmp_path / "film.mp4", 1)
    monkeypatch.setitem(sys.modules, "av", None)
    assert 'pip install "qvggt[video]"' in sentence(path)
