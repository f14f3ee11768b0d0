"""The mark in image files that qvggt rendered, by which they are told from photographs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, PngImagePlugin

from qvggt.images.decode import open_image
from qvggt.images.files import RAW_SUFFIXES, VIDEO_SUFFIXES, is_pattern, list_images, match_paths, suffix
from qvggt.images.sources import ImageSource
from qvggt.types import QvggtError

MARK = "rendered by qvggt"
"""A PNG file's text ``Software``, or a JPEG file's comment."""


def save_rendered(image: Image.Image, path: Path, quality: int | None = None) -> None:
    """Write a rendered image with the mark.

    Args:
        image: 8-bit RGB.
        path: of the file.
        quality: of a JPEG file; None for PNG.
    """
    if quality is None:
        text = PngImagePlugin.PngInfo()
        text.add_text("Software", MARK)
        image.save(path, "PNG", pnginfo=text)
    else:
        image.save(path, "JPEG", quality=quality, comment=MARK)


def has_photographs(source: ImageSource) -> bool:
    """Return whether files of a source are videos, or images without the mark.

    Arrays, tensors and PIL images cannot be told apart, and files that cannot be opened are left to who reads them:
    neither counts.
    """
    return any(map(_is_photograph, _files(source)))


def _files(source: ImageSource) -> Iterator[Path]:
    """Yield the image files and videos that a source, or one folder in a list of them, names."""
    items = source if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    for path in (Path(item) for item in items if isinstance(item, (str, os.PathLike))):
        try:
            found = match_paths(str(path), quiet=True) if is_pattern(path) else [path]
            for each in found:
                yield from list_images(each, quiet=True) if each.is_dir() else [each]
        except (QvggtError, OSError, ValueError):
            continue


def _is_photograph(path: Path) -> bool:
    if suffix(path) in RAW_SUFFIXES | VIDEO_SUFFIXES:
        return path.is_file()
    try:
        if not path.is_file():
            return False
        with open_image(path) as image:
            marks = (image.info.get("Software"), image.info.get("comment"))
    except Exception:  # damaged files raise a dozen unrelated types
        return False
    return not any(mark in (MARK, MARK.encode()) for mark in marks)
