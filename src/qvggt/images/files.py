"""Read image files, PIL images and arrays as upright 8-bit RGB images.

``read_image`` chooses the decoder, applies the EXIF orientation, composites transparency over white and converts deeper
pixels to 8 bits. Color profiles are not applied.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from qvggt.types import QvggtError

log = logging.getLogger(__name__)

T = TypeVar("T")

IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "webp", "tif", "tiff", "bmp"),
        *("heic", "heif", "hif", "avif", "gif", "pgm", "ppm", "pnm", "jp2"),
    )
)
"""File endings (in any case) that are images."""

VIDEO_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("mp4", "mov", "m4v", "avi", "mkv", "webm", "mpg", "mpeg"),
        *("wmv", "3gp", "mts", "m2ts", "ts", "flv", "ogv"),
    )
)
"""File endings (in any case) that are videos."""

MAX_PIXELS = 500_000_000
"""Largest image that is decoded, in pixels: 2 GB in memory, well above the largest panoramas."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_READABLE = "JPEG, PNG, WebP, TIFF, BMP, HEIC"
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))

# The inverse of each EXIF orientation; 1 and every unknown value mean "as stored".
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def quote(path: str | os.PathLike[str]) -> str:
    """Return the path in quotes on one line, with control characters and undecodable bytes escaped."""
    return repr(os.fspath(path))


def suffix(path: Path) -> str:
    """Return the ending of a file name in lower case, e.g. ``.jpg``."""
    return path.suffix.lower()


def natural_key(path: Path) -> tuple[tuple[str | int, ...], ...]:
    """Return a sort key by which ``img2`` comes before ``img10``; ties are broken by the exact name.

    >>> sorted(map(Path, ["img10.png", "img2.png", "Img1.png"]), key=natural_key)[0].name
    'Img1.png'
    """
    parts = [re.split(r"([0-9]+)", part) for part in path.parts]
    folded = [tuple(int(t) if i % 2 else t.casefold() for i, t in enumerate(part)) for part in parts]
    return (*folded, path.parts)


def evenly_spread(items: Sequence[T], limit: int | None) -> list[T]:
    """Return at most ``limit`` items, evenly spaced from the first to the last; all of them if ``limit`` is None.

    >>> evenly_spread(range(9), 3)
    [0, 4, 8]
    """
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, limit).round()]


def os_reason(error: OSError) -> str:
    """Return the reason of a failed system call, worded to follow the path."""
    if isinstance(error, FileNotFoundError):
        return "does not exist: check the path"
    if isinstance(error, PermissionError):
        return "cannot be read: no permission"
    if error.errno == errno.ELOOP:
        return "is a symbolic link to itself: replace it by the file"
    return f"cannot be read: {error.strerror or error}"


def source_mode(path: Path) -> int:
    """Return the ``st_mode`` of a path given by the user.

    Raises:
        QvggtError: the path does not exist, is not accessible, is a loop of links, or is not a valid path.
    """
    try:
        return path.stat().st_mode
    except OSError as error:
        raise QvggtError(f"{quote(path)} {os_reason(error)}") from error
    except ValueError as error:
        raise QvggtError(f"{quote(path)} is not a valid path: check the name") from error


def list_images(folder: Path, quiet: bool = False) -> list[Path]:
    """Return the image files directly in a folder, in natural order.

    Hidden files and files without an image ending are skipped with one warning (none if ``quiet``); subfolders are not
    searched.

    Raises:
        QvggtError: the folder cannot be listed or contains no images.
    """
    try:
        paths = [folder / name for name in os.listdir(folder)]
    except OSError as error:
        raise QvggtError(f"{quote(folder)} {os_reason(error)}") from error
    images = _keep_images(paths, None if quiet else f"in the folder {quote(folder)}")
    if images:
        return images
    hint = f"give a folder with {_READABLE} files"
    if any(suffix(path) in VIDEO_SUFFIXES for path in paths):
        hint = "give the video in it by its own path"
    elif any(path.is_dir() for path in paths):
        hint = "subfolders are not searched, so give one of them"
    raise QvggtError(f"the folder {quote(folder)} contains no images: {hint}")


