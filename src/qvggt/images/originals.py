"""Read the photographs or video frames of a reconstruction again, at their original size."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from qvggt.images.color import profile_to_srgb
from qvggt.images.decode import read_picture
from qvggt.images.deep import WhiteLevel
from qvggt.images.files import (
    VIDEO_SUFFIXES,
    is_pattern,
    list_images,
    match_paths,
    quote,
    source_mode,
    suffix,
    unique_names,
)
from qvggt.images.video import read_video_frames
from qvggt.types import FrameMap, PathLike, QvggtError


def read_originals(
    sources: Sequence[PathLike], names: Sequence[str], maps: Sequence[FrameMap]
) -> Iterator[Image.Image]:
    """Yield the original image of each frame, upright 8-bit sRGB, one in memory at a time.

    Args:
        sources: what the frames were read from: a folder, a glob, a video, or image files.
        names: the frames' names, as ``load_images`` gave them.
        maps: one per frame; their original sizes are checked.

    Raises:
        QvggtError: a source or a frame is not found, cannot be read, or has another size than it had.
    """
    if len(names) != len(maps):
        raise ValueError(f"expected one map for each of {len(names)} names, got {len(maps)}")
    for image, name, frame in zip(_images(sources, names), names, maps, strict=True):
        if image.size != frame.original_size:
            was = "x".join(map(str, frame.original_size))
            raise QvggtError(
                f"{name} has {image.width}x{image.height} px, and {was} were reconstructed: give the original images, "
                "or reconstruct again"
            )
        yield image


def original_files(sources: Sequence[PathLike], names: Sequence[str]) -> list[Path]:
    """Return the image file of each frame.

    Raises:
        QvggtError: the frames are from a video, or a source or a frame is not found.
    """
    paths = _paths(sources)
    if len(paths) == 1 and suffix(paths[0]) in VIDEO_SUFFIXES:
        raise QvggtError(f"{quote(paths[0])} is a video, whose frames have no metadata: give image files")
    return _named(paths, sources, names)


def _named(paths: Sequence[Path], sources: Sequence[PathLike], names: Sequence[str]) -> list[Path]:
    """Return the path of each frame."""
    found = {path.name: path for path in paths} | dict(zip(unique_names(paths), paths, strict=True))
    missing = [name for name in names if name not in found]
    if missing:
        place = ", ".join(quote(source) for source in sources)
        raise QvggtError(f"the image {missing[0]!r} is not in {place}: name the place of the images (--images)")
    return [found[name] for name in names]


def _images(sources: Sequence[PathLike], names: Sequence[str]) -> Iterator[Image.Image]:
    paths = _paths(sources)
    if len(paths) == 1 and suffix(paths[0]) in VIDEO_SUFFIXES:
        yield from read_video_frames(paths[0], [_number(name, paths[0]) for name in names])
        return
    chosen = _named(paths, sources, names)
    white = WhiteLevel(chosen)
    for name, path in zip(names, chosen, strict=True):
        yield profile_to_srgb(read_picture(path, name, white).image)


def _paths(sources: Sequence[PathLike]) -> list[Path]:
    """Return the files that sources stand for."""
    if len(sources) != 1:
        return [Path(source) for source in sources]
    path = Path(os.fspath(sources[0]))
    if is_pattern(path):
        return match_paths(str(path), quiet=True)
    return list_images(path, quiet=True) if stat.S_ISDIR(source_mode(path)) else [path]


def _number(name: str, video: Path) -> int:
    stem, _, number = name.rpartition("#")
    if stem != video.name or not number.isdigit():
        raise QvggtError(f"{name!r} is not a frame of {quote(video)}: name the video that was reconstructed (--images)")
    return int(number)
