"""Images beside exported cameras: original bytes where possible, upright, under safe names, with exact intrinsics."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms

from qvggt.export.views import with_shared_intrinsics, write_masks, write_originals, write_processed
from qvggt.images.preprocess import load_images
from qvggt.options import ImageOptions
from qvggt.postprocess.covisibility import Surfaces
from qvggt.types import Prediction


def picture(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack((x * 2 % 256, y * 2 % 256, 0 * x + 80), -1).astype(np.uint8))


def predicted(room: Prediction, source, mode: str = "crop") -> Prediction:
    """The room's cameras and depth for images that lie on the disk."""
    images = load_images(source, ImageOptions(56, 14, mode=mode))
    count, _, height, width = images.images.shape
    depth = np.full((count, height, width), 2, np.float32)
    intrinsics = np.tile(np.array([[50, 0, width / 2], [0, 52, height / 2], [0, 0, 1]], np.float32), (count, 1, 1))
    return replace(
        room,
        images=images.images,
        names=images.names,
        maps=images.maps,
        cam_from_world=room.cam_from_world[:count],
        intrinsics=intrinsics,
        depth=depth,
        depth_conf=np.ones_like(depth),
        world_points=None,
        world_points_conf=None,
    )


@pytest.fixture
def photos(tmp_path):
    """Return a folder of images, each of another kind."""
    folder = tmp_path / "photos"
    folder.mkdir()
    picture(120, 90).save(folder / "a plain.JPG", quality=90)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(90, 120).save(folder / "b.jpg", quality=90, exif=turned)
    picture(120, 90).save(folder / "c.png")
    picture(120, 90).convert("L").save(folder / "d.jpg")
    picture(120, 90).save(folder / "e.webp", lossless=True)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture(120, 90).save(folder / "f.jpg", icc_profile=srgb)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(lab)  # the red and blue primaries change places
    red, blue = swapped.index(b"rXYZ"), swapped.index(b"bXYZ")
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    picture(120, 90).save(folder / "g.jpg", icc_profile=bytes(swapped))
    return folder


