"""What visitors give: photographs or a video, checked before the work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from qvggt.images.decode import open_image
from qvggt.images.files import IMAGE_SUFFIXES, RAW_SUFFIXES, READABLE, VIDEO_SUFFIXES, suffix
from qvggt.options.app import AppLimits
from qvggt.types import QvggtError

SUFFIXES = tuple(sorted(IMAGE_SUFFIXES | RAW_SUFFIXES | VIDEO_SUFFIXES))
"""File endings that are taken."""


def check_uploads(paths: Sequence[Path], limits: AppLimits) -> None:
    """Check the number, kinds and sizes of files; of photographs only the headers are read.

    Raises:
        QvggtError: there are none or too many, one is too large or of another kind, or a video is not alone.
    """
    if not paths:
        raise QvggtError("there is nothing to reconstruct: add photographs or a video first")
    videos = [path for path in paths if suffix(path) in VIDEO_SUFFIXES]
    if videos and len(paths) > 1:
        raise QvggtError(f"{videos[0].name} is a video: give one video alone, or photographs only")
    if len(paths) > limits.images:
        raise QvggtError(f"got {len(paths)} photographs, and at most {limits.images} are taken: remove some")
    for path in paths:
        _check_file(path, limits)


def _check_file(path: Path, limits: AppLimits) -> None:
    if suffix(path) not in SUFFIXES:
        raise QvggtError(f"{path.name} is neither a photograph nor a video: give {READABLE} files, or a video")
    try:
        size = path.stat().st_size
    except OSError:
        raise QvggtError(f"{path.name} is gone, because this page was not used for a while: add it again") from None
    if size > limits.file_mb * 1e6:
        raise QvggtError(
            f"{path.name} has {size / 1e6:.0f} MB, and files of at most {limits.file_mb} MB are taken: "
            "give a smaller copy, or a shorter video"
        )
    if suffix(path) in IMAGE_SUFFIXES:
        width, height = _pixels(path)
        if width * height > limits.megapixels * 1e6:
            raise QvggtError(
                f"{path.name} has {width * height / 1e6:.0f} megapixels, and photographs of at most "
                f"{limits.megapixels} are taken: give a smaller copy"
            )


def _pixels(path: Path) -> tuple[int, int]:
    try:
        with open_image(path) as image:
            return image.size
    except QvggtError:
        raise
    except Exception as error:  # on damaged files the decoders raise a dozen unrelated types
        raise QvggtError(f"{path.name} is not a readable image: give {READABLE} files") from error


def take_uploads(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Link or copy files into a new folder, in place of an earlier one, under names of their own; return them in order.

    Phones call every picture that they take ``image.jpg``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    taken: list[Path] = []
    for path in paths:
        place, number = folder / path.name, 1
        while place.exists():
            number += 1
            place = folder / f"{path.stem}-{number}{path.suffix}"
        try:
            os.link(path, place)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, place)
        taken.append(place)
    return taken
