"""Images of more than 8 bits: white is where the file or the whole set of images says."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qvggt.images.decode import array_as_rgb, read_image
from qvggt.images.deep import white_for
from qvggt.images.preprocess import load_images
from qvggt.options import ImageOptions

SMALL = ImageOptions(size=56)


def ramp(largest: int, channels: int = 1) -> np.ndarray:
    values = np.linspace(0, largest, 32 * 64 * channels).round().astype(np.uint16)
    return values.reshape(32, 64, channels) if channels > 1 else values.reshape(32, 64)


def save_color(path: Path, values: np.ndarray) -> None:
    """Write a 16-bit color PNG or an uncompressed TIFF of either byte order, which Pillow does not."""
    height, width, channels = values.shape
    if path.suffix == ".png":
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        body = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        return
    order = ">" if path.name.startswith("big") else "<"
    tags = {256: width, 257: height, 258: 190, 259: 1, 262: 2, 273: 200, 277: channels, 278: height, 279: values.nbytes}
    kinds = {258: (3, channels)}
    entries = b"".join(struct.pack(f"{order}HHII", t, *kinds.get(t, (4, 1)), v) for t, v in tags.items())
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HIH", 42, 8, len(tags)) + entries + bytes(4)
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    path.write_bytes(head.ljust(190, b"\0") + bits.ljust(10, b"\0") + values.astype(f"{order}u2").tobytes())


@pytest.mark.parametrize(("peak", "white"), [(255, 255), (1000, 1023), (4095, 4095), (4096, 16383), (16384, 65535)])
def test_white_for__is_that_of_the_fewest_usual_bits(peak, white):
    assert white_for(peak) == white


def test_white_for__black_is_black():
    assert white_for(0) == 65535
    assert np.asarray(array_as_rgb(np.zeros((4, 4), np.uint16))).max() == 0


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("name", ["gray.png", "gray.tif"])
def test_read_image__gray_of_fewer_bits_in_16(tmp_path, caplog, name, bits):
    values = ramp(2**bits - 1)
    Image.fromarray(values).save(tmp_path / name)
    found = np.asarray(read_image(tmp_path / name))[..., 1]
    assert np.abs(found - values * (255 / (2**bits - 1))).max() <= 0.5001
    assert (f"{bits} bits" in caplog.text) == (bits < 16)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("name", ["color.png", "little.tif", "big.tif"])
def test_read_image__color_of_fewer_bits_in_16(tmp_path, caplog, name, bits):
    values = ramp(2**bits - 1, channels=3)
    save_color(tmp_path / name, values)
    found = np.asarray(read_image(tmp_path / name))
    assert np.abs(found - values * (255 / (2**bits - 1))).max() <= 0.5001
    assert f"{bits} bits" in caplog.text


def test_read_image__alpha_of_fewer_bits_is_opaque(tmp_path):
    values = np.concatenate([ramp(4095, channels=3), np.full((32, 64, 1), 4095, np.uint16)], -1)
    save_color(tmp_path / "a.png", values)
    found = np.asarray(read_image(tmp_path / "a.png"))
    assert np.abs(found - values[..., :3] * (255 / 4095)).max() <= 0.5001


def test_read_image__twelve_bits_that_a_tiff_declares_need_no_word(tmp_path, caplog):
    values = ramp(2000).astype(np.uint32)  # dark: by its data it would have 11 bits
    packed = (values[:, 0::2] << 12 | values[:, 1::2]).astype(">u4").reshape(-1, 1).view(np.uint8)[:, 1:]
    tags = {256: 64, 257: 32, 258: 12, 259: 1, 262: 1, 273: 200, 277: 1, 278: 32, 279: packed.nbytes}
    entries = b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in tags.items())
    entries = entries.replace(struct.pack("<HHII", 258, 4, 1, 12), struct.pack("<HHII", 258, 3, 1, 12))
    head = b"II" + struct.pack("<HIH", 42, 8, len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(head.ljust(200, b"\0") + packed.tobytes())
    found = np.asarray(read_image(tmp_path / "a.tif"))[..., 0]
    assert np.abs(found - values * (255 / 4095)).max() <= 0.5001
    assert not caplog.records


def test_read_image__a_pgm_is_scaled_by_its_own_maximum(tmp_path, caplog):
    values = ramp(1500)
    (tmp_path / "a.pgm").write_bytes(b"P5\n64 32\n4095\n" + values.astype(">u2").tobytes())
    assert np.abs(np.asarray(read_image(tmp_path / "a.pgm"))[..., 0] - values * (255 / 4095)).max() <= 1
    assert not caplog.records


def test_load_images__one_white_level_for_a_whole_folder(tmp_path, caplog):
    for name, largest in (("dark.png", 900), ("light.png", 4000)):
        Image.fromarray(np.full((32, 64), largest, np.uint16)).save(tmp_path / name)
    found = load_images(tmp_path, SMALL).images[:, 0, 0, 0] * 255
    np.testing.assert_allclose(found, np.array([900, 4000]) * 255 / 4095, atol=0.5001)
    assert caplog.text.count("12 bits") == 1
    Image.fromarray(np.full((32, 64), 60000, np.uint16)).save(tmp_path / "z16.png")
    assert load_images(tmp_path, SMALL).images[0, 0, 0, 0] * 255 == pytest.approx(900 / 257, abs=0.51)


def test_load_images__arrays_and_files_share_the_white_level(tmp_path):
    Image.fromarray(np.full((32, 64), 4000, np.uint16)).save(tmp_path / "a.png")
    dark = np.full((32, 64), 900, np.uint16)
    images = load_images([dark, tmp_path / "a.png", Image.fromarray(dark)], SMALL).images[:, 0, 0, 0] * 255
    np.testing.assert_allclose(images, np.array([900, 4000, 900]) * 255 / 4095, atol=0.5001)
