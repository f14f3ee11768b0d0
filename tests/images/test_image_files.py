"""Image files of every kind, folders and patterns, and one sentence for what cannot be read."""

from __future__ import annotations

import io
import logging
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qvggt.images import files as image_files
from qvggt.images import limits
from qvggt.images.decode import as_rgb, read_image
from qvggt.images.files import evenly_spread, natural_key
from qvggt.images.preprocess import load_images
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

SMALL = ImageOptions(size=56)


@pytest.fixture
def colors() -> Image.Image:
    """Smooth, so that lossy formats stay near it; no symmetry, so that any turn shows."""
    y, x = np.mgrid[0:40, 0:64].astype(np.float32)
    return Image.fromarray(np.stack([x * 3 + 20, y * 5 + 10, 200 - x - y], -1).astype(np.uint8))


def pixels(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def sentence(source: object, options: ImageOptions = SMALL) -> str:
    """The error of loading: one line, no period at its end needed, but something in it."""
    with pytest.raises(QvggtError) as caught:
        load_images(source, options)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) > 20
    return text


# Formats and modes


@pytest.mark.parametrize(
    ("ending", "tolerance"),
    [("png", 0), ("bmp", 0), ("tif", 0), ("ppm", 0), ("webp", 12), ("jpg", 12), ("JPEG", 12), ("heic", 12)],
)
def test_formats(tmp_path, colors, ending, tolerance):
    path = tmp_path / f"a.{ending}"
    if ending == "heic":
        pytest.importorskip("pillow_heif").from_pillow(colors).save(path, quality=95)
    else:
        colors.save(path, quality=95)
    assert np.abs(pixels(path) - np.asarray(colors).astype(int)).max() <= tolerance


def test_content_counts_more_than_the_ending(tmp_path, colors):
    colors.save(tmp_path / "real.png")
    (tmp_path / "real.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(pixels(tmp_path / "a.jpg"), np.asarray(colors))
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(colors).save(tmp_path / "b.heic", quality=95)
    (tmp_path / "b.heic").rename(tmp_path / "b.jpg")
    assert pixels(tmp_path / "b.jpg").shape == (40, 64, 3)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path, ending):
    ramp = np.linspace(0, 65535, 64 * 32).reshape(32, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"a.{ending}")
    found = pixels(tmp_path / f"a.{ending}")
    assert found.max() == 255
    assert np.abs(found[..., 0] - ramp / 257).max() <= 0.5001
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


