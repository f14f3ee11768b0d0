"""Images and masks beside exported cameras: the original photographs, or the images that the model saw."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from qvggt.export.cameras import original_intrinsics
from qvggt.export.depth_images import safe_names
from qvggt.files import make_folder
from qvggt.images.files import quote, suffix
from qvggt.images.masks import mask_paths, read_mask
from qvggt.images.originals import Original, open_originals
from qvggt.postprocess.distortion import Lens
from qvggt.postprocess.frames import cameras_of, to_uint8
from qvggt.types import FrameMap, OnProgress, PathLike, Prediction, QvggtError

_LOSSLESS = frozenset((".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".ppm", ".pnm"))
_GRID_PX = 32


@dataclass(frozen=True)
class View:
    """An exported image and its camera.

    Attributes:
        name: of its file, without folders.
        frame: map from its pixels to those of the processed image; ``original_size`` is its size.
        intrinsics: [3, 3] float64 in its pixels, pixel centers at half-integers.
        cam_from_world: [3, 4] float64, OpenCV axes, its rotation exact.
    """

    name: str
    frame: FrameMap
    intrinsics: np.ndarray
    cam_from_world: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.frame.original_size

    def place(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels [N, 2] of this image from those [N, 2] of the processed one."""
        return (pixels - self.frame.offset) / self.frame.scale


def with_shared_intrinsics(prediction: Prediction) -> Prediction:
    """Return a prediction in which all photographs of one size have the median of their intrinsics.

    Raises:
        QvggtError: it has no finite cameras.
    """
    _, intrinsics = cameras_of(prediction)
    shared = intrinsics.copy()
    for frame in set(prediction.maps):
        same = np.array([other == frame for other in prediction.maps])
        shared[same] = np.median(intrinsics[same], axis=0)
    return replace(prediction, intrinsics=shared)


def write_originals(
    folder: Path,
    prediction: Prediction,
    sources: Sequence[PathLike],
    lenses: Sequence[Lens | None] | None = None,
    on_progress: OnProgress | None = None,
) -> list[View]:
    """Write the original photographs, upright and in sRGB, and return their views.

    A JPEG file that is upright sRGB already is copied. Of the others, those without lossy compression become PNG, the
    rest (HEIC, camera raw, video frames, turned and undistorted JPEG) become JPEG of quality 95.

    Args:
        folder: for the images; created if missing.
        prediction: with cameras, undistorted if there are lenses.
        sources: see ``open_originals``.
        lenses: of the photographs to undistort, None for those that stay.
        on_progress: called before each image.

    Raises:
        QvggtError: there are no cameras, an original is not found or is another image, or a file cannot be written.
    """
    make_folder(folder)
    originals = open_originals(sources, prediction.names, prediction.maps)
    names = []
    for number, stem in enumerate(safe_names(prediction.names)):
        if on_progress is not None:
            on_progress(f"image {number + 1} of {len(prediction.names)}", number / len(prediction.names))
        names.append(_write_original(folder / stem, next(originals), lenses[number] if lenses else None))
    return _views(prediction, names, prediction.maps)


def write_processed(folder: Path, prediction: Prediction) -> list[View]:
    """Write the images that the model saw as PNG, without padding, and return their views.

    Raises:
        QvggtError: there are no cameras, or a file cannot be written.
    """
    make_folder(folder)
    height, width = prediction.images.shape[2:]
    names, frames = [], []
    for stem, image, frame in zip(safe_names(prediction.names), prediction.images, prediction.maps, strict=True):
        ends = np.add(frame.offset, np.multiply(frame.original_size, frame.scale))
        left, top = (max(0, round(offset)) for offset in frame.offset)
        right, bottom = (min(limit, round(end)) for limit, end in zip((width, height), ends.tolist(), strict=True))
        Image.fromarray(to_uint8(image[:, top:bottom, left:right].transpose(1, 2, 0))).save(folder / f"{stem}.png")
        names.append(f"{stem}.png")
        frames.append(FrameMap((right - left, bottom - top), (1.0, 1.0), (float(left), float(top))))
    return _views(prediction, names, frames)


