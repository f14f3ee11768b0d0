"""Preprocessing against a plain computation written out here, and the maps back to original pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qvggt.images.preprocess import load_images, preprocess
from qvggt.options import ImageOptions
from qvggt.types import QvggtError


def draw(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth color with some noise: every pixel differs, and a shift by one pixel shows."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin(x / 7 + k) * 60 + np.cos(y / 5 - k) * 60 + 128 for k in range(3)]
    noise = np.random.default_rng(seed).integers(-8, 8, (height, width, 3))
    return Image.fromarray(np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8))


def cropped_by_hand(image: Image.Image, size: int, patch: int) -> np.ndarray:
    width, height = image.size
    new_height = round(height * size / width / patch) * patch
    pixels = np.asarray(image.resize((size, new_height), Image.Resampling.BICUBIC), np.float32) / 255
    if new_height > size:
        start = (new_height - size) // 2
        pixels = pixels[start : start + size]
    return pixels.transpose(2, 0, 1)


def padded_by_hand(image: Image.Image, size: int, patch: int) -> np.ndarray:
    width, height = image.size
    if width >= height:
        new_width, new_height = size, round(height * size / width / patch) * patch
    else:
        new_width, new_height = round(width * size / height / patch) * patch, size
    pixels = np.asarray(image.resize((new_width, new_height), Image.Resampling.BICUBIC), np.float32) / 255
    left, top = (size - new_width) // 2, (size - new_height) // 2
    bars = ((top, size - new_height - top), (left, size - new_width - left), (0, 0))
    return np.pad(pixels, bars, constant_values=1.0).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("width", "height", "cropped"),
    [
        (640, 480, (392, 518)),
        (641, 479, (392, 518)),  # odd sizes
        (518, 518, (518, 518)),
        (480, 640, (518, 518)),  # portrait: 686 rows, of which the middle 518 stay
        (333, 777, (518, 518)),
        (2000, 500, (126, 518)),  # panorama: 129.5 rows are 9.25 patches
        (1400, 700, (252, 518)),  # 18.5 patches, a tie, goes to the even 18
        (7, 5, (364, 518)),  # tiny
        (1201, 803, (350, 518)),
    ],
)
def test_golden_sizes_and_pixels(width, height, cropped):
    image = draw(width, height)
    crop = preprocess([image], ["a"]).images
    assert crop.dtype == np.float32
    assert crop.flags.c_contiguous
    assert crop.shape == (1, 3, *cropped)
    np.testing.assert_array_equal(crop[0], cropped_by_hand(image, 518, 14))
    pad = preprocess([image], ["a"], ImageOptions(mode="pad")).images
    assert pad.shape == (1, 3, 518, 518)
    np.testing.assert_array_equal(pad[0], padded_by_hand(image, 518, 14))


@pytest.mark.parametrize(("size", "patch"), [(112, 14), (96, 8), (224, 16)])
def test_other_sizes_and_patches(size, patch):
    for image in (draw(320, 240), draw(240, 320)):
        crop = preprocess([image], ["a"], ImageOptions(size=size, patch=patch))
        np.testing.assert_array_equal(crop.images[0], cropped_by_hand(image, size, patch))
        pad = preprocess([image], ["a"], ImageOptions(size=size, patch=patch, mode="pad"))
        np.testing.assert_array_equal(pad.images[0], padded_by_hand(image, size, patch))


def test_different_processed_sizes_are_centered_on_white():
    wide, tall = draw(640, 240), draw(480, 640, seed=1)
    both = preprocess([wide, tall], ["wide", "tall"])
    assert both.images.shape == (2, 3, 518, 518)
    rows = 196  # 240 * 518 / 640 = 194.25 pixels are 13.9 patches
    top = (518 - rows) // 2
    np.testing.assert_array_equal(both.images[0, :, top : top + rows], cropped_by_hand(wide, 518, 14))
    assert (both.images[0, :, :top] == 1).all()
    assert (both.images[0, :, top + rows :] == 1).all()
    np.testing.assert_array_equal(both.images[1], cropped_by_hand(tall, 518, 14))
    assert both.maps[0].offset == (0, top)
    assert both.names == ("wide", "tall")


def test_map_of_a_cropped_portrait_by_hand():
    (found,) = preprocess([draw(480, 640)], ["a"]).maps
    assert found.original_size == (480, 640)
    assert found.scale == (518 / 480, 686 / 640)
    assert found.offset == (0, -84)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(40, 400),
    st.integers(40, 400),
    st.floats(0.35, 0.65),
    st.floats(0.35, 0.65),
    st.sampled_from(["crop", "pad"]),
)
def test_map_finds_a_drawn_marker(width, height, across, down, mode):
    options = ImageOptions(size=224, patch=14, mode=mode)
    left, top = int(across * width), int(down * height)
    right, bottom = min(width, left + width // 8), min(height, top + height // 8)
    plain = np.full((height, width, 3), 180, np.uint8)
    marked = plain.copy()
    marked[top:bottom, left:right] = 40
    other = Image.new("RGB", (100, 100))  # square, so that the first is padded when it is wide
    before, after = (preprocess([Image.fromarray(p), other], ["a", "b"], options) for p in (plain, marked))
    seen = np.abs(after.images[0] - before.images[0]).sum(0)
    frame_map = after.maps[0]
    edges = np.array([top, bottom]) * frame_map.scale[1] + frame_map.offset[1]
    if edges[0] <= 12 or edges[1] >= seen.shape[0] - 12:
        return  # the crop may have cut the marker
    rows, columns = np.mgrid[0 : seen.shape[0], 0 : seen.shape[1]] + 0.5
    found = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
    middle = np.array([left + right, top + bottom]) / 2
    np.testing.assert_allclose(found, middle * frame_map.scale + frame_map.offset, atol=0.1)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 300), st.sampled_from(["crop", "pad"]), st.sampled_from([(56, 14), (48, 16)])
)
def test_any_size_gives_whole_patches_and_values_in_range(width, height, mode, size_patch):
    size, patch = size_patch
    result = preprocess([draw(width, height)], ["a"], ImageOptions(size=size, patch=patch, mode=mode))
    _, _, rows, columns = result.images.shape
    assert rows % patch == 0
    assert patch <= rows <= size
    assert columns == size
    assert result.images.min() >= 0
    assert result.images.max() <= 1


@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_one_pixel_fills_the_image(mode):
    result = preprocess([Image.new("RGB", (1, 1), (51, 102, 255))], ["dot"], ImageOptions(mode=mode))
    assert result.images.shape == (1, 3, 518, 518)
    np.testing.assert_allclose(result.images[0, :, 250, 250], [0.2, 0.4, 1.0])
    assert result.images[0].std(axis=(1, 2)).max() < 1e-6


def test_extreme_aspects_keep_one_patch_and_the_memory():
    flat = preprocess([draw(3000, 2)], ["flat"])
    assert flat.images.shape == (1, 3, 14, 518)
    assert flat.maps[0].scale[1] == 7
    needle = ImageOptions(mode="pad")
    assert preprocess([draw(2, 3000)], ["needle"], needle).images.shape == (1, 3, 518, 518)
    # In full this strip would be 518 x 20 million pixels: 40 GB.
    strip = preprocess([Image.new("RGB", (1, 40000), (0, 0, 0))], ["strip"])
    assert strip.images.shape == (1, 3, 518, 518)
    assert strip.maps[0].offset == (0, -(40000 * 518 - 518) // 2)


def test_a_strip_resized_only_where_it_is_kept_has_the_same_pixels():
    strip = draw(2, 140)
    options = ImageOptions(size=28, patch=14)  # 1960 rows, 70 times the size
    cut = preprocess([strip], ["strip"], options).images[0]
    assert np.abs(cut - cropped_by_hand(strip, 28, 14)).max() <= 1.01 / 255


def test_preprocess_leaves_its_input_alone_and_repeats():
    image = draw(64, 48).convert("RGBA")
    before = image.tobytes()
    first, second = (preprocess([image], ["a"]).images for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert image.tobytes() == before
    assert image.mode == "RGBA"


def test_preprocess_refuses_nothing_and_uneven_names():
    with pytest.raises(QvggtError, match="no images"):
        preprocess([], [])
    with pytest.raises(ValueError, match="zip"):
        preprocess([draw(8, 8)], ["a", "b"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 500},
        {"size": 0},
        {"size": 7},
        {"patch": 0},
        {"mode": "stretch"},
        {"fps": 0.0},
        {"fps": float("nan")},
        {"fps": float("inf")},
        {"frames": 0},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(QvggtError) as caught:
        ImageOptions(**wrong)
    assert "\n" not in str(caught.value)


def test_list_of_images_and_arrays(tmp_path):
    image = draw(60, 40)
    image.save(tmp_path / "a.png")
    pixels = np.asarray(image)
    gray = pixels[..., 0]
    deep = (gray.astype(np.uint16) * 257)[..., None]
    items = [image, pixels, pixels.astype(np.float32) / 255, str(tmp_path / "a.png"), gray, deep]
    result = load_images(items, ImageOptions(size=56))
    for index in (1, 2, 3):
        np.testing.assert_array_equal(result.images[index], result.images[0])
    np.testing.assert_array_equal(result.images[5], result.images[4])
    np.testing.assert_array_equal(result.images[4, 0], result.images[4, 2])
    assert result.names == ("image_0000", "image_0001", "image_0002", "a.png", "image_0004", "image_0005")
    assert load_images(items, ImageOptions(size=56, frames=2)).names == ("image_0000", "image_0005")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.full((4, 4, 3), 2.0),
        np.full((4, 4, 3), np.nan),
    ],
)
def test_arrays_that_are_no_images_are_refused(array):
    with pytest.raises(QvggtError, match="image_0000: expected"):
        load_images([array])
