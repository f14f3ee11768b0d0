from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from box_views import assert_true, view
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qvggt.data.dataset import SequenceRecord
from qvggt.data.files import image_names, read_mask, read_millimeters, read_photo, read_uint16
from qvggt.data.frames import DepthMap, Frame, build_scene, map_intrinsics, pinhole, sample_depth, scale_intrinsics
from qvggt.options import ImageOptions
from qvggt.types import FrameMap, QvggtError

RECORD = SequenceRecord("room", ("0", "1"), group="pool")


def frames_of_box(folder, size, indices=(0, 1)):
    intrinsics = pinhole((0.8 * size[0], 0.9 * size[0]), (0.47 * size[0], 0.56 * size[1]))
    frames = []
    for index in indices:
        seen = view(index, intrinsics, size)
        Image.fromarray(seen.photo).save(folder / f"{index}.png")
        depth = partial(DepthMap, seen.depth.astype(np.float32))
        shares = scale_intrinsics(intrinsics, 1 / size[0], 1 / size[1])
        frames.append(Frame(folder / f"{index}.png", seen.cam_from_world, shares, depth))
    return frames


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((56, 42), ImageOptions(56, 14, "crop")),  # as it is
        ((112, 100), ImageOptions(56, 14, "crop")),  # smaller, with unequal scales
        ((60, 150), ImageOptions(84, 14, "crop")),  # larger, top and bottom cut off
        ((60, 150), ImageOptions(84, 14, "pad")),  # filled up left and right
    ],
)
def test_depth_camera_and_image_stay_together(tmp_path, size, options):
    frames = frames_of_box(tmp_path, size)
    scene = build_scene(RECORD, RECORD.frames, frames, options)
    exact = scene.images.shape[-2:] == (42, 56)
    # Elsewhere a depth is the nearest measurement's, up to half a pixel away.
    assert_true(scene, 1e-5 if exact else 0.15, shade=0.02)
    assert (scene.name, scene.group) == ("room", "pool")
    assert np.array_equal(scene.cam_from_world, np.stack([frame.cam_from_world for frame in frames]))
    if options.mode == "pad":
        assert not scene.valid[:, :, 0].any()
        assert not scene.valid[:, :, -1].any()
    else:
        assert scene.valid.all()


def test_larger_image_reads_the_same_points(tmp_path):
    """Upscaling by an odd factor puts a pixel's center on a source pixel's center: there the points are exact."""
    scene = build_scene(RECORD, RECORD.frames, frames_of_box(tmp_path, (28, 28)), ImageOptions(84, 14))
    middle = np.s_[:, 1::3, 1::3]
    intrinsics = scene.intrinsics.copy()
    intrinsics[:, :2] /= 3
    intrinsics[:, :2, 2] -= 1 / 3
    assert_true(
        replace(
            scene,
            images=scene.images[:, :, 1::3, 1::3],
            depth=scene.depth[middle],
            valid=scene.valid[middle],
            intrinsics=intrinsics,
        ),
        1e-5,
        shade=0.05,
    )


def test_what_one_frame_lacks_the_scene_lacks(tmp_path):
    first, second = frames_of_box(tmp_path, (28, 28))
    scene = build_scene(RECORD, RECORD.frames, [first, Frame(second.photo)], ImageOptions(28, 14))
    assert scene.depth is scene.valid is scene.intrinsics is scene.cam_from_world is None


def test_missing_image_says_which(tmp_path):
    frames = frames_of_box(tmp_path, (28, 28))
    (tmp_path / "1.png").unlink()
    with pytest.raises(QvggtError, match=r"1\.png"):
        build_scene(RECORD, RECORD.frames, frames, ImageOptions(28, 14))


def test_center_of_an_image_maps_to_the_center():
    whole = FrameMap((200, 100), (0.5, 0.5), (0.0, -4.0))
    mapped = map_intrinsics(pinhole((1.0, 2.0), (0.5, 0.5)), whole)
    assert np.allclose(mapped, [[100, 0, 49.5], [0, 100, 20.5], [0, 0, 1]])


@settings(max_examples=25, deadline=None)
@given(
    photo=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    scale=st.tuples(st.floats(0.2, 4), st.floats(0.2, 4)),
    offset=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
)
def test_depth_is_sampled_from_the_pixel_whose_area_holds_the_center(photo, scale, offset):
    width, height = photo
    values = np.arange(1, width * height + 1, dtype=np.float32).reshape(height, width)
    depth, valid = sample_depth(
        DepthMap(values), FrameMap(photo, scale, (float(offset[0]), float(offset[1]))), (12, 15)
    )
    for row, column in np.ndindex(12, 15):
        x, y = (column + 0.5 - offset[0]) / scale[0], (row + 0.5 - offset[1]) / scale[1]
        if min(abs(x - round(x)), abs(y - round(y))) < 1e-9:
            continue  # on the border of two pixels either is nearest
        inside = 0 <= x < width and 0 <= y < height
        assert valid[row, column] == inside
        assert depth[row, column] == (values[int(y), int(x)] if inside else 0)


def test_unmeasured_and_impossible_depth_is_not_valid():
    values = np.array([[1, 0, np.nan, np.inf, -1]], dtype=np.float32)
    depth, valid = sample_depth(DepthMap(values), FrameMap((5, 1), (1.0, 1.0), (0.0, 0.0)), (1, 5))
    assert valid.tolist() == [[True, False, False, False, False]]
    assert depth.tolist() == [[1, 0, 0, 0, 0]]


def test_lookup_that_leads_nowhere_is_not_valid():
    def lookup(x, y):
        return np.where(x < 0.5, np.nan, 0.0 * x), 0.0 * y

    _, valid = sample_depth(
        DepthMap(np.ones((3, 3), np.float32), lookup), FrameMap((4, 1), (1.0, 1.0), (0.0, 0.0)), (1, 4)
    )
    assert valid.tolist() == [[False, False, True, True]]


def test_exif_orientation_is_left_aside_for_calibrated_images(tmp_path):
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    photo = read_photo(tmp_path / "turned.png")
    assert np.array_equal(np.asarray(photo), pixels)
    assert photo.getexif().get(0x0112, 1) == 1


def test_millimeters(tmp_path):
    raw = np.array([[0, 1, 1500, 10000, 10001, 65535]], dtype=np.uint16)
    Image.fromarray(raw).save(tmp_path / "depth.png")
    assert np.allclose(read_millimeters(tmp_path / "depth.png"), [[0, 0.001, 1.5, 10, 0, 0]])


def test_depth_of_eight_bits_is_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "depth.png")
    with pytest.raises(QvggtError, match="not a 16-bit image"):
        read_uint16(tmp_path / "depth.png", "the depth map")


def test_damaged_image_says_which(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    with pytest.raises(QvggtError, match=r"photo\.jpg is damaged"):
        read_photo(tmp_path / "photo.jpg")


def test_mask_is_where_anything_is(tmp_path):
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(tmp_path / "gray.png")
    Image.fromarray(np.array([[[0, 0, 0], [0, 1, 0], [9, 9, 9]]], np.uint8)).save(tmp_path / "color.png")
    for name in ("gray.png", "color.png"):
        assert read_mask(tmp_path / name, "the mask").tolist() == [[False, True, True]]


def test_image_names_are_in_natural_order(tmp_path):
    for name in ("img10.png", "img2.PNG", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert image_names(tmp_path) == ["img2.PNG", "img10.png"]
    assert image_names(tmp_path / "absent") == []
