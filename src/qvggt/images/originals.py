"""Read the photographs or video frames of a reconstruction again, at their original size."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

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
from qvggt.images.limits import pillow_limit
from qvggt.images.video import read_frame_times, read_video_frames
from qvggt.types import FrameMap, PathLike, QvggtError


@dataclass(frozen=True)
class Original:
    """The original image of a frame.

    Attributes:
        image: upright 8-bit sRGB.
        path: its file, or None for a frame of a video.
    """

    image: Image.Image
    path: Path | None

    def is_srgb_jpeg(self) -> bool:
        """Return whether the file is a JPEG whose stored pixels are ``image``: upright RGB, without another profile."""
        if self.path is None:
            return False
        try:
            with pillow_limit.lifted(), Image.open(self.path, formats=("JPEG",)) as stored:
                probe = Image.new("RGB", (1, 1))
                probe.info["icc_profile"] = stored.info.get("icc_profile")
                upright = stored.getexif().get(ExifTags.Base.Orientation, 1) == 1
                return upright and (stored.format, stored.mode) == ("JPEG", "RGB") and profile_to_srgb(probe) is probe
        except UnidentifiedImageError:
            return False


def read_originals(
    sources: Sequence[PathLike], names: Sequence[str], maps: Sequence[FrameMap]
) -> Iterator[Image.Image]:
    """Yield the original image of each frame; see ``open_originals``."""
    for original in open_originals(sources, names, maps):
        yield original.image
        del original  # or it would be held while the next one is decoded


def open_originals(sources: Sequence[PathLike], names: Sequence[str], maps: Sequence[FrameMap]) -> Iterator[Original]:
    """Yield the original of each frame, one in memory at a time.

    Args:
        sources: what the frames were read from: a folder, a glob, a video, or image files.
        names: the frames' names, as ``load_images`` gave them.
        maps: one per frame; their original sizes are checked.

    Raises:
        QvggtError: a source or a frame is not found, cannot be read, or has another size than it had.
    """
    if len(names) != len(maps):
        raise ValueError(f"expected one map for each of {len(names)} names, got {len(maps)}")
    originals = _originals(sources, names)
    for name, frame in zip(names, maps, strict=True):
        original = next(originals)  # not by zip, which would hold it while the next one is decoded
        image = original.image
        if image.size != frame.original_size:
            was = "x".join(map(str, frame.original_size))
            raise QvggtError(
                f"{name} has {image.width}x{image.height} px, and {was} were reconstructed: give the original images, "
                "or reconstruct again"
            )
        yield original
        del original, image


def frame_times(sources: Sequence[PathLike], names: Sequence[str]) -> list[float] | None:
    """Return the time in seconds at which each frame of a video is shown, or None if the source is no video.

    Raises:
        QvggtError: the source is not found, cannot be read, or a name is not one of its frames.
    """
    paths = _paths(sources)
    if len(paths) != 1 or suffix(paths[0]) not in VIDEO_SUFFIXES:
        return None
    times = read_frame_times(paths[0])
    numbers = [_number(name, paths[0]) for name in names]
    if max(numbers) >= len(times):
        raise QvggtError(
            f"{quote(paths[0])} has no frame {max(numbers)}: name the video that was reconstructed (--images)"
        )
    return [times[number] for number in numbers]


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


def _originals(sources: Sequence[PathLike], names: Sequence[str]) -> Iterator[Original]:
    paths = _paths(sources)
    if len(paths) == 1 and suffix(paths[0]) in VIDEO_SUFFIXES:
        for image in read_video_frames(paths[0], [_number(name, paths[0]) for name in names]):
            yield Original(image, None)
            del image
        return
    chosen = _named(paths, sources, names)
    white = WhiteLevel(chosen)
    for name, path in zip(names, chosen, strict=True):
        yield Original(profile_to_srgb(read_picture(path, name, white).image), path)


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