def match_paths(pattern: str, quiet: bool = False) -> list[Path]:
    """Return the paths that match a glob pattern (``**`` for any depth), in natural order.

    A single match is returned whatever it is; of several, only the images, with one warning (none if ``quiet``) about
    the rest.

    Raises:
        QvggtError: nothing matches, or no image does.
    """
    paths = [Path(match) for match in glob.glob(pattern, recursive=True)]
    if not paths:
        raise QvggtError(f"nothing matches {quote(pattern)}: check the path or the pattern")
    if len(paths) == 1:
        return paths
    images = _keep_images(paths, None if quiet else f"among the matches of {quote(pattern)}")
    if not images:
        raise QvggtError(f"no image matches {quote(pattern)}: match {_READABLE} files")
    return images


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the file names, or if two are equal, the paths relative to the common folder, with forward slashes."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    full = [Path(os.path.abspath(path)) for path in paths]
    try:
        common = os.path.commonpath([path.parent for path in full])
    except ValueError:  # on different drives
        return [path.as_posix() for path in full]
    return [path.relative_to(common).as_posix() for path in full]


def read_image(path: Path) -> Image.Image:
    """Return one image file decoded as an upright 8-bit RGB image; the first of several pages or frames.

    Raises:
        QvggtError: the file is missing, not an image, damaged, too large, or needs the extra ``heic``.
    """
    mode = source_mode(path)
    if stat.S_ISDIR(mode):
        raise QvggtError(f"{quote(path)} is a folder: give it alone, not among images")
    if not stat.S_ISREG(mode):  # a pipe or a device would block or never end
        raise QvggtError(f"{quote(path)} is not a regular file: give an image file")
    if suffix(path) in VIDEO_SUFFIXES:
        raise QvggtError(f"{quote(path)} is a video: give it alone, not among images")
    with _decoding(quote(path)), _open(path) as image:
        return _as_rgb(image, quote(path))


def as_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Return a PIL image as upright 8-bit RGB: EXIF orientation applied, transparency over white, 16 bits scaled to 8.

    Args:
        image: of any mode; not modified.
        name: used in error messages.

    Raises:
        QvggtError: the pixels cannot be decoded, are too many, or have no defined range (see ``_gray_from_deep``).
    """
    with _decoding(quote(name)):
        return _as_rgb(image, quote(name))


def array_as_rgb(array: np.ndarray, name: str = "array") -> Image.Image:
    """Return an array of pixels as an 8-bit RGB image.

    Args:
        array: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (alpha last, over white); uint8, uint16, or float in 0..1.
        name: used in error messages.

    Raises:
        ValueError: for another shape, type or range.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(f"{name}: expected [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], got {list(array.shape)}")
    if array.dtype == np.uint16:
        array = _eight_bits(array, 65535)
    elif np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # written so that NaN fails too
            raise ValueError(f"{name}: expected floats in 0..1, got {array.min()} to {array.max()}")
        array = _eight_bits(array, 1)
    elif array.dtype != np.uint8:
        raise ValueError(f"{name}: expected uint8, uint16 or float pixels, got {array.dtype}")
    pixels = np.ascontiguousarray(array)
    return _as_rgb(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), name)


def _keep_images(paths: Sequence[Path], where: str | None) -> list[Path]:
    """Return the images among the paths in natural order, with one warning about other files if ``where`` is given."""
    files = sorted((path for path in paths if not path.is_dir()), key=natural_key)
    images = [path for path in files if suffix(path) in IMAGE_SUFFIXES and not path.name.startswith(".")]
    if where and images and len(images) < len(files):
        kept = set(images)
        skipped = [path for path in files if path not in kept]
        noun = "file" if len(skipped) == 1 else "files"
        log.warning("skipped %d non-image %s %s, first %s", len(skipped), noun, where, quote(skipped[0].name))
    return images


