"""What is taken as images: one image or many, arrays, tensors, paths and patterns."""

import struct
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from qvggt.images import limits, preprocess
from qvggt.images.decode import as_rgb, read_image, read_picture
from qvggt.images.preprocess import load_images
from qvggt.options import ImageOptions
from qvggt.types import QvggtError

SMALL = ImageOptions(size=56)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        (PIXELS, 1),
        (PIXELS[..., 0], 1),
        (PIXELS[..., :1], 1),
        (Image.fromarray(PIXELS), 1),
        (PIXELS.astype(np.float32) / 255, 1),
        (np.stack([PIXELS, PIXELS]), 2),
        (torch.from_numpy(PIXELS).permute(2, 0, 1), 1),
        (torch.from_numpy(PIXELS).permute(2, 0, 1)[None].expand(3, -1, -1, -1), 3),
        (torch.from_numpy(PIXELS).permute(2, 0, 1).float() / 255, 1),
        (torch.from_numpy(PIXELS).permute(2, 0, 1).double().requires_grad_() / 255, 1),
        ([torch.from_numpy(PIXELS).permute(2, 0, 1), PIXELS, Image.fromarray(PIXELS)], 3),
        ((image for image in [PIXELS, PIXELS]), 2),
    ],
)
def test_load_images__one_image_or_a_stack(source, count):
    found = load_images(source, SMALL)
    assert found.images.shape == (count, 3, 42, 56)
    expected = load_images([PIXELS], SMALL).images[0]
    if not (isinstance(source, np.ndarray) and source.shape[-1] in (1, 60)):  # gray
        for image in found.images:
            np.testing.assert_allclose(image, expected, atol=1 / 255)
    assert found.names == tuple(f"image_{index:04d}" for index in range(count))


def test_load_images__bfloat16_tensors():
    tensor = (torch.from_numpy(PIXELS).permute(2, 0, 1).float() / 255).bfloat16()
    np.testing.assert_allclose(load_images(tensor, SMALL).images, load_images(PIXELS, SMALL).images, atol=0.01)


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((3, 40, 60), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((1, 1, 2, 4, 3), np.uint8),
        np.zeros((2, 3, 40, 60), np.uint8),
        torch.zeros(40, 60, 3),
        torch.zeros(1, 1, 3, 40, 60),
        [torch.zeros(5)],
    ],
)
def test_load_images__other_shapes_are_refused(source):
    with pytest.raises(QvggtError, match=r"expected .*\[.*H, W"):
        load_images(source, SMALL)


@pytest.mark.parametrize("url", ["https://example.com/a/b.jpg?size=2", "http://x.org", "s3://bucket/*.png"])
def test_load_images__a_url_is_named_as_one(url):
    for source in (url, Path(url), [url, url]):
        with pytest.raises(QvggtError, match="URL: download"):
            load_images(source, SMALL)


@pytest.mark.parametrize("folder", ["shoot [1]", "a*b", "what?", "[x]/[y]"])
def test_load_images__a_pattern_in_a_folder_with_brackets(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    for name in ("a1.png", "a2.png", "b.png"):
        Image.fromarray(PIXELS).save(tmp_path / folder / name)
    assert load_images(str(tmp_path / folder / "a*.png"), SMALL).names == ("a1.png", "a2.png")
    assert load_images(str(tmp_path / "**" / "a*.png"), SMALL).names == ("a1.png", "a2.png")


def test_load_images__a_pattern_of_folders_is_still_a_pattern(tmp_path):
    for name in ("day1", "day2"):
        (tmp_path / name).mkdir()
        Image.fromarray(PIXELS).save(tmp_path / name / "a.png")
    assert load_images(str(tmp_path / "day[12]" / "*.png"), SMALL).names == ("day1/a.png", "day2/a.png")


# Pages, frames and cropping


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_read_image__of_several_frames_the_first_with_a_word(tmp_path, caplog, ending):
    frames = [Image.new("RGB", (16, 12), color) for color in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], quality=100)
    red = read_image(tmp_path / f"a.{ending}").getpixel((8, 6))
    assert np.abs(np.array(red) - [200, 0, 0]).max() < 8
    assert "3 pages or frames" in caplog.text


def test_read_image__one_frame_needs_no_word(tmp_path, caplog):
    for ending in ("gif", "png", "webp", "tif", "jpg", "bmp"):
        Image.new("RGB", (16, 12)).save(tmp_path / f"a.{ending}")
        read_image(tmp_path / f"a.{ending}")
    assert not caplog.records


