"""Decode image files, PIL images and arrays as upright 8-bit RGB images.

``read_picture`` chooses the decoder, applies the EXIF orientation, scales deeper pixels to 8 bits and composites
transparency over white. An RGB profile stays attached to the image: it is applied after resizing, which is much faster.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from qvggt.images import deep
from qvggt.images.color import CodingPoints, coded_to_srgb, coding_points_of, profile_to_srgb
from qvggt.images.deep import WhiteLevel
from qvggt.images.files import READABLE, VIDEO_SUFFIXES, os_reason, quote, source_mode, suffix
from qvggt.images.limits import DecodingBytes, check_pixels, fitting_divisor, pillow_limit
from qvggt.images.raw import is_raw, read_raw
from qvggt.options.messages import missing_extra
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))
_HEIC_PIXEL_BYTES = 8
_HEAD_BYTES = 1 << 16
"""Length of the start of a file in which its color description is looked for."""
_STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Bytes per pixel in Pillow, 4 for all other modes."""
_RESIZED_ROW_BYTES = 4 * 1024
"""Of an image that is resized in one direction already."""
_JPEG_DIVISORS = (1, 2, 4, 8)
_REDUCED_PAGE = 1
_SUBFILE_TYPE = 254

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


@dataclass(frozen=True)
class Picture:
    """One decoded image.

    Attributes:
        name: of the frame.
        image: upright 8-bit RGB, with the ICC profile in its ``info`` if that is to be applied.
        size: width and height of the upright original, larger than ``image`` if it was decoded at reduced size.
    """

    name: str
    image: Image.Image
    size: tuple[int, int]


def read_image(path: Path) -> Image.Image:
    """Return one image file as an upright 8-bit RGB image; see ``read_picture``."""
    return read_picture(path, path.name).image


def read_picture(path: Path, name: str, white: WhiteLevel | None = None, max_bytes: int | None = None) -> Picture:
    """Decode one image file; of several pages or frames the first, with a warning.

    Args:
        path: of the file.
        name: of the picture.
        white: white level of 16-bit pixels, shared by a set of images; None measures this image.
        max_bytes: memory limit of decoding; JPEG and camera raw files are then decoded at reduced size if necessary.

    Raises:
        QvggtError: the file is missing, not an image, damaged, too large, or needs an extra.
    """
    mode = source_mode(path)
    if stat.S_ISDIR(mode):
        raise QvggtError(f"{quote(path)} is a folder: give it alone, not among images")
    if not stat.S_ISREG(mode):  # a pipe or a device would block or never end
        raise QvggtError(f"{quote(path)} is not a regular file: give an image file")
    if suffix(path) in VIDEO_SUFFIXES:
        raise QvggtError(f"{quote(path)} is a video: give it alone, not among images")
    label = quote(path)
    with _decoding(label):
        with path.open("rb") as file:
            if raw := is_raw(file, path):
                head = b""
            else:
                file.seek(0)
                head = file.read(_HEAD_BYTES)
        if raw:
            image, divisor = read_raw(path, max_bytes)
            return Picture(name, image, (image.width * divisor, image.height * divisor))
        with _open(path, head, max_bytes) as image:
            _select_page(image, label)
            size, reduced = image.size, _reduce(image, max_bytes, label)
            upright = _as_rgb(image, label, white or WhiteLevel([path]), coding_points_of(head))
    if not reduced:
        return Picture(name, upright, upright.size)
    turned = (upright.width > upright.height) != (size[0] > size[1])
    return Picture(name, upright, (size[1], size[0]) if turned else size)


