"""Color profiles and coded color to sRGB; what has neither stays as it is."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from qvggt.images.color import CodingPoints, coded_to_srgb, coding_points_of, profile_to_srgb
from qvggt.images.decode import as_rgb, read_image
from qvggt.images.preprocess import preprocess
from qvggt.options import ImageOptions

PATCHES = np.array([[250, 30, 20], [20, 200, 40], [30, 40, 220], [128, 128, 128], [200, 180, 90]], np.uint8)
PRIMARIES = {
    "Display P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "Adobe RGB": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),
    "sRGB": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
}
BRADFORD = np.array([[1.0479, 0.0229, -0.0502], [0.0296, 0.9904, -0.0171], [-0.0092, 0.0151, 0.7517]])


def xyz_from_rgb(name: str) -> np.ndarray:
    """The matrix from linear RGB to XYZ under D65, from primaries and white point."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in PRIMARIES[name]]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return columns * np.linalg.solve(columns, white)


def profile(name: str, gamma: float) -> bytes:
    """A version 2 ICC profile of three primaries and one gamma, written by hand."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    columns = (BRADFORD @ xyz_from_rgb(name)).T
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78)}
    tags |= {b"cprt": b"text" + bytes(4) + b"none\0\0\0\0", b"wtpt": b"XYZ " + bytes(4)}
    tags[b"wtpt"] += fixed(0.9642) + fixed(1) + fixed(0.8249)
    for channel, column in zip((b"r", b"g", b"b"), columns, strict=True):
        tags[channel + b"XYZ"] = b"XYZ " + bytes(4) + b"".join(fixed(value) for value in column)
        tags[channel + b"TRC"] = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, body in tags.items():
        body = body.ljust(-(-len(body) // 4) * 4, b"\0")
        table += tag + struct.pack(">II", start + len(data), len(body))
        data += body
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += fixed(0.9642) + fixed(1) + fixed(0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def expected_srgb(name: str, gamma: float) -> np.ndarray:
    linear = np.linalg.solve(xyz_from_rgb("sRGB"), xyz_from_rgb(name) @ (PATCHES / 255.0).T ** gamma).T.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def patches(mode: str = "RGB") -> Image.Image:
    image = Image.fromarray(PATCHES[None].repeat(4, 0))
    return image.quantize(len(PATCHES)) if mode == "P" else image.convert(mode)


def shown(image: Image.Image) -> np.ndarray:
    return np.asarray(profile_to_srgb(image))


@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "webp"])
@pytest.mark.parametrize(("name", "gamma"), [("Display P3", 2.2), ("Adobe RGB", 2.19921875)])
def test_read_image__wide_gamut_profiles_become_srgb(tmp_path, name, gamma, ending):
    image = patches().resize((80, 16), Image.Resampling.NEAREST)
    image.save(tmp_path / f"a.{ending}", icc_profile=profile(name, gamma), quality=100, subsampling=0, lossless=True)
    found = shown(read_image(tmp_path / f"a.{ending}"))[8, 8::16]
    assert np.abs(found - expected_srgb(name, gamma)).max() <= (5 if ending == "jpg" else 3)
    assert np.abs(PATCHES - expected_srgb(name, gamma)).max() > 20  # so that the test can see a profile ignored


def test_read_image__heic_profiles_become_srgb(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    image = patches().resize((320, 64), Image.Resampling.NEAREST)
    image.info["icc_profile"] = profile("Display P3", 2.2)
    heif.from_pillow(image).save(tmp_path / "a.heic", quality=-1, chroma=444)
    found = shown(read_image(tmp_path / "a.heic"))[32, 32::64]
    assert np.abs(found - expected_srgb("Display P3", 2.2)).max() <= 4


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_as_rgb__profiles_of_other_modes(mode):
    image = patches(mode)
    image.info["icc_profile"] = profile("Adobe RGB", 2.2)
    before = image.tobytes()
    assert np.abs(shown(as_rgb(image))[0] - expected_srgb("Adobe RGB", 2.2)).max() <= 3
    assert (image.tobytes(), image.mode) == (before, mode)


def test_preprocess__profiles_are_applied_once():
    image = patches().resize((280, 224), Image.Resampling.NEAREST)
    image.info["icc_profile"] = profile("Adobe RGB", 2.2)
    options = ImageOptions(size=280)
    for given in (image, as_rgb(image), as_rgb(as_rgb(image))):
        found = preprocess([given], ["a"], options).images[0, :, 100, 28::56].T * 255
        assert np.abs(found - expected_srgb("Adobe RGB", 2.2)).max() <= 3
    assert image.info["icc_profile"] == profile("Adobe RGB", 2.2)


def test_as_rgb__a_gray_profile():
    image = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    curve = profile("sRGB", 1.0).replace(b"mntrRGB ", b"mntrGRAY").replace(b"rTRC", b"kTRC")
    image.info["icc_profile"] = curve
    linear = np.arange(256) / 255
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(np.asarray(as_rgb(image))[0, :, 1] - expected).max() <= 2


@pytest.mark.parametrize("content", [None, b"", b"damaged", "srgb", profile("Adobe RGB", 2.2)[:200]])
def test_as_rgb__without_a_profile_or_with_srgb_nothing_changes(content):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    if content == "srgb":
        buffer = io.BytesIO(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        content = buffer.getvalue()
    if content is not None:
        noise.info["icc_profile"] = content
    np.testing.assert_array_equal(shown(as_rgb(noise)), np.asarray(noise))
    np.testing.assert_array_equal(
        preprocess([noise], ["a"]).images, preprocess([Image.fromarray(np.asarray(noise))], ["a"]).images
    )


def test_as_rgb__a_profile_of_another_color_space_is_ignored():
    gray = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    gray.info["icc_profile"] = profile("Adobe RGB", 2.2)
    np.testing.assert_array_equal(shown(as_rgb(gray))[0, :, 0], np.arange(256))


# Coded color: HDR and wide gamut of videos, HEIF and PNG


def pq(nits: float) -> float:
    """The PQ signal of a luminance (SMPTE ST 2084)."""
    power = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


@pytest.mark.parametrize(
    ("transfer", "signals"),
    [(16, [pq(0), pq(20.3), pq(203), pq(1000), pq(4000)]), (18, [0.0, (3 * 0.0203 ** (1 / 1.2)) ** 0.5, 0.75, 1.0])],
)
def test_coded_to_srgb__hdr_grays(transfer, signals):
    codes = np.array(signals)[None, :, None].repeat(3, -1)
    found = coded_to_srgb((codes * 65535).round().astype(np.uint16), CodingPoints(9, transfer))[0].astype(int)
    assert np.ptp(found, axis=-1).max() <= 1  # gray stays gray
    assert found[0, 0] == 0
    assert found[1, 0] == pytest.approx(89, abs=2)  # a tenth of diffuse white is not compressed
    assert 215 <= found[2, 0] <= 235  # diffuse white is bright, with room for highlights
    assert found[3, 0] >= 254


def test_coded_to_srgb__primaries_of_display_p3():
    pixels = PATCHES[None]
    found = coded_to_srgb(pixels, CodingPoints(12, 13))[0]
    decoded = np.where(PATCHES / 255 <= 0.04045, PATCHES / 255 / 12.92, ((PATCHES / 255 + 0.055) / 1.055) ** 2.4)
    linear = np.linalg.solve(xyz_from_rgb("sRGB"), xyz_from_rgb("Display P3") @ decoded.T).T.clip(0, 1)
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(found - expected).max() <= 1


def test_coding_points_of__png_and_heif_headers():
    assert coding_points_of(b"\x89PNG\r\n\x1a\n....\0\0\0\4cICP\x09\x10\0\1crc.") == CodingPoints(9, 16)
    assert coding_points_of(b"....ftypheic....colrnclx\0\x0c\0\x0d\0\x06\x80") == CodingPoints(12, 13)
    assert coding_points_of(b"\xff\xd8\xff no such box") is None
    assert not CodingPoints(1, 13).needs_conversion


def test_read_image__an_hdr_png_is_tone_mapped_with_a_word(tmp_path, caplog):
    values = np.full((8, 8, 3), round(pq(203) * 255), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    data = buffer.getvalue()
    chunk = b"cICP\x09\x10\0\1"
    chunk = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    assert 215 <= np.asarray(read_image(tmp_path / "a.png"))[4, 4, 1] <= 235
    assert "HDR" in caplog.text
