"""Masks of photographs: which pixels of a reconstruction the user keeps."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qvggt.images.decode import read_picture
from qvggt.images.files import IMAGE_SUFFIXES, natural_key, os_reason, quote, suffix
from qvggt.types import FrameMap, ImageSet, PathLike, QvggtError

log = logging.getLogger(__name__)

_WHITE = 128
"""Least gray level, of 255, that keeps a pixel."""


def find_masks(folder: PathLike) -> dict[str, Path]:
    """Return the image files below a folder, keyed by their path inside it without the last ending.

    Raises:
        QvggtError: it is not a folder that can be listed, or contains no images.
    """
    folder = Path(os.fspath(folder))
    try:
        os.listdir(folder)
    except OSError as error:
        raise QvggtError(f"the folder of masks {quote(folder)} {os_reason(error)}") from error
    paths = sorted((path for path in folder.rglob("*") if suffix(path) in IMAGE_SUFFIXES), key=natural_key)
    if not paths:
        raise QvggtError(
            f"the folder of masks {quote(folder)} contains no images: expected one for each photograph, of its name "
            "(--masks)"
        )
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in reversed(paths)}


def load_masks(folder: PathLike, images: ImageSet) -> np.ndarray:
    """Return [S, H, W] bool, True on the pixels of preprocessed images that masks keep, in white.

    The mask of ``a.jpg`` is ``a.jpg.png`` or ``a.png`` (or has another image's ending), that of the frame
    ``walk.mp4#12`` is ``walk.mp4#12.png``, or ``walk.png`` for all of them. A pixel is taken from the mask at its
    center. Images without a mask are kept whole, with one warning for all of them.

    Args:
        folder: of the masks, with the subfolders that are in the images' names.
        images: whose names and maps say where their pixels are in the photographs.

    Raises:
        QvggtError: no image has a mask, a mask cannot be read or has another shape than its photograph, or nothing of
            any image is kept.
    """
    paths = mask_paths(folder, images.names)
    missing = [name for name, path in zip(images.names, paths, strict=True) if path is None]
    if len(missing) == len(paths):
        raise QvggtError(f"no image has a mask in {quote(folder)}: expected, for instance, {missing[0]}.png")
    if missing:
        log.warning("%d of %d images have no mask and are kept whole, first: %s", len(missing), len(paths), missing[0])
    masks = np.ones((len(paths), *images.images.shape[-2:]), bool)
    for index, path in enumerate(paths):
        if path is not None:
            masks[index] = _mapped(path, images.maps[index], masks.shape[1:])
    if not masks.any():
        raise QvggtError(
            f"the masks in {quote(folder)} keep nothing: pixels to keep must be white, 255 of 255 (--masks)"
        )
    return masks


def mask_paths(folder: PathLike, names: Sequence[str]) -> list[Path | None]:
    """Return the mask of each image by its name, None for those without.

    Raises:
        QvggtError: the folder cannot be listed, or contains no images.
    """
    found = find_masks(folder)
    return [found.get(name) or found.get(Path(name).with_suffix("").as_posix()) for name in names]


def read_mask(path: Path, original_size: tuple[int, int]) -> np.ndarray:
    """Return the mask of a photograph, bool, at its own size; True where it keeps.

    Args:
        path: of the mask.
        original_size: width and height of the photograph.

    Raises:
        QvggtError: it cannot be read, or has another shape than the photograph.
    """
    white = np.asarray(read_picture(path, path.name).image.convert("L")) >= _WHITE
    width, height = original_size
    rows, columns = white.shape
    if abs(columns * height / width - rows) > 1 and abs(rows * width / height - columns) > 1:
        raise QvggtError(
            f"the mask {quote(path)} has {columns}x{rows} px, its photograph {width}x{height}: give it the same shape"
        )
    return white


def _mapped(path: Path, frame: FrameMap, size_hw: tuple[int, ...]) -> np.ndarray:
    """Return [H, W] bool, the mask of one photograph on the pixels of its processed image."""
    white = read_mask(path, frame.original_size)
    (width, height), (rows, columns) = frame.original_size, white.shape
    lines = []
    for axis, count, original, pixels in ((1, size_hw[0], height, rows), (0, size_hw[1], width, columns)):
        place = (np.arange(count) + 0.5 - frame.offset[axis]) / frame.scale[axis] * (pixels / original)
        lines.append(np.clip(np.floor(place), 0, pixels - 1).astype(np.int64))
    return white[np.ix_(*lines)]
