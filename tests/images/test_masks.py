"""Masks: which file belongs to which image, and which pixels they keep after preprocessing."""

import logging

import numpy as np
import pytest
from PIL import Image

from qvggt.images.masks import load_masks
from qvggt.images.preprocess import preprocess
from qvggt.options import ImageOptions
from qvggt.types import QvggtError


def images_of(*names, size=(120, 90), mode="crop"):
    return preprocess([Image.new("RGB", size)] * len(names), names, ImageOptions(56, 14, mode))


def left_half(path, size=(120, 90), white=255, image_mode="L"):
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[:, : size[0] // 2] = white
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(image_mode).save(path)


@pytest.mark.parametrize("name", ["a.jpg.png", "a.png", "a.webp"])
def test_white_pixels_are_kept(tmp_path, name):
    left_half(tmp_path / name)
    mask = load_masks(tmp_path, images_of("a.jpg"))
    assert mask.shape == (1, 42, 56)
    np.testing.assert_array_equal(mask, np.broadcast_to(np.arange(56) < 28, mask.shape))


@pytest.mark.parametrize("image_mode", ["1", "RGB", "P", "LA"])
def test_masks_of_every_kind_of_pixel_say_the_same(tmp_path, image_mode):
    left_half(tmp_path / "a.png", image_mode=image_mode)
    assert load_masks(tmp_path, images_of("a.jpg")).sum() == 42 * 28


def test_a_mask_of_other_resolution_and_a_tall_image_that_was_cropped(tmp_path):
    pixels = np.zeros((40, 20), np.uint8)  # of a photograph of 100 x 200, cropped to its middle half
    pixels[20:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask = load_masks(tmp_path, images_of("a.jpg", size=(100, 200)))
    np.testing.assert_array_equal(mask[0], np.broadcast_to(np.arange(56)[:, None] >= 28, (56, 56)))


def test_the_mask_of_a_padded_image_lies_on_its_photograph(tmp_path):
    left_half(tmp_path / "a.png", (60, 120))
    mask = load_masks(tmp_path, images_of("a.jpg", size=(60, 120), mode="pad"))
    np.testing.assert_array_equal(mask[0, :, 14:42], np.broadcast_to(np.arange(28) < 14, (56, 28)))


def test_frames_of_a_video_have_masks_of_their_own_or_one_for_all(tmp_path):
    left_half(tmp_path / "walk.png")
    Image.new("L", (120, 90), 255).save(tmp_path / "walk.mp4#12.png")
    mask = load_masks(tmp_path, images_of("walk.mp4#0", "walk.mp4#12"))
    assert mask.mean((1, 2)).tolist() == [0.5, 1.0]


def test_subfolders_are_those_of_the_names(tmp_path):
    left_half(tmp_path / "left" / "a.png")
    Image.new("L", (120, 90), 255).save(tmp_path / "a.png")
    assert load_masks(tmp_path, images_of("left/a.jpg")).mean() == 0.5


def test_an_image_without_a_mask_is_kept_whole_with_one_warning(tmp_path, caplog):
    left_half(tmp_path / "b.png")
    with caplog.at_level(logging.WARNING):
        mask = load_masks(tmp_path, images_of("a.jpg", "b.jpg", "c.jpg"))
    assert mask.mean((1, 2)).tolist() == [1.0, 0.5, 1.0]
    (record,) = caplog.records
    assert "2 of 3 images have no mask" in record.message
    assert "a.jpg" in record.message


def test_what_cannot_be_a_mask_is_refused(tmp_path):
    with pytest.raises(QvggtError, match="does not exist"):
        load_masks(tmp_path / "none", images_of("a.jpg"))
    with pytest.raises(QvggtError, match="contains no images"):
        load_masks(tmp_path, images_of("a.jpg"))
    left_half(tmp_path / "a.png", white=1)
    with pytest.raises(QvggtError, match=r"keep nothing.*white"):
        load_masks(tmp_path, images_of("a.jpg"))
    with pytest.raises(QvggtError, match=r"no image has a mask.*z.jpg.png"):
        load_masks(tmp_path, images_of("z.jpg"))
    left_half(tmp_path / "a.png", size=(90, 120))
    with pytest.raises(QvggtError, match="90x120 px, its photograph 120x90"):
        load_masks(tmp_path, images_of("a.jpg"))
