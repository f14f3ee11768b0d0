"""Camera raw files: the sensor's picture, never the thumbnail, or one sentence."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qvggt.images.decode import read_image, read_picture
from qvggt.images.preprocess import load_images
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

SMALL = ImageOptions(size=56)
SENSOR = np.array([[30000, 8000], [4000, 16000]])
"""Levels of the four quarters of the sensor, of 65535."""


def directory(entries: dict[int, tuple[int, list[int]]], offset: int) -> bytes:
    """A TIFF directory to be placed at ``offset``; entries are tag: (type, values)."""
    body, extra = struct.pack("<H", len(entries)), b""
    after = offset + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        data = struct.pack("<" + {1: "B", 3: "H", 4: "I", 5: "I", 10: "i"}[kind] * len(values), *values)
        count = len(values) // 2 if kind in (5, 10) else len(values)
        if len(data) > 4:
            body += struct.pack("<HHII", tag, kind, count, after + len(extra))
            extra += data + b"\0" * (len(data) % 2)
        else:
            body += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
    return body + bytes(4) + extra


def write_dng(path: Path, orientation: int = 1, version: bool = True) -> Path:
    """A DNG whose first page is a white thumbnail of 32 x 24 and whose sensor has 128 x 96 gray pixels."""
    thumbnail = b"\xff" * (32 * 24 * 3)
    sensor = SENSOR.repeat(48, 0).repeat(64, 1).astype("<u2").tobytes()
    sensor_at = 8 + len(thumbnail)
    first = sensor_at + len(sensor)
    small: dict[int, tuple[int, list[int]]] = {
        254: (4, [1]), 256: (4, [32]), 257: (4, [24]), 258: (3, [8, 8, 8]), 259: (3, [1]), 262: (3, [2]), 273: (4, [8]),
        274: (3, [orientation]), 277: (3, [3]), 278: (4, [24]), 279: (4, [len(thumbnail)]), 330: (4, [0]),
        50721: (10, [3, 1, -1, 1, 0, 1, -1, 1, 2, 1, 0, 1, 0, 1, 0, 1, 1, 1]), 50728: (5, [1, 1, 1, 1, 1, 1]),
    }  # fmt: skip
    if version:
        small |= {50706: (1, [1, 4, 0, 0]), 50707: (1, [1, 1, 0, 0])}
    second = first + len(directory(small, first))
    small[330] = (4, [second])
    full: dict[int, tuple[int, list[int]]] = {
        254: (4, [0]), 256: (4, [128]), 257: (4, [96]), 258: (3, [16]), 259: (3, [1]), 262: (3, [32803]),
        273: (4, [sensor_at]), 277: (3, [1]), 278: (4, [96]), 279: (4, [len(sensor)]), 33421: (3, [2, 2]),
        33422: (1, [0, 1, 1, 2]), 50717: (4, [65535]),
    }  # fmt: skip
    head = struct.pack("<2sHI", b"II", 42, first)
    path.write_bytes(head + thumbnail + sensor + directory(small, first) + directory(full, second))
    return path


def levels(image: Image.Image) -> np.ndarray:
    """Mean level of the middle of each quarter."""
    pixels = np.asarray(image).astype(float).mean(-1)
    h, w = pixels.shape
    return np.array([[pixels[y * h // 8, x * w // 8] for x in (2, 6)] for y in (2, 6)])


def srgb(linear: np.ndarray) -> np.ndarray:
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("name", ["IMG_1.dng", "IMG_1.jpg", "IMG_1.tif", "noending"])
def test_read_image__a_raw_file_is_developed_whatever_its_name(tmp_path, name):
    pytest.importorskip("rawpy")
    image = read_image(write_dng(tmp_path / name))
    assert image.size == (128, 96)
    found = levels(image)
    np.testing.assert_allclose(found, srgb(SENSOR / 65535), atol=12)


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_read_image__a_raw_file_is_upright(tmp_path, orientation, turns):
    pytest.importorskip("rawpy")
    plain = levels(read_image(write_dng(tmp_path / "a.dng")))
    turned = levels(read_image(write_dng(tmp_path / "b.dng", orientation)))
    np.testing.assert_allclose(turned, np.rot90(plain, turns), atol=3)


def test_read_picture__a_raw_file_under_a_memory_limit_is_halved(tmp_path, caplog):
    pytest.importorskip("rawpy")
    path = write_dng(tmp_path / "a.dng")
    whole = 128 * 96 * 14
    picture = read_picture(path, "a", max_bytes=whole // 2)
    assert (picture.image.size, picture.size) == ((64, 48), (128, 96))
    assert "memory" in caplog.text
    np.testing.assert_allclose(levels(picture.image), levels(read_image(path)), atol=6)
    with pytest.raises(QvggtError, match="memory limit"):
        read_picture(path, "a", max_bytes=whole // 5)


@pytest.mark.parametrize("name", ["IMG_1.dng", "IMG_1.jpg"])
def test_read_image__without_rawpy_the_extra_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(QvggtError, match=r'raw file.*pip install "qvggt\[raw\]"'):
        read_image(write_dng(tmp_path / name))


def test_load_images__raw_files_of_a_folder(tmp_path, monkeypatch, caplog):
    write_dng(tmp_path / "b.DNG")
    Image.new("RGB", (128, 96)).save(tmp_path / "a.png")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "rawpy", None)
        assert load_images(tmp_path, SMALL).names == ("a.png",)
        assert 'pip install "qvggt[raw]"' in caplog.text
    pytest.importorskip("rawpy")
    images = load_images(tmp_path, SMALL)
    assert images.names == ("a.png", "b.DNG")
    assert images.maps[1].original_size == (128, 96)


def test_load_images__a_raw_file_beside_its_jpeg_is_the_same_photograph(tmp_path, caplog):
    write_dng(tmp_path / "IMG_1.dng")
    write_dng(tmp_path / "IMG_2.dng")
    for index in (1, 2):
        Image.new("RGB", (64, 48)).save(tmp_path / f"IMG_{index}.jpg")
    assert load_images(tmp_path, SMALL).names == ("IMG_1.jpg", "IMG_2.jpg")
    assert "skipped 2 camera raw files" in caplog.text


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a.cr2", b"II*\0\x10\0\0\0CR\2\0"),
        ("a.jpg", b"II*\0\x10\0\0\0CR\2\0"),
        ("a.jpg", b"\0\0\0\x18ftypcrx \0\0\0\1"),
        ("a.jpg", b"FUJIFILMCCD-RAW 0201"),
        ("a.tif", b"IIRO\x08\0\0\0"),
        ("a.nef", b"MM\0*\0\0\0\x08\0\0"),
        ("a.mrw", b"something unknown"),
    ],
)
def test_read_image__damaged_raw_files_of_all_makers_are_refused_in_a_sentence(tmp_path, name, head):
    (tmp_path / name).write_bytes(head + bytes(2000))
    with pytest.raises(QvggtError, match="raw file") as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_read_image__a_sensor_directory_without_a_dng_version_is_raw_too(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(QvggtError, match="raw file"):  # as Sony's, Nikon's and Pentax's files
        read_image(write_dng(tmp_path / "a.tif", version=False))


def test_read_image__other_images_with_a_raw_ending_are_read_by_content(tmp_path):
    Image.new("RGB", (8, 6), (10, 20, 30)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.dng")
    assert read_image(tmp_path / "a.dng").getpixel((0, 0)) == (10, 20, 30)


def test_read_image__a_tiff_with_its_thumbnail_first_gives_the_full_page(tmp_path):
    thumbnail = Image.new("RGB", (16, 12), (255, 255, 255))
    full = Image.new("RGB", (64, 48), (10, 20, 30))
    thumbnail.save(tmp_path / "a.tif", save_all=True, append_images=[full], tiffinfo={254: 1})
    data = (tmp_path / "a.tif").read_bytes()
    with Image.open(tmp_path / "a.tif") as both:
        both.seek(1)
        if both.tag_v2.get(254):  # Pillow gives every page the same type
            entry = struct.pack("<HHII", 254, 4, 1, 1)
            last = data.rindex(entry)
            (tmp_path / "a.tif").write_bytes(data[:last] + struct.pack("<HHII", 254, 4, 1, 0) + data[last + 12 :])
    assert read_image(tmp_path / "a.tif").getpixel((0, 0)) == (10, 20, 30)
