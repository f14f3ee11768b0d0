"""Photographs and video frames of a reconstruction, read again at their original size."""

import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qvggt.images import originals
from qvggt.images.decode import read_picture
from qvggt.images.originals import read_originals
from qvggt.images.preprocess import load_images
from qvggt.options import ImageOptions
from qvggt.types import QvggtError


def write_photos(folder: Path, count: int = 3) -> list[np.ndarray]:
    folder.mkdir()
    photos = [np.full((90, 120, 3), 40 * index, np.uint8) for index in range(count)]
    for index, photo in enumerate(photos):
        Image.fromarray(photo).save(folder / f"photo{index}.png")
    return photos


def test_read_originals_of_a_folder_glob_and_list(tmp_path):
    photos = write_photos(tmp_path / "photos")
    for sources in (
        [tmp_path / "photos"],
        [str(tmp_path / "photos" / "*.png")],
        [tmp_path / "photos" / f"photo{index}.png" for index in range(3)],
    ):
        source = sources[0] if len(sources) == 1 else sources
        images = load_images(source, ImageOptions(70, 14))
        originals = list(read_originals(sources, images.names[1:], images.maps[1:]))
        assert [np.asarray(original).tolist() for original in originals] == [photo.tolist() for photo in photos[1:]]


def test_read_originals_of_a_video_are_the_frames_that_were_read(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "walk.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", 10, width=64, height=48, pix_fmt="yuv420p")
        for index in range(9):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 25 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    images = load_images(tmp_path / "walk.mp4", ImageOptions(56, 14, frames=3))
    means = [np.asarray(image).mean() for image in read_originals([tmp_path / "walk.mp4"], images.names, images.maps)]
    assert np.allclose(means, images.images.mean((1, 2, 3)) * 255, atol=3)
    with pytest.raises(QvggtError, match="no frame 99"):
        list(read_originals([tmp_path / "walk.mp4"], ["walk.mp4#99"], images.maps[:1]))


def test_read_originals_holds_one_image_at_a_time(tmp_path, monkeypatch):
    write_photos(tmp_path / "photos")
    images = load_images(tmp_path / "photos", ImageOptions(70, 14))
    held = []

    def read_alone(*arguments):
        assert all(reference() is None for reference in held)
        picture = read_picture(*arguments)
        held.append(weakref.ref(picture.image))
        return picture

    monkeypatch.setattr(originals, "read_picture", read_alone)
    for image in read_originals([tmp_path / "photos"], images.names, images.maps):
        assert image.size == (120, 90)
        del image
    assert len(held) == 3


def test_read_originals_refuses_missing_and_changed_images(tmp_path):
    write_photos(tmp_path / "photos")
    images = load_images(tmp_path / "photos", ImageOptions(70, 14))
    (tmp_path / "photos" / "photo2.png").unlink()
    with pytest.raises(QvggtError, match=r"photo2\.png.*--images"):
        list(read_originals([tmp_path / "photos"], images.names, images.maps))
    Image.new("RGB", (50, 50)).save(tmp_path / "photos" / "photo2.png")
    with pytest.raises(QvggtError, match="50x50"):
        list(read_originals([tmp_path / "photos"], images.names, images.maps))