def test_write_originals_copies_srgb_jpeg_and_converts_the_rest(room_factory, photos, tmp_path):
    prediction = predicted(room_factory(frames=7), photos)
    views = write_originals(tmp_path / "out", prediction, [photos])
    assert [view.name for view in views] == ["a_plain.jpg", "b.jpg", "c.png", "d.jpg", "e.jpg", "f.jpg", "g.jpg"]
    stored = {path.read_bytes() for path in photos.glob("*.[jJ]*")}
    same = [view.name for view in views if (tmp_path / "out" / view.name).read_bytes() in stored]
    assert same == ["a_plain.jpg", "f.jpg"]
    for view in views:
        with Image.open(tmp_path / "out" / view.name) as image:
            assert (image.mode, image.size, image.size) == ("RGB", view.size, (120, 90))
            assert image.getexif().get(0x0112, 1) == 1
    with Image.open(photos / "b.jpg") as stored, Image.open(tmp_path / "out" / "b.jpg") as image:
        upright = np.asarray(stored.transpose(Image.Transpose.ROTATE_270), int)
        assert np.abs(np.asarray(image, int) - upright).mean() < 1.5
    with Image.open(tmp_path / "out" / "c.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(picture(120, 90)))
    with Image.open(tmp_path / "out" / "g.jpg") as image:  # converted from its profile
        assert image.info.get("icc_profile") is None
        assert np.abs(np.asarray(image, int) - np.asarray(picture(120, 90), int)).mean() > 10


def test_write_originals_makes_jpeg_of_heic_under_any_ending(room_factory, tmp_path):
    heif = pytest.importorskip("pillow_heif")
    (tmp_path / "photos").mkdir()
    heif.from_pillow(picture(120, 90)).save(tmp_path / "photos" / "a.heic")
    heif.from_pillow(picture(120, 90)).save(tmp_path / "photos" / "b.png")
    (tmp_path / "photos" / "b.png").rename(tmp_path / "photos" / "b.jpg")
    prediction = predicted(room_factory(frames=2), tmp_path / "photos")
    views = write_originals(tmp_path / "out", prediction, [tmp_path / "photos"])
    assert [view.name for view in views] == ["a.jpg", "b.jpg"]
    for view in views:
        with Image.open(tmp_path / "out" / view.name) as image:
            assert (image.format, image.size) == ("JPEG", (120, 90))


@pytest.mark.parametrize(("size", "mode"), [((120, 90), "crop"), ((60, 130), "crop"), ((60, 130), "pad")])
@pytest.mark.parametrize("resolution", ["original", "processed"])
def test_views_project_points_onto_the_exported_pixels(room_factory, tmp_path, size, mode, resolution):
    (tmp_path / "photos").mkdir()
    for index in range(2):
        picture(*size).save(tmp_path / "photos" / f"{index}.png")
    prediction = predicted(room_factory(frames=2), tmp_path / "photos", mode)
    if resolution == "original":
        views = write_originals(tmp_path / "out", prediction, [tmp_path / "photos"])
        assert views[0].size == size
    else:
        views = write_processed(tmp_path / "out", prediction)
    surfaces = Surfaces.of(prediction)
    for index, view in enumerate(views):
        with Image.open(tmp_path / "out" / view.name) as image:
            assert image.size == view.size
            exported = np.asarray(image)
        seen = np.flatnonzero(surfaces.valid(index))
        points = surfaces.surface_points(index, seen)
        local = (points @ view.cam_from_world[:, :3].T + view.cam_from_world[:, 3]) @ view.intrinsics.T
        pixels = local[:, :2] / local[:, 2:]
        rows, columns = np.divmod(seen, prediction.depth.shape[2])
        np.testing.assert_allclose(pixels, view.place(np.column_stack((columns, rows)) + 0.5), atol=1e-3)
        # The colors there are those of the processed pixels.
        found = exported[tuple(np.clip(pixels, 0, np.array(view.size) - 1).astype(int).T[::-1])]
        expected = prediction.images[index][:, rows, columns].T * 255
        inner = (np.abs(found.astype(float) - expected) < 30).all(1)
        assert inner.mean() > 0.9


def test_write_masks_follow_the_images(room, tmp_path):
    mask = np.ones(room.depth.shape, bool)
    mask[1, :21] = False
    views = write_processed(tmp_path / "images", replace(room, mask=mask))
    large = [replace(view, frame=room.maps[0]) for view in views]  # four times the size
    write_masks(tmp_path / "masks", room, large)
    assert not (tmp_path / "masks").exists()
    write_masks(tmp_path / "masks", replace(room, mask=mask), large)
    assert [path.name for path in sorted((tmp_path / "masks").iterdir())] == [f"{view.name}.png" for view in views]
    with Image.open(tmp_path / "masks" / f"{views[1].name}.png") as image:
        assert (image.mode, image.size) == ("L", room.maps[0].original_size)
        np.testing.assert_array_equal(np.asarray(image) == 0, np.arange(42 * 4)[:, None] < 84 + np.zeros(56 * 4))


def test_with_shared_intrinsics_takes_the_median_of_equal_sizes(room):
    intrinsics = room.intrinsics.copy()
    intrinsics[:, 0, 0] = [40, 41, 45, 90]
    maps = (*room.maps[:3], replace(room.maps[3], original_size=(168, 224)))
    shared = with_shared_intrinsics(replace(room, intrinsics=intrinsics, maps=maps)).intrinsics
    np.testing.assert_array_equal(shared[:, 0, 0], [41, 41, 41, 90])


def test_names_of_video_frames_and_folders_are_safe(room, tmp_path):
    names = ("walk.mp4#0", "walk.mp4#12", "left/a.jpg", "right/a.jpg")
    views = write_processed(tmp_path, replace(room, names=names))
    assert [view.name for view in views] == ["walk.mp4_0.png", "walk.mp4_12.png", "left_a.png", "right_a.png"]