def open_image(path: Path) -> Image.Image:
    """Open an image file for its size and metadata; pixels are decoded later, if at all (HEIC's at once)."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    with pillow_limit.lifted():
        return _open(path, head, None)


def as_rgb(image: Image.Image, name: str = "image", white: WhiteLevel | None = None) -> Image.Image:
    """Return a PIL image as upright 8-bit RGB: EXIF orientation applied, transparency over white, 16 bits scaled to 8.

    Args:
        image: of any mode; not modified.
        name: used in error messages.
        white: white level of 16-bit pixels, shared by a set of images; None measures this image.

    Raises:
        QvggtError: the pixels cannot be decoded, are too many, or have no defined range (see ``gray_from_deep``).
    """
    with _decoding(quote(name)):
        return _as_rgb(image, quote(name), white or WhiteLevel([image]))


def array_as_rgb(array: np.ndarray, name: str = "array", white: WhiteLevel | None = None) -> Image.Image:
    """Return an array of pixels as an 8-bit RGB image.

    Args:
        array: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (alpha last, over white); uint8, uint16, or float in 0..1.
        name: used in error messages.
        white: white level of uint16 pixels, shared by a set of images; None measures this array.

    Raises:
        QvggtError: for another shape, type or range.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise QvggtError(
            f"{name}: expected [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], got {list(array.shape)}: "
            "channels come last, or first in a torch tensor"
        )
    if array.dtype == np.uint16:
        array = deep.eight_bits(array, (white or WhiteLevel([array])).of(int(array.max())))
    elif np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # written so that NaN fails too
            raise QvggtError(
                f"{name}: expected floats in 0..1, got {array.min()} to {array.max()}: divide by the largest value, "
                "or give uint8"
            )
        array = deep.eight_bits(array, 1)
    elif array.dtype != np.uint8:
        raise QvggtError(f"{name}: expected uint8, uint16 or float pixels, got {array.dtype}")
    pixels = np.ascontiguousarray(array)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return _as_rgb(image, name, WhiteLevel([]))


def decoding_bytes(image: Image.Image) -> DecodingBytes:
    """Return the memory that an opened image takes until it is resized; only its header is read."""
    pixel_bytes = _STORED_BYTES.get(image.mode, 4)
    if image.has_transparency_data:
        pixel_bytes += 12  # RGBA, a white background, and both composited
    elif image.mode == "F" or deep.is_deep_gray(image):
        pixel_bytes += 5  # the same in 8 bits, and RGB
    elif image.mode != "RGB":
        pixel_bytes += 4
    if _turns(image):
        pixel_bytes += _STORED_BYTES.get(image.mode, 4)
    if image.format == "WEBP":
        pixel_bytes += 12  # libwebp keeps a canvas, a frame and a copy
    if image.format == "TIFF" and image.info.get("compression", "raw") != "raw":
        pixel_bytes += 4
    width, height = image.size
    coefficients = width * height * _coefficient_bytes(image) if image.info.get("progressive") else 0
    return DecodingBytes(width * height * pixel_bytes + _RESIZED_ROW_BYTES * height, round(coefficients))


def _turns(image: Image.Image) -> bool:
    """Return whether the EXIF orientation turns an image; for PNG, which would be decoded to know, whether it might."""
    return "exif" in image.info if image.format == "PNG" else _orientation(image) in _UPRIGHT


def _coefficient_bytes(image: Image.Image) -> float:
    """Return the bytes per pixel of the coefficients that libjpeg keeps of a progressive file, at any output size."""
    sampling = [across * down for _, across, down, _ in getattr(image, "layer", [])]
    return 2 * sum(sampling) / max(sampling) if sampling else 6


@contextmanager
def _decoding(label: str) -> Iterator[None]:
    """Turn every decoding error into a QvggtError; Pillow's pixel limit is lifted inside."""
    try:
        with pillow_limit.lifted():
            yield
    except QvggtError:
        raise
    except UnidentifiedImageError as error:
        raise QvggtError(f"{label} is not a readable image: give {READABLE} files") from error
    except MemoryError as error:
        raise QvggtError(f"{label} does not fit in memory: give a smaller copy of it") from error
    except OSError as error:
        reason = os_reason(error) if error.errno else f"is damaged or cut short ({_one_line(error)}): copy it again"
        raise QvggtError(f"{label} {reason}") from error
    except Exception as error:  # on damaged files the decoders raise a dozen unrelated types
        raise QvggtError(f"{label} cannot be decoded ({_one_line(error)}): save it as PNG or JPEG") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _open(path: Path, head: bytes, max_bytes: int | None) -> Image.Image:
    Image.init()
    try:
        return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        # By content, not by ending: phones and chat programs rename HEIC files to .jpg.
        if head[4:8] != b"ftyp" or head[8:12] not in _HEIC_BRANDS:
            raise
    return _open_heic(path, max_bytes)


