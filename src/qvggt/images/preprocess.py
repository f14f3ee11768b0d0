"""Preprocess photographs and videos as the published weights expect.

``crop`` makes every image ``size`` wide and crops heights above ``size``; ``pad`` keeps the whole image and pads it to
a square with white. A ``FrameMap`` per image maps original pixels to processed ones.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from qvggt.files.stored import ArrayQueue, FrameStore
from qvggt.images.color import profile_to_srgb
from qvggt.images.decode import Picture, array_as_rgb, as_rgb, read_picture
from qvggt.images.deep import WhiteLevel
from qvggt.images.files import (
    VIDEO_SUFFIXES,
    evenly_spread,
    is_pattern,
    list_images,
    match_paths,
    quote,
    source_mode,
    suffix,
    unique_names,
)
from qvggt.images.limits import MemoryLeft, TooLittleMemoryError
from qvggt.images.sources import ImageSource, items_of
from qvggt.images.video import read_video
from qvggt.options import ImageOptions
from qvggt.types import FrameMap, ImageSet, PathLike, QvggtError

log = logging.getLogger(__name__)


# Of a strip this many times taller than the crop only the kept part is resized: the whole could exceed the memory.
_TALLEST = 64

_NOTHING = "no images given: name a folder, a video or image files"


def load_images(
    source: ImageSource,
    options: ImageOptions | None = None,
    memory_left: MemoryLeft | None = None,
    folder: Path | None = None,
) -> ImageSet:
    """Read photographs or a video and preprocess them for the model.

    Images are decoded and resized one at a time, so only one is in memory at full size.

    Args:
        source: a folder (its image files in natural order, ``img2`` before ``img10``; subfolders are not searched),
            a glob pattern, one image, one video, or a list of image paths, PIL images, arrays (as ``array_as_rgb``
            takes them) and tensors [3, H, W] in the order given; a list of one path is that path. Also an array
            [S, H, W, 3] or a tensor [S, 3, H, W]. Arrays and tensors are RGB, uint8 or 0..1.
        options: size, mode and number of frames; the defaults if None.
        memory_left: returns the bytes that decoding the next image may take; None for no limit. JPEG and camera
            raw files that take more are decoded at reduced size.
        folder: in which the processed images are kept, as ``images.npy``, instead of in memory.

    Returns:
        The images [S, 3, H, W] with their names and maps. Files of a folder or pattern that are not images or cannot be
        read are skipped, with one warning each; an image given by its own path must be readable, and so must be half of
        the images of a folder or pattern.

    Raises:
        QvggtError: nothing to read, a given path cannot be read, or an array or tensor has another shape, type or
            range; the message says which and why.
    """
    options = options or ImageOptions()
    items = items_of(source)
    if not items or any(isinstance(item, str) and not item for item in items):  # Path("") is the current folder
        raise QvggtError(_NOTHING)
    if len(items) == 1 and isinstance(items[0], (str, os.PathLike)):
        pictures = _from_path(Path(items[0]), options, memory_left)
    else:
        pictures = _from_list(items, options, memory_left)
    images = _assemble(pictures, options, folder)
    _warn_of_cropping(images.maps, options)
    return images


def check_source(paths: Sequence[PathLike]) -> None:
    """Check that ``load_images`` would find images under these paths, without reading one.

    Raises:
        QvggtError: no path, one that does not exist, or a folder or pattern without images.
    """
    if not paths or any(not os.fspath(path) for path in paths):
        raise QvggtError(_NOTHING)
    for path in map(Path, paths):
        if is_pattern(path):
            match_paths(str(path), quiet=True)
        elif stat.S_ISDIR(source_mode(path)) and len(paths) == 1:
            list_images(path, quiet=True)


def preprocess(images: Iterable[Image.Image], names: Iterable[str], options: ImageOptions | None = None) -> ImageSet:
    """Preprocess PIL images for the model: upright, RGB over white, resized (bicubic), cropped or padded.

    With size 518 and patch 14, ``crop`` resizes to width 518 and height round(h * 518 / w / 14) * 14, of which the
    middle 518 rows are kept; ``pad`` resizes the longer side to 518 and the other to a multiple of 14, centered on a
    white square. Each side has at least one patch. Images of different processed sizes are centered on white of the
    largest height and width.

    Args:
        images: at least one, of any mode and size; not modified.
        names: one per image.
        options: the defaults if None; ``fps`` and ``frames`` are ignored.

    Raises:
        QvggtError: no images, or the pixels of one cannot be decoded.
        ValueError: numbers of names and images differ.
    """
    pairs = zip(names, images, strict=True)
    return _assemble(_pictures((name, as_rgb(image, name)) for name, image in pairs), options or ImageOptions())


def _from_path(path: Path, options: ImageOptions, memory_left: MemoryLeft | None) -> Iterator[Picture]:
    if is_pattern(path):
        matches = match_paths(str(path))
        if len(matches) > 1:
            return _from_files(matches, f"images that match {quote(path)}", options, memory_left)
        path = matches[0]
    mode = source_mode(path)
    if stat.S_ISDIR(mode):
        return _from_files(list_images(path), f"images in the folder {quote(path)}", options, memory_left)
    if stat.S_ISREG(mode) and suffix(path) in VIDEO_SUFFIXES:
        return _pictures(read_video(path, options.fps, options.frames, memory_left))
    _refuse_fps(options)
    return iter([read_picture(path, path.name, max_bytes=_bytes_left(memory_left))])


def _pictures(images: Iterable[tuple[str, Image.Image]]) -> Iterator[Picture]:
    for name, image in images:
        yield Picture(name, image, image.size)
        del image  # or it would be held while the next one is decoded


def _from_files(
    paths: Sequence[Path], what: str, options: ImageOptions, memory_left: MemoryLeft | None
) -> Iterator[Picture]:
    """Yield the images of files found by a folder or pattern; unreadable ones are skipped, unless they are most."""
    _refuse_fps(options)
    paths = evenly_spread(paths, options.frames)
    white, failures = WhiteLevel(paths), []
    for name, path in zip(unique_names(paths), paths, strict=True):
        try:
            picture = read_picture(path, name, white, _bytes_left(memory_left))
        except TooLittleMemoryError:  # skipping it would change the result with the limit
            raise
        except QvggtError as error:
            failures.append(error)
        else:
            yield picture
            del picture  # or it would be held while the next one is decoded
    if len(failures) == len(paths):
        raise QvggtError(f"none of the {len(paths)} {what} could be read, for instance: {failures[0]}")
    if 2 * len(failures) > len(paths):
        raise QvggtError(
            f"only {len(paths) - len(failures)} of the {len(paths)} {what} could be read: remove the others, or name "
            f"the readable files one by one; the first error: {failures[0]}"
        )
    if failures:
        log.warning("skipped %d of the %d %s, first: %s", len(failures), len(paths), what, failures[0])


def _from_list(
    items: Sequence[PathLike | Image.Image | np.ndarray], options: ImageOptions, memory_left: MemoryLeft | None
) -> Iterator[Picture]:
    _refuse_fps(options)
    names = iter(unique_names([Path(item) for item in items if isinstance(item, (str, os.PathLike))]))
    named = [
        (next(names) if isinstance(item, (str, os.PathLike)) else f"image_{index:04d}", item)
        for index, item in enumerate(items)
    ]
    named = evenly_spread(named, options.frames)
    white = WhiteLevel([Path(item) if isinstance(item, str) else item for _, item in named])
    for name, item in named:
        if isinstance(item, (str, os.PathLike)):
            yield read_picture(Path(item), name, white, _bytes_left(memory_left))
            continue
        if isinstance(item, Image.Image):
            image = as_rgb(item, name, white)
        elif isinstance(item, np.ndarray):
            image = array_as_rgb(item, name, white)
        else:
            raise QvggtError(f"{name}: expected a path, a PIL image, an array or a tensor, got {type(item).__name__}")
        yield Picture(name, image, image.size)
        del image


def _bytes_left(memory_left: MemoryLeft | None) -> int | None:
    return None if memory_left is None else memory_left()


def _refuse_fps(options: ImageOptions) -> None:
    if options.fps is not None:
        raise QvggtError(
            "frames per second apply to a video only: give a video, or a number of frames (--frames, not --fps)"
        )


def _assemble(pictures: Iterable[Picture], options: ImageOptions, folder: Path | None = None) -> ImageSet:
    """Return one batch of pictures, in memory or in a folder; each picture is released once it is resized."""
    tiles = [] if folder is None else ArrayQueue(folder)
    names, sizes, maps = [], [], []
    for picture in pictures:
        tile, frame_map = _shrink(picture, options)
        names.append(picture.name)
        del picture
        tiles.append(tile)
        sizes.append(tile.shape[:2])
        maps.append(frame_map)
    if not names:
        raise QvggtError(_NOTHING)
    least = options.size if options.mode == "pad" else 0
    height, width = (max(least, *lengths) for lengths in zip(*sizes, strict=True))
    for index, (rows, columns) in enumerate(sizes):
        maps[index] = _shifted(maps[index], (width - columns) // 2, (height - rows) // 2)
    frames = (_centered(tile, height, width) for tile in tiles)
    if folder is None:
        images = np.empty((len(names), 3, height, width), np.float32)
        for index, frame in enumerate(frames):
            images[index] = frame
    else:
        store = FrameStore(folder, len(names))
        store.write_each("images", frames)
        images = store.array("images")
    return ImageSet(images=images, maps=tuple(maps), names=tuple(names))


def _centered(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a picture [h, w, 3] uint8 as [3, height, width] float32 in 0..1, on white."""
    canvas = np.full((height, width, 3), 255, np.uint8)
    top, left = (height - tile.shape[0]) // 2, (width - tile.shape[1]) // 2
    canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return np.divide(canvas.transpose(2, 0, 1), 255, dtype=np.float32, order="C")