@contextmanager
def _decoding(label: str) -> Iterator[None]:
    """Turn every decoding error into a QvggtError; Pillow's pixel limit and warnings are disabled inside.

    Pillow's limit (a warning from 89 and an error from 179 million pixels) would refuse large panoramas; ours is
    checked before pixels are decoded. Both settings are global to Pillow and are restored at the end.
    """
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    except QvggtError:
        raise
    except UnidentifiedImageError as error:
        raise QvggtError(f"{label} is not a readable image: give {_READABLE} files") from error
    except MemoryError as error:
        raise QvggtError(f"{label} does not fit in memory: give a smaller copy of it") from error
    except OSError as error:
        reason = os_reason(error) if error.errno else f"is damaged or cut short ({_one_line(error)}): copy it again"
        raise QvggtError(f"{label} {reason}") from error
    except Exception as error:  # on damaged files the decoders raise a dozen unrelated types
        raise QvggtError(f"{label} cannot be decoded ({_one_line(error)}): save it as PNG or JPEG") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _open(path: Path) -> Image.Image:
    Image.init()
    try:
        return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        with path.open("rb") as file:
            head = file.read(12)
        # By content, not by ending: phones and chat programs rename HEIC files to .jpg.
        if head[4:8] != b"ftyp" or head[8:] not in _HEIC_BRANDS:
            raise
    return _open_heic(path)


def _open_heic(path: Path) -> Image.Image:
    try:
        import pillow_heif
    except ImportError as error:
        raise QvggtError(f'{quote(path)} is a HEIC image, which needs: pip install "qvggt[heic]"') from error
    heif = pillow_heif.open_heif(path)  # applies the file's rotations and resets its EXIF orientation
    _check_pixels(heif.size, quote(path))
    return heif.to_pillow()


def _check_pixels(size: tuple[int, int], label: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise QvggtError(
            f"{label} has {size[0]} x {size[1]} pixels, above the limit of {MAX_PIXELS // 10**6} million: "
            "give a smaller copy of it"
        )


def _as_rgb(image: Image.Image, label: str) -> Image.Image:
    _check_pixels(image.size, label)
    if 0 in image.size:
        raise QvggtError(f"{label} has no pixels: remove it")
    image.load()  # some formats have their orientation after the pixels
    turn = _UPRIGHT.get(_orientation(image))
    if turn is not None:
        image = _turned(image, turn)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _gray_from_deep(image, label)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _turned(image: Image.Image, turn: Image.Transpose) -> Image.Image:
    """Return the image upright, without the EXIF data that would make the next reader turn it again."""
    image = image.transpose(turn)
    for key in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):  # all sources that Pillow reads
        image.info.pop(key, None)
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data does not make the pixels unreadable
        return 1


def _gray_from_deep(image: Image.Image, label: str) -> Image.Image:
    """Return 16-bit (0..65535, also stored in 32 bits) or float (0..1) gray as 8 bits, rounded to nearest.

    Other ranges are refused: the white level would be a guess, and Pillow's own conversion clips.
    """
    values = np.array(image)
    white = 1 if image.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= white):  # written so that NaN fails too
        kind = "float" if image.mode == "F" else "integer"
        raise QvggtError(
            f"{label} has {kind} values from {values.min():g} to {values.max():g}, expected 0 to {white}: "
            "save it with 8 or 16 bits"
        )
    key = image.info.get("transparency")
    if isinstance(key, int):  # the gray level that a PNG declares transparent
        values[values == key] = white
    return Image.fromarray(_eight_bits(values, white))


def _eight_bits(values: np.ndarray, white: int) -> np.ndarray:
    return (values * np.float32(255 / white) + np.float32(0.5)).astype(np.uint8)