def test_big_endian_sixteen_bit_tiff(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 32).reshape(32, 64).astype(np.uint16)
    Image.frombytes("I;16B", (64, 32), ramp.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    assert np.abs(pixels(tmp_path / "a.tif")[..., 1] - ramp / 257).max() <= 0.5001


def png(width: int, height: int, color_type: int, rows: np.ndarray) -> bytes:
    """A 16-bit PNG written by hand, since Pillow writes none in color."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def test_sixteen_bit_color_png(tmp_path):
    values = np.linspace(0, 65535, 32 * 64 * 3).reshape(32, 64, 3).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png(64, 32, 2, values))
    assert np.abs(pixels(tmp_path / "a.png") - values / 257).max() <= 1
    clear = np.concatenate([values, np.zeros((32, 64, 1), np.uint16)], -1)
    (tmp_path / "b.png").write_bytes(png(64, 32, 6, clear))
    assert (pixels(tmp_path / "b.png") == 255).all()


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_color_tiff(tmp_path, order):
    values = np.linspace(0, 65535, 32 * 64 * 3).reshape(32, 64, 3).astype(np.uint16)
    tags = {256: 64, 257: 32, 258: 16, 259: 1, 262: 2, 273: 200, 277: 3, 278: 32, 279: values.nbytes}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    entries = entries.replace(struct.pack(f"{order}HHII", 258, 4, 1, 16), struct.pack(f"{order}HHII", 258, 3, 3, 190))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags)) + entries + bytes(4)
    data = head.ljust(190, b"\0") + struct.pack(f"{order}HHH", 16, 16, 16).ljust(10, b"\0")
    (tmp_path / "a.tif").write_bytes(data + values.astype(f"{order}u2").tobytes())
    assert np.abs(pixels(tmp_path / "a.tif") - values / 257).max() <= 1


def test_float_and_integer_tiff(tmp_path):
    ramp = np.linspace(0, 1, 64 * 32, dtype=np.float32).reshape(32, 64)
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    assert np.abs(pixels(tmp_path / "a.tif")[..., 0] - ramp * 255).max() <= 0.5001
    Image.fromarray((ramp * 65535).astype(np.int32)).save(tmp_path / "b.tif")
    assert np.abs(pixels(tmp_path / "b.tif")[..., 0] - ramp * 255).max() <= 0.51
    Image.fromarray(ramp * 255).save(tmp_path / "c.tif")
    assert "0 to 255, expected 0 to 1" in sentence(tmp_path / "c.tif")
    Image.fromarray(ramp * np.float32("nan")).save(tmp_path / "d.tif")
    assert "'d.tif'" in sentence(tmp_path / "d.tif").replace(f"{tmp_path}{os.sep}", "")


def test_transparency_lies_over_white(tmp_path):
    for mode, ink, half in [("RGBA", (200, 0, 100, 0), (0, 0, 0, 128)), ("LA", (90, 0), (0, 128))]:
        image = Image.new(mode, (4, 1), ink)
        image.putpixel((1, 0), half)
        image.putpixel((2, 0), (*ink[:-1], 255))
        image.save(tmp_path / f"{mode}.png")
        found = pixels(tmp_path / f"{mode}.png")[0]
        assert found[0].tolist() == [255, 255, 255]
        assert found[1].tolist() == [127, 127, 127]
        assert found[2].tolist() == (list(ink[:3]) if mode == "RGBA" else [90, 90, 90])


def test_transparent_palette_and_color_key(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=0)
    image.save(tmp_path / "p.gif", transparency=0)
    Image.new("RGB", (2, 1), (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert pixels(tmp_path / "p.png")[0].tolist() == [[255, 255, 255], [200, 100, 50]]
    assert pixels(tmp_path / "p.gif")[0].tolist() == [[255, 255, 255], [200, 100, 50]]
    assert (pixels(tmp_path / "key.png") == 255).all()


def test_cmyk_gray_and_black_and_white(tmp_path, colors):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "red.jpg")[4, 4] - [255, 0, 0]).max() <= 4
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.tif")
    assert pixels(tmp_path / "red.tif")[4, 4].tolist() == [255, 0, 0]
    colors.convert("L").save(tmp_path / "gray.png")
    np.testing.assert_array_equal(pixels(tmp_path / "gray.png")[..., 0], np.asarray(colors.convert("L")))
    Image.new("1", (8, 8), 1).save(tmp_path / "white.png")
    assert (pixels(tmp_path / "white.png") == 255).all()


def test_images_that_cannot_become_rgb_are_named(tmp_path, colors):
    with pytest.raises(QvggtError, match=r"'odd' cannot be decoded"):
        as_rgb(Image.new("LA", (4, 4)).convert("La"), "odd")
    colors.save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").write_bytes((tmp_path / "a.bmp").read_bytes()[:-1000])
    with Image.open(tmp_path / "a.bmp") as cut:
        assert "'image_0000' is damaged or cut short" in sentence([cut])


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, colors, ending, orientation):
    upright = np.asarray(colors).astype(int)
    # What a camera would store so that the given orientation means this upright picture.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.ascontiguousarray(stored).astype(np.uint8)).save(path, exif=exif, quality=95)
    found = pixels(path)
    assert found.shape == upright.shape
    assert np.abs(found - upright).max() <= (12 if ending in ("jpg", "webp") else 0)
    with Image.open(path) as image:
        assert load_images([image, path], SMALL).maps[0].original_size == (64, 40)
    again = np.asarray(as_rgb(read_image(path))).astype(int)  # what is upright is not turned once more
    assert np.array_equal(again, found)


def test_heic_orientation(tmp_path, colors):
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = colors.transpose(Image.Transpose.ROTATE_90)
    heif.from_pillow(turned).save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    found = pixels(tmp_path / "a.heic")
    assert found.shape == (40, 64, 3)
    assert np.abs(found - np.asarray(colors)).max() <= 12


def test_damaged_exif_does_not_lose_the_picture(tmp_path, colors):
    colors.save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff\xff\xff", quality=95)
    assert pixels(tmp_path / "a.jpg").shape == (40, 64, 3)


def test_panoramas_above_pillows_limit_load_and_the_limit_stays(tmp_path, monkeypatch):
    Image.new("1", (2000, 1000), 1).save(tmp_path / "pano.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(limits, "MAX_PIXELS", 2_000_000)
    found = load_images(tmp_path / "pano.png", SMALL)
    assert found.maps[0].original_size == (2000, 1000)
    assert Image.MAX_IMAGE_PIXELS == 1000
    monkeypatch.setattr(limits, "MAX_PIXELS", 1_999_999)
    assert "2000 x 1000 pixels" in sentence(tmp_path / "pano.png")
    assert Image.MAX_IMAGE_PIXELS == 1000


# Order, names and selection


def test_natural_order(tmp_path, colors):
    names = ["img1.png", "img2.png", "img010.png", "img10.png", "Img11.png", "é3.png", "img2b.png", "10.png", "9.png"]
    random.Random(0).shuffle(names)
    for name in names:
        colors.save(tmp_path / name)
    expected = [
        "9.png",
        "10.png",
        "img1.png",
        "img2.png",
        "img2b.png",
        "img010.png",
        "img10.png",
        "Img11.png",
        "é3.png",
    ]
    assert list(load_images(tmp_path, SMALL).names) == expected
    assert sorted(map(Path, ["b2/a", "b10/a", "b1/c"]), key=natural_key)[-1] == Path("b10/a")


def test_frames_of_a_folder_are_evenly_spread(tmp_path, colors):
    for index in range(9):
        colors.save(tmp_path / f"{index}.png")
    assert load_images(tmp_path, ImageOptions(size=56, frames=3)).names == ("0.png", "4.png", "8.png")
    assert len(load_images(tmp_path, ImageOptions(size=56, frames=20)).names) == 9
    assert evenly_spread(range(5), 1) == [0]
    for count in range(1, 30):
        for limit in range(1, 30):
            chosen = evenly_spread(range(count), limit)
            assert len(chosen) == len(set(chosen)) == min(count, limit)


def test_lists_keep_their_order_and_tell_equal_names_apart(tmp_path, colors):
    for folder in ("right", "left"):
        (tmp_path / folder).mkdir()
        colors.save(tmp_path / folder / "1.png")
    paths = [tmp_path / "right" / "1.png", str(tmp_path / "left" / "1.png")]
    assert load_images(paths, SMALL).names == ("right/1.png", "left/1.png")
    assert load_images(paths[:1], SMALL).names == ("1.png",)
    assert load_images([tmp_path / "left"], SMALL).names == ("1.png",)


def test_patterns(tmp_path, colors, caplog):
    (tmp_path / "sub").mkdir()
    for name in ("a2.png", "a10.png", "b.png", "sub/a3.png"):
        colors.save(tmp_path / name)
    (tmp_path / "a.txt").write_text("notes")
    assert load_images(str(tmp_path / "a*.png"), SMALL).names == ("a2.png", "a10.png")
    assert load_images(str(tmp_path / "**" / "a*.png"), SMALL).names == ("a2.png", "a10.png", "a3.png")
    assert load_images(str(tmp_path / "b*"), SMALL).names == ("b.png",)
    assert load_images(str(tmp_path / "s*"), SMALL).names == ("a3.png",)
    assert not caplog.records
    assert load_images(str(tmp_path / "a*"), SMALL).names == ("a2.png", "a10.png")
    assert "'a.txt'" in caplog.text
    assert "nothing matches" in sentence(str(tmp_path / "z*.png"))
    colors.save(tmp_path / "[1].png")  # a file of that very name comes before the pattern
    assert load_images(str(tmp_path / "[1].png"), SMALL).names == ("[1].png",)


@pytest.mark.parametrize("name", ["with space.png", "two\nlines.png", "Größe – 写真.png", "'quoted\".png"])
def test_any_name_works_and_errors_stay_on_one_line(tmp_path, colors, name):
    folder = tmp_path / name.replace(".png", "")
    folder.mkdir()
    colors.save(folder / name)
    assert load_images(folder, SMALL).names == (name,)
    assert load_images(folder / name, SMALL).names == (name,)
    sentence(folder / f"no {name}")


# What is left out, and what is an error


def test_non_images_are_left_out_with_one_warning(tmp_path, colors, caplog):
    colors.save(tmp_path / "b.png")
    colors.save(tmp_path / ".hidden.png")
    (tmp_path / ".DS_Store").write_bytes(b"of the file manager")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "sub").mkdir()
    colors.save(tmp_path / "sub" / "c.png")
    with caplog.at_level(logging.WARNING):
        assert load_images(tmp_path, SMALL).names == ("b.png",)
    (record,) = caplog.records
    assert "skipped 2" in record.getMessage()
    assert "'.hidden.png'" in record.getMessage()


def test_unreadable_images_among_good_ones_are_named_and_left_out(tmp_path, colors, caplog):
    colors.save(tmp_path / "a.png")
    colors.save(tmp_path / "d.png")
    (tmp_path / "b.jpg").write_text("no picture")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:90])
    assert load_images(tmp_path, SMALL).names == ("a.png", "d.png")
    (record,) = caplog.records
    assert "skipped 2 of the 4 images" in record.getMessage()
    assert "b.jpg" in record.getMessage()
    named = sentence([tmp_path / "a.png", tmp_path / "b.jpg"])
    assert "b.jpg" in named


@pytest.mark.parametrize("pattern", ["", "*"])
def test_a_folder_of_which_most_is_unreadable_is_refused(tmp_path, colors, caplog, pattern):
    colors.save(tmp_path / "a.png")
    for name in ("b.jpg", "c.png"):
        (tmp_path / name).write_text("no picture")
    refused = sentence(str(tmp_path / pattern))
    assert "only 1 of the 3 images" in refused
    assert "b.jpg" in refused
    assert "one by one" in refused
    assert load_images([tmp_path / "a.png"], SMALL).names == ("a.png",)  # as the message advises
    assert not caplog.records


def test_folders_without_images(tmp_path):
    assert "no images" in sentence(tmp_path)
    (tmp_path / "sub").mkdir()
    assert "subfolders" in sentence(tmp_path)
    (tmp_path / "film.MP4").write_bytes(b"")
    assert "video" in sentence(tmp_path)
    for index in range(3):
        (tmp_path / f"{index}.jpg").write_text("no picture")
    assert "none of the 3 images" in sentence(tmp_path)
    assert "no images given" in sentence([])
    assert "no images given" in sentence("")


def test_truncated_and_empty_files(tmp_path, colors):
    big = colors.resize((640, 400))
    for ending in ("jpg", "png", "webp", "tif", "bmp"):
        buffer = io.BytesIO()
        big.save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending))
        for share in (0.0, 0.01, 0.5, 0.9):
            path = tmp_path / f"a.{ending}"
            path.write_bytes(buffer.getvalue()[: int(share * buffer.tell())])
            assert f"a.{ending}" in sentence(path)


def test_a_truncated_heic(tmp_path, colors):
    pytest.importorskip("pillow_heif").from_pillow(colors).save(tmp_path / "a.heic")
    data = (tmp_path / "a.heic").read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "a.heic").write_bytes(data[: int(share * len(data))])
        assert "a.heic" in sentence(tmp_path / "a.heic")


def test_heic_without_its_library_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    assert 'pip install "qvggt[heic]"' in sentence(tmp_path / "a.heic")


def test_paths_that_lead_nowhere(tmp_path, colors, caplog):
    assert "does not exist" in sentence(tmp_path / "none.png")
    assert "does not exist" in sentence([tmp_path / "none.png", tmp_path / "none2.png"])
    assert "valid path" in sentence("a\0b.png")
    assert "cannot be read" in sentence(tmp_path / ("a" * 300))
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    assert "symbolic link" in sentence(loop)
    colors.save(tmp_path / "good.png")
    assert load_images(tmp_path, SMALL).names == ("good.png",)
    assert "loop.png" in caplog.text
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in sentence(tmp_path / "pipe.png")
    assert "is a folder" in sentence([tmp_path, tmp_path / "good.png"])


def test_what_may_not_be_read(tmp_path, colors, monkeypatch):
    colors.save(tmp_path / "a.png")

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "no permission" in sentence(tmp_path / "a.png")
    monkeypatch.setattr(image_files.os, "listdir", refuse)
    assert "no permission" in sentence(tmp_path)


def test_a_list_of_something_else_is_refused():
    with pytest.raises(QvggtError, match=r"expected a path.*got int"):
        load_images([1, 2])