def _shrink(picture: Picture, options: ImageOptions) -> tuple[np.ndarray, FrameMap]:
    """Return one picture resized, and cropped in ``crop`` mode, as [h, w, 3] uint8, with its FrameMap."""
    image, (width, height) = picture.image, picture.size
    new_width, new_height = _resized(width, height, options)
    rows = min(new_height, options.size)  # never fewer than new_height in pad mode
    top = (new_height - rows) // 2
    if new_height > _TALLEST * options.size:
        box = (0, top * image.height / new_height, image.width, (top + rows) * image.height / new_height)
        tile, first = image.resize((new_width, rows), Image.Resampling.BICUBIC, box=box), 0
    else:
        tile, first = image.resize((new_width, new_height), Image.Resampling.BICUBIC), top
    tile.info = image.info
    scale = (new_width / width, new_height / height)
    pixels = np.asarray(profile_to_srgb(tile))[first : first + rows]
    return pixels, FrameMap(original_size=(width, height), scale=scale, offset=(0.0, float(-top)))


def _warn_of_cropping(maps: Sequence[FrameMap], options: ImageOptions) -> None:
    """Log how many images were cropped in ``crop`` mode, and by how much."""
    if options.mode != "crop":
        return
    shares = [1 - options.size / (frame.original_size[1] * frame.scale[1]) for frame in maps]
    cut = [share for share in shares if share > 0]
    if cut:
        noun = "image" if len(maps) == 1 else "images"
        log.warning(
            "%d of %d %s cropped to a square: up to %d %% of the height is cut off; use --mode pad (mode=\"pad\") to "
            "keep all of it", len(cut), len(maps), noun, round(100 * max(cut)),
        )  # fmt: skip


def _resized(width: int, height: int, options: ImageOptions) -> tuple[int, int]:
    """Return width and height after resizing, before cropping or padding; ties are rounded to even patch counts."""

    def other(this: int, fixed: int) -> int:
        return max(1, round(this * options.size / fixed / options.patch)) * options.patch

    if options.mode == "pad" and height > width:
        return other(width, height), options.size
    return options.size, other(height, width)


def _shifted(frame_map: FrameMap, left: int, top: int) -> FrameMap:
    x, y = frame_map.offset
    return FrameMap(frame_map.original_size, frame_map.scale, (x + left, y + top))