def test_read_image__previews_in_a_jpeg_need_no_word_but_a_stereo_pair_does(tmp_path, caplog):
    path = tmp_path / "a.jpg"
    views = [Image.new("RGB", (16, 12)), Image.new("RGB", (16, 12))]
    views[0].save(path, "mpo", save_all=True, append_images=views[1:])
    read_image(path)
    assert not caplog.records
    with Image.open(path) as image:
        first, second = image.mpinfo[0xB002]
    sizes = [struct.pack("<L", entry["Size"]) for entry in (first, second)]
    data = path.read_bytes()
    for size, kind in zip(sizes, (0x030000, 0), strict=True):
        data = data.replace(struct.pack("<L", kind) + size, struct.pack("<L", 0x020002) + size, 1)
    path.write_bytes(data)
    read_image(path)
    assert "2 pages or frames" in caplog.text


def test_load_images__cropping_is_said_once(tmp_path, caplog):
    for index, size in enumerate([(64, 48), (48, 64), (50, 100)]):
        Image.new("RGB", size).save(tmp_path / f"{index}.png")
    load_images(tmp_path, SMALL)
    (record,) = caplog.records
    assert "2 of 3" in record.getMessage()
    assert "50 %" in record.getMessage()
    assert "--mode pad" in record.getMessage()
    caplog.clear()
    load_images(tmp_path, ImageOptions(size=56, mode="pad"))
    load_images(tmp_path / "0.png", SMALL)
    assert not caplog.records


# Memory and settings of the process


def test_read_picture__a_jpeg_is_reduced_only_by_a_limit_that_it_exceeds(tmp_path, caplog):
    y, x = np.mgrid[0:480, 0:640]
    image = Image.fromarray(np.stack([x // 3, y // 2, x * 0 + 90], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    path = tmp_path / "a.jpg"
    whole = read_picture(path, "a")
    ample = read_picture(path, "a", max_bytes=640 * 480 * 16)
    np.testing.assert_array_equal(np.asarray(ample.image), np.asarray(whole.image))
    assert not caplog.records
    half = read_picture(path, "a", max_bytes=640 * 480 * 5)
    assert (half.image.size, half.size) == ((240, 320), (480, 640))
    assert "1/2" in caplog.text
    reduced, full = load_images(path, SMALL, memory_left=lambda: 640 * 480 * 5), load_images(path, SMALL)
    assert reduced.maps == full.maps
    np.testing.assert_allclose(reduced.images, full.images, atol=3 / 255)


@pytest.mark.parametrize("as_list", [False, True])
def test_load_images__one_image_is_in_memory_at_a_time(tmp_path, monkeypatch, as_list):
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for path in paths:
        Image.fromarray(PIXELS).save(path)
    decoded: list[weakref.ref] = []

    def watched(*arguments, **options):
        assert not any(reference() for reference in decoded)
        picture = read_picture(*arguments, **options)
        decoded.append(weakref.ref(picture.image))
        return picture

    monkeypatch.setattr(preprocess, "read_picture", watched)
    load_images(paths if as_list else tmp_path, SMALL)
    assert len(decoded) == 4


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
def test_read_picture__what_does_not_fit_is_refused(tmp_path, ending):
    Image.new("RGB", (640, 480)).save(tmp_path / f"a.{ending}")
    with pytest.raises(QvggtError, match=r"memory limit.*smaller copy"):
        read_picture(tmp_path / f"a.{ending}", "a", max_bytes=10_000)


def test_read_image__in_threads_leaves_pillows_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.fromarray(PIXELS).resize((400, 300)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("damaged")
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)

    def work():
        for index in range(20):
            if index % 3:
                assert read_image(tmp_path / "a.png").size == (400, 300)
            else:
                with pytest.raises(QvggtError):
                    read_image(tmp_path / "b.png")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_pillow_limit__a_setting_made_meanwhile_stays(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with limits.pillow_limit.lifted():
        Image.MAX_IMAGE_PIXELS = 77
    assert Image.MAX_IMAGE_PIXELS == 77


def test_as_rgb__an_image_from_memory_has_no_file_to_read_again():
    assert as_rgb(Image.fromarray(PIXELS)).size == (60, 40)
