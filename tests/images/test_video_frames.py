"""Frames as a player shows them: geometry and colors, on every version of PyAV that the bound allows."""

from __future__ import annotations

import fractions
import struct
from pathlib import Path

import numpy as np
import pytest
from test_color import pq

from qvggt.images.video import choose_times, read_video
from qvggt.images.video_frames import oriented, square_pixels

av = pytest.importorskip("av")

CORNERS = {"tl": (220, 30, 30), "tr": (30, 200, 40), "bl": (40, 60, 220), "br": (230, 220, 40)}
MATRICES = {"601": (0.299, 0.114, 5), "709": (0.2126, 0.0722, 1), "2020": (0.2627, 0.0593, 9)}
"""Weights of red and blue in luma, and the number of the matrix in H.273."""


def quarters(width: int = 64, height: int = 48) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    y, x = height // 2, width // 2
    image[:y, :x], image[:y, x:], image[y:, :x], image[y:, x:] = (CORNERS[key] for key in ("tl", "tr", "bl", "br"))
    return image


def corners(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    places = [(y * height // 4, x * width // 4) for y in (1, 3) for x in (1, 3)]
    return " ".join(
        min(CORNERS, key=lambda key: np.abs(image[place].astype(int) - CORNERS[key]).sum()) for place in places
    )


def encode(path: Path, frames: list, codec: str = "mpeg4", aspect: float | None = None, **options) -> Path:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = frames[0].format.name if codec == "ffv1" else "yuv420p"
        stream.bit_rate = 8_000_000
        stream.codec_context.colorspace = frames[0].colorspace
        stream.codec_context.color_range = frames[0].color_range
        if aspect:
            stream.codec_context.sample_aspect_ratio = fractions.Fraction(aspect).limit_denominator(100)
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rgb_frames(count: int = 3, size: tuple[int, int] = (64, 48)) -> list:
    return [av.VideoFrame.from_ndarray(quarters(*size), format="rgb24") for _ in range(count)]


def first(path: Path) -> np.ndarray:
    return np.asarray(next(iter(read_video(path, frames=1)))[1])


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), "tl tr bl br"),
        ((0, 1, -1, 0), "bl tl br tr"),  # a quarter turn clockwise
        ((-1, 0, 0, -1), "br bl tr tl"),
        ((0, -1, 1, 0), "tr br tl bl"),
        ((-1, 0, 0, 1), "tr tl br bl"),  # mirrored, as front cameras do
        ((1, 0, 0, -1), "bl br tl tr"),
        ((0, 1, 1, 0), "tl bl tr br"),
        ((0, -1, -1, 0), "br tr bl tl"),
    ],
)
def test_read_video__the_display_matrix_turns_and_mirrors(tmp_path, matrix, shown):
    data = bytearray(encode(tmp_path / "a.mp4", rgb_frames()).read_bytes())
    a, b, c, d = matrix
    start = data.index(b"tkhd") + 4 + 40  # the matrix of a version 0 track header
    data[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(bytes(data))
    image = first(tmp_path / "a.mp4")
    assert corners(image) == shown
    assert image.shape == ((64, 48, 3) if a == 0 else (48, 64, 3))
    assert corners(oriented(quarters(), matrix)) == shown


@pytest.mark.parametrize(
    ("aspect", "size"), [(4 / 3, (85, 48)), (16 / 15, (68, 48)), (0.5, (64, 96)), (None, (64, 48))]
)
@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_read_video__pixels_become_square(tmp_path, ending, aspect, size):
    image = first(encode(tmp_path / f"a.{ending}", rgb_frames(), aspect=aspect))
    assert image.shape[1::-1] == size
    assert corners(image) == "tl tr bl br"


def test_square_pixels__an_absurd_aspect_is_ignored():
    assert square_pixels((64, 48), 1000) == (64, 48)
    assert square_pixels((64, 48), 0) == (64, 48)


def coded(rgb: tuple[float, ...], matrix: str, full: bool, bits: int = 8) -> list[int]:
    """Y, Cb and Cr of a color in 0..1 by the definition of the standard."""
    kr, kb, _ = MATRICES[matrix]
    r, g, b = rgb
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr, scale = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr)), 2 ** (bits - 8)
    if full:
        return [round(y * (2**bits - 1)), *(round(c * (2**bits - 1) + 128 * scale) for c in (cb, cr))]
    return [round((16 + 219 * y) * scale), *(round((128 + 224 * c) * scale) for c in (cb, cr))]


