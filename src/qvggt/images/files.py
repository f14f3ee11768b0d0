"""Image files, PIL images and arrays -> upright 8-bit RGB images, with one clear sentence for whatever cannot be read.

Every decoder sits behind ``read_image``: which formats are tried, how deep pixels become 8 bits, what transparency lies
over, which way is up. Colour profiles are not applied: the model was trained on pixels taken as they are stored.
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
"""Files of a folder with one of these endings (in any case) are taken as images."""

VIDEO_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("mp4", "mov", "m4v", "avi", "mkv", "webm", "mpg", "mpeg"),
        *("wmv", "3gp", "mts", "m2ts", "ts", "flv", "ogv"),
    )
)
"""A single file with one of these endings (in any case) is taken as a video."""

MAX_PIXELS = 500_000_000
"""The largest image that is decoded, in pixels: 2 GB in memory, well above the largest panoramas."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_READABLE = "JPEG, PNG, WebP, TIFF, BMP, HEIC"
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))

# What undoes each EXIF orientation; 1 and every unknown value mean "as stored".
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
    """The path between quotes on one line: newlines, control characters and stray bytes are escaped."""
    return repr(os.fspath(path))


def suffix(path: Path) -> str:
    """The ending of a file name in lower case, e.g. ``.jpg``."""
    return path.suffix.lower()


def natural_key(path: Path) -> tuple[tuple[str | int, ...], ...]:
    """Sort key under which ``img2`` comes before ``img10``; ties are broken by the exact name.

    >>> sorted(map(Path, ["img10.png", "img2.png", "Img1.png"]), key=natural_key)[0].name
    'Img1.png'
    """
    parts = [re.split(r"([0-9]+)", part) for part in path.parts]
    folded = [tuple(int(t) if i % 2 else t.casefold() for i, t in enumerate(part)) for part in parts]
    return (*folded, path.parts)


def evenly_spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` of the items, evenly spread from the first to the last; all of them if ``limit`` is None.

    >>> evenly_spread(range(9), 3)
    [0, 4, 8]
    """
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, limit).round()]


def os_reason(error: OSError) -> str:
    """What the user has to know about a failed system call, to follow the path in a sentence."""
    if isinstance(error, FileNotFoundError):
        return "does not exist: check the path"
    if isinstance(error, PermissionError):
        return "may not be read: change its permissions"
    if error.errno == errno.ELOOP:
        return "is a symbolic link that leads back to itself: put the file itself in its place"
    return f"cannot be read: {error.strerror or error}"


def source_mode(path: Path) -> int:
    """The ``st_mode`` of a path that the user named.

    Raises:
        QvggtError: the path does not exist, may not be looked at, is a loop of links, or is no possible path.
    """
    try:
        return path.stat().st_mode
    except OSError as error:
        raise QvggtError(f"{quote(path)} {os_reason(error)}") from error
    except ValueError as error:
        raise QvggtError(f"{quote(path)} is not a path that a file can have: check the name") from error


def list_images(folder: Path, quiet: bool = False) -> list[Path]:
    """Image files directly in a folder, in natural order.

    Hidden files and files that are no images by their ending are left out, with one warning (none if ``quiet``);
    folders inside are not entered.

    Raises:
        QvggtError: the folder cannot be listed, or it holds no images.
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
        hint = "folders inside it are not searched, so give one of them"
    raise QvggtError(f"the folder {quote(folder)} holds no images: {hint}")


def match_paths(pattern: str, quiet: bool = False) -> list[Path]:
    """Paths that a glob pattern (``**`` for any depth) matches, in natural order.

    One match is given back whatever it is; of several, only the images, with one warning (none if ``quiet``) for the
    rest.

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
        raise QvggtError(f"no image is among the matches of {quote(pattern)}: match {_READABLE} files")
    return images


def unique_names(paths: Sequence[Path]) -> list[str]:
    """File names; where two are the same, paths below the common folder instead, with forward slashes."""
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
    """Decodes one image file to an upright 8-bit RGB image; of several pages or frames, the first.

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
    """Any PIL image -> upright 8-bit RGB: EXIF orientation undone, transparency over white, 16 bits scaled to 8.

    Args:
        image: of any mode; left as it is.
        name: what an error calls it.

    Raises:
        QvggtError: its pixels cannot be decoded, are too many, or have no defined range (see ``_grey_from_deep``).
    """
    with _decoding(quote(name)):
        return _as_rgb(image, quote(name))


def array_as_rgb(array: np.ndarray, name: str = "array") -> Image.Image:
    """An array of pixels -> 8-bit RGB image.

    Args:
        array: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (alpha last, over white); uint8, uint16, or float in 0..1.
        name: what an error calls it.

    Raises:
        ValueError: another shape, type or range.
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
    """The images among the paths in natural order; one warning for the other files (if ``where``), none for folders."""
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
    """Whatever goes wrong inside becomes one sentence; Pillow's own pixel limit and warnings are set aside inside.

    Pillow's limit (a warning from 89 and an error from 179 million pixels) would refuse large panoramas; ours is
    checked before pixels are decoded. Both settings are global to Pillow, so they are put back at the end.
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
        raise QvggtError(f"{label} is not an image that can be read: give {_READABLE} files") from error
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
        raise QvggtError(f"{label} has no pixels: leave it out")
    image.load()  # some formats know their orientation only after their pixels
    turn = _UPRIGHT.get(_orientation(image))
    if turn is not None:
        image = _turned(image, turn)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _grey_from_deep(image, label)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _turned(image: Image.Image, turn: Image.Transpose) -> Image.Image:
    """The image upright, without the EXIF data that would have it turned once more by whoever reads it next."""
    image = image.transpose(turn)
    for key in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):  # all that Pillow reads it from
        image.info.pop(key, None)
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data says nothing about the pixels, which are good
        return 1


def _grey_from_deep(image: Image.Image, label: str) -> Image.Image:
    """Grey of 16 bits (0..65535, also when held in 32) or of floats (0..1) -> 8 bits, rounded to the nearest.

    Other ranges are refused: which value is white would be a guess, and Pillow's own conversion clips.
    """
    values = np.array(image)
    white = 1 if image.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= white):  # written so that NaN fails too
        kind = "float" if image.mode == "F" else "integer"
        raise QvggtError(
            f"{label} holds {kind} values from {values.min():g} to {values.max():g} where 0 to {white} is expected: "
            "save it with 8 or 16 bits"
        )
    key = image.info.get("transparency")
    if isinstance(key, int):  # the one grey that a PNG declares transparent
        values[values == key] = white
    return Image.fromarray(_eight_bits(values, white))


def _eight_bits(values: np.ndarray, white: int) -> np.ndarray:
    return (values * np.float32(255 / white) + np.float32(0.5)).astype(np.uint8)