def _open_heic(path: Path, max_bytes: int | None) -> Image.Image:
    try:
        import pillow_heif
    except ImportError as error:
        raise missing_extra(f"{quote(path)} is a HEIC image, which", "heic") from error
    heif = pillow_heif.open_heif(path)  # applies the file's rotations and resets its EXIF orientation
    check_pixels(heif.size, quote(path))
    fitting_divisor(DecodingBytes(heif.size[0] * heif.size[1] * _HEIC_PIXEL_BYTES), max_bytes, (1,), quote(path))
    if len(heif) > 1:
        _warn_of_frames(len(heif), quote(path))
    return heif.to_pillow()


def _select_page(image: Image.Image, label: str) -> None:
    """Go to the first page that is not a thumbnail, and warn about further pages or frames."""
    count = getattr(image, "n_frames", 1)
    if image.format == "TIFF":
        pages = [index for index in range(count) if not _tiff_page_is_reduced(image, index)] or [0]
        image.seek(pages[0])
        count = len(pages)
    elif image.format == "MPO":  # phones add previews and gain maps, stereo cameras a second view
        entries = image.mpinfo.get(0xB002, ())  # pyrefly: ignore[missing-attribute]
        count = sum("Multi-Frame" in str(entry["Attribute"].get("MPType")) for entry in entries) or 1
    if count > 1:
        _warn_of_frames(count, label)


def _tiff_page_is_reduced(image: Image.Image, index: int) -> bool:
    image.seek(index)
    return bool(image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED_PAGE)  # pyrefly: ignore[missing-attribute]


def _warn_of_frames(count: int, label: str) -> None:
    log.warning("%s has %d pages or frames: only the first is used", label, count)


def _reduce(image: Image.Image, max_bytes: int | None, label: str) -> bool:
    """Have a JPEG file decoded at 1/2, 1/4 or 1/8 of its size if a memory limit requires it, and return if so."""
    if max_bytes is None:
        return False
    divisors = _JPEG_DIVISORS if image.format in ("JPEG", "MPO") else (1,)
    divisor = fitting_divisor(decoding_bytes(image), max_bytes, divisors, label)
    if divisor > 1:
        image.draft(None, (-(-image.width // divisor), -(-image.height // divisor)))
    return divisor > 1


def _as_rgb(
    image: Image.Image, label: str, white: WhiteLevel, coding_points: CodingPoints | None = None
) -> Image.Image:
    check_pixels(image.size, label)
    if 0 in image.size:
        raise QvggtError(f"{label} has no pixels: remove it")
    given = image
    deep_color = deep.is_deep_color(image)
    image.load()  # some formats have their orientation after the pixels
    turn = _UPRIGHT.get(_orientation(image))
    if deep_color:
        image = deep.color_from_deep(image, white)
    if turn is not None:
        image = _turned(image, turn)
    if image.mode == "F" or deep.is_deep_gray(image):
        image = deep.gray_from_deep(image, label, white)
    profile = image.info.get("icc_profile")
    kept_profile = profile if image.mode in ("RGB", "RGBA", "P", "PA") else None
    if kept_profile is None:
        image = profile_to_srgb(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(background, image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    if coding_points is not None and coding_points.needs_conversion and not profile:
        if coding_points.is_hdr:
            log.warning("%s is HDR: tone-mapped to SDR", label)
        image = Image.fromarray(coded_to_srgb(np.asarray(image), coding_points))
    if image is not given:
        image.info["icc_profile"] = kept_profile
    return image


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