def flat(rgb: tuple[float, ...], matrix: str, full: bool, height: int = 48, bits: int = 8) -> list:
    kind = "yuv420p" if bits == 8 else "yuv420p10le"
    frames = []
    for _ in range(2):
        frame = av.VideoFrame(64, height, kind)
        for plane, value in zip(frame.planes, coded(rgb, matrix, full, bits), strict=True):
            plane.update(np.full(plane.buffer_size // (1 if bits == 8 else 2), value, "u1" if bits == 8 else "<u2"))
        frame.colorspace, frame.color_range = MATRICES[matrix][2], 2 if full else 1
        frames.append(frame)
    return frames


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_read_video__matrix_and_range(tmp_path, ending, matrix, full):
    color = (200 / 255, 60 / 255, 30 / 255)
    codec = "ffv1" if ending == "mkv" else "libx264"
    image = first(encode(tmp_path / f"a.{ending}", flat(color, matrix, full), codec))
    np.testing.assert_allclose(image[20, 20], np.array(color) * 255, atol=3)


@pytest.mark.parametrize(("height", "matrix"), [(480, "601"), (720, "709")])
def test_read_video__unmarked_colors_are_those_of_the_size(tmp_path, height, matrix):
    frames = flat((200 / 255, 60 / 255, 30 / 255), matrix, False, height)
    for frame in frames:
        frame.colorspace, frame.color_range = 2, 0
    image = first(encode(tmp_path / "a.mkv", frames, "ffv1"))
    np.testing.assert_allclose(image[20, 20], (200, 60, 30), atol=3)


@pytest.mark.parametrize(("transfer", "name", "white"), [(16, "PQ", pq(203)), (18, "HLG", 0.75)])
def test_read_video__hdr_is_tone_mapped_with_a_word(tmp_path, caplog, transfer, name, white):
    frames = flat((white,) * 3, "2020", False, bits=10)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        stream.codec_context.colorspace, stream.codec_context.color_range = 9, 1
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, 9
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    image = first(path)
    assert 215 <= image[20, 20, 1] <= 235
    assert np.ptp(image[20, 20].astype(int)) <= 2
    assert f"HDR ({name})" in caplog.text


def test_read_video__the_largest_stream_is_shown(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [(container.add_stream("mpeg4", rate=10), size) for size in ((16, 16), (64, 48))]
        for stream, size in streams:
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for stream, size in streams:
            for frame in rgb_frames(3, size):
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    assert first(path).shape == (48, 64, 3)


def test_read_video__a_cover_picture_is_not_the_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        cover, film = container.add_stream("mjpeg", rate=10), container.add_stream("mpeg4", rate=10)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = type(cover.disposition).attached_pic.value
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        for stream, size, count in ((cover, (640, 480), 1), (film, (64, 48), 3)):
            for frame in rgb_frames(count, size):
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    assert len(list(read_video(path))) == 3
    assert first(path).shape == (48, 64, 3)


# Which frames, and files cut short


def test_choose_times__frames_are_spread_by_time_where_the_rate_varies():
    times = [index / 100 for index in range(100)] + [1.0 + index for index in range(10)]
    assert choose_times(times, None, 4) == [0.0, 3.0, 6.0, 9.0] or choose_times(times, None, 4)[1] >= 2
    chosen = choose_times(times, None, 11)
    gaps = np.diff(chosen)
    assert len(set(chosen)) == 11
    assert gaps.max() <= 1.1  # by number, nine of eleven frames would lie in the first second
    assert choose_times(times, None, 110) == times


def test_choose_times__many_frames_of_a_burst_stay_distinct_and_in_order():
    times = [0.0, 0.001, 0.002, 0.003, 10.0]
    assert choose_times(times, None, 4) in ([0.0, 0.001, 0.002, 10.0], [0.0, 0.002, 0.003, 10.0])
    assert choose_times(times, None, 1) == [0.0]


def long_film(path: Path, **options) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
    return encode(path, [av.VideoFrame.from_ndarray(image, format="rgb24") for image in noise], **options)


@pytest.mark.parametrize(("ending", "options"), [("mp4", {"movflags": "faststart"}), ("mkv", {}), ("avi", {})])
def test_read_video__a_cut_file_is_named_as_cut_and_gives_what_is_left(tmp_path, caplog, ending, options):
    path = long_film(tmp_path / f"a.{ending}", **options)
    assert len(list(read_video(path, frames=4))) == 4
    assert not caplog.records
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    assert len(list(read_video(path, frames=4))) == 4
    assert "cut short" in caplog.text
    assert "40 %" in caplog.text or "45 %" in caplog.text or "35 %" in caplog.text


def test_read_video__a_cut_mp4_whose_index_was_at_the_end(tmp_path):
    from qvggt.types import QvggtError

    path = long_film(tmp_path / "a.mp4")
    data = path.read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(QvggtError, match="cut short"):
        list(read_video(path))