def undistorted_image(
    image: Image.Image, lens: Lens, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Return a photograph, at its size, as a lens without distortion would have taken it.

    Between the corners of a grid of 32 px the map is linear in x and y.
    """
    focal, (width, height) = lens.undistorted_focal, image.size
    edges = [np.append(np.arange(0, side, _GRID_PX), side) for side in (width, height)]
    corners = np.stack(np.meshgrid(*edges), -1)
    sources = lens.sources(corners.reshape(-1, 2).astype(float), focal).reshape(corners.shape)
    quads = np.stack(
        (sources[:-1, :-1], sources[1:, :-1], sources[1:, 1:], sources[:-1, 1:]), 2
    )  # from the top left down
    boxes = np.concatenate((corners[:-1, :-1], corners[1:, 1:]), -1)
    mesh = list(zip(map(tuple, boxes.reshape(-1, 4).tolist()), map(tuple, quads.reshape(-1, 8).tolist()), strict=True))
    return image.transform(image.size, Image.Transform.MESH, mesh, resample)


def write_masks(
    folder: Path,
    prediction: Prediction,
    views: Sequence[View],
    masks: Path | None = None,
    lenses: Sequence[Lens | None] | None = None,
) -> None:
    """Write the user's masks as ``NAME.png`` beside each image ``NAME``, at its size: 255 keeps a pixel, 0 excludes it.

    Without masks in the prediction nothing is written. Without the user's files, the masks of the processed images are
    enlarged, and pixels of the photograph that a processed image lacks have the value of the nearest one that it has.

    Args:
        folder: for the masks.
        prediction: undistorted if there are lenses.
        views: of the exported images.
        masks: folder of the user's masks, for the original photographs.
        lenses: of the photographs that were undistorted.

    Raises:
        QvggtError: a mask of the user cannot be read or has another shape than its photograph.
    """
    if prediction.mask is None:
        return
    make_folder(folder)
    paths = [None] * len(views) if masks is None else mask_paths(masks, prediction.names)
    if masks is not None and not any(paths):
        raise QvggtError(f"no image has a mask in {quote(masks)}: name the folder of the masks (--masks)")
    for number, (view, path) in enumerate(zip(views, paths, strict=True)):
        lens = lenses[number] if lenses else None
        written = _enlarged(prediction.mask[number], view) if path is None else _original_mask(path, view, lens)
        written.save(folder / f"{view.name}.png")


def _enlarged(mask: np.ndarray, view: View) -> Image.Image:
    """Return the mask [H, W] of a processed image at the size of its exported image."""
    rows, columns = (
        np.clip((np.arange(size) + 0.5) * scale + offset, 0, limit - 1).astype(int)
        for size, scale, offset, limit in zip(
            view.size[::-1], view.frame.scale[::-1], view.frame.offset[::-1], mask.shape, strict=True
        )
    )
    return Image.fromarray(mask[rows[:, None], columns].astype(np.uint8) * 255)


def _original_mask(path: Path, view: View, lens: Lens | None) -> Image.Image:
    """Return the user's mask of a photograph, at its size."""
    mask = Image.fromarray(read_mask(path, view.size).astype(np.uint8) * 255).resize(
        view.size, Image.Resampling.NEAREST
    )
    return mask if lens is None else undistorted_image(mask, lens, Image.Resampling.NEAREST)


def _write_original(place: Path, original: Original, lens: Lens | None) -> str:
    """Write one image as ``place`` with a suitable ending and return its name."""
    if lens is not None:
        original = replace(original, image=undistorted_image(original.image, lens))
    elif original.is_srgb_jpeg():
        assert original.path is not None
        name = f"{place.name}.jpg"
        shutil.copyfile(original.path, place.with_name(name))
        return name
    if original.path is not None and suffix(original.path) in _LOSSLESS:
        name = f"{place.name}.png"
        original.image.save(place.with_name(name))
    else:
        name = f"{place.name}.jpg"
        original.image.save(place.with_name(name), quality=95, subsampling=0)
    return name


def _views(prediction: Prediction, names: Sequence[str], frames: Sequence[FrameMap]) -> list[View]:
    cameras, intrinsics = cameras_of(prediction)
    return [
        View(name, frame, original_intrinsics(lens, frame), camera)
        for name, frame, lens, camera in zip(names, frames, intrinsics, _rigid(cameras), strict=True)
    ]


def _rigid(cameras: np.ndarray) -> Iterator[np.ndarray]:
    """Yield cameras [3, 4] whose rotations are the nearest exact ones."""
    for camera in cameras:
        left, _, right = np.linalg.svd(camera[:, :3])
        yield np.column_stack((left @ right, camera[:, 3]))
