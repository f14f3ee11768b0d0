"""Conversion of images with more than 8 bits per channel to 8 bits."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qvggt.images.limits import pillow_limit
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

FULL_WHITE = 65535
_LARGEST_OF_14_BITS = (1 << 14) - 1
_BAND_ROWS = 256
_BITS = (8, 10, 12, 14)
_BITS_PER_SAMPLE = 258
_OTHER_BYTE = {";16L": ";16B", ";16B": ";16L", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
"""Pillow keeps the high byte of each channel; the raw mode of the other byte order makes it keep the low byte."""


def eight_bits(values: np.ndarray, white: int) -> np.ndarray:
    """Return uint8 of values in 0..white, rounded to nearest; larger values become 255."""
    result = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _BAND_ROWS):  # or floats would take eight times the memory of the result
        scaled = values[top : top + _BAND_ROWS] * np.float32(255 / white) + np.float32(0.5)
        result[top : top + _BAND_ROWS] = np.minimum(scaled, 255)
    return result


def white_for(peak: int) -> int:
    """Return the white level of 16-bit pixels whose largest value is ``peak``: that of 8, 10, 12, 14 or 16 bits.

    >>> white_for(4000), white_for(65000)
    (4095, 65535)
    """
    return next((2**bits - 1 for bits in _BITS if 0 < peak < 2**bits), FULL_WHITE)


def is_deep_gray(image: Image.Image) -> bool:
    """Return whether the pixels are integers of 16 bits, possibly stored in 32."""
    return image.mode == "I" or image.mode.startswith("I;16")


def is_deep_color(image: Image.Image) -> bool:
    """Return whether the file of an image, whose pixels are not decoded yet, has 16 bits per color channel."""
    return image.mode != "I" and not image.mode.startswith("I;16") and _deep_tile(image) is not None


class WhiteLevel:
    """White level of the 16-bit pixels of a set of images, measured when it is first needed.

    One level for the whole set keeps the brightness of its images comparable.
    """

    def __init__(self, items: Sequence[Path | Image.Image | np.ndarray]) -> None:
        self._items = items

    def of(self, peak: int) -> int:
        """Return the white level for an image of the set whose largest value is ``peak``.

        It is 65535, or less if no image of the set uses more than 8, 10, 12 or 14 bits; a log line then says so.
        """
        if peak > _LARGEST_OF_14_BITS:
            return FULL_WHITE
        return _announced(peak) if len(self._items) < 2 else self._shared

    @cached_property
    def _shared(self) -> int:
        peak = 0
        for item in self._items:
            peak = max(peak, _peak(item))
            if peak > _LARGEST_OF_14_BITS:
                return FULL_WHITE
        return _announced(peak)


def _announced(peak: int) -> int:
    """Return the white level for a largest value, with a log line if it is not that of 16 bits."""
    white = white_for(peak)
    if white < FULL_WHITE:
        bits = white.bit_length()
        log.warning("16-bit pixels with values up to %d: read as %d bits, with white at %d", peak, bits, white)
    return white


def gray_from_deep(image: Image.Image, label: str, white: WhiteLevel) -> Image.Image:
    """Return gray of 16 bits or of floats (0..1) as 8 bits, rounded to nearest.

    Floats outside 0..1 and integers outside 16 bits are refused: their white level would be a guess.

    Raises:
        QvggtError: values outside the range.
    """
    values = np.array(image)
    limit = 1 if image.mode == "F" else FULL_WHITE
    if not (values.min() >= 0 and values.max() <= limit):  # written so that NaN fails too
        kind = "float" if image.mode == "F" else "integer"
        raise QvggtError(
            f"{label} has {kind} values from {values.min():g} to {values.max():g}, expected 0 to {limit}: "
            "save it with 8 or 16 bits"
        )
    level = limit
    if image.mode != "F":
        level = _declared_white(image) or white.of(int(values.max()))
    key = image.info.get("transparency")
    if isinstance(key, int):  # the gray level that a PNG declares transparent
        values[values == key] = level
    return _with_profile(eight_bits(values, level), image)


def color_from_deep(image: Image.Image, white: WhiteLevel) -> Image.Image:
    """Return a decoded image of 16 bits per color channel, with its dark 14 bits or less scaled to 8 bits.

    Pillow has kept the high bytes. They are the result if they use more than 14 bits.
    """
    level = white.of(_color_peak(image))
    if level == FULL_WHITE:
        return image
    low, result = _low_bytes(image), Image.new(image.mode, image.size)
    opaque = white_for(int(np.array(image.getextrema())[-1, 1]) * 256 + 255)
    whites = np.array([level] * 3 + [opaque] * (len(image.getbands()) - 3), np.float32)
    for top in range(0, image.height, _BAND_ROWS):
        box = (0, top, image.width, min(top + _BAND_ROWS, image.height))
        values = np.asarray(image.crop(box)).astype(np.uint16) << 8  # [h, W, C]
        if low is not None:
            values |= np.asarray(low.crop(box))
        scaled = values * (255 / whites) + np.float32(0.5)
        result.paste(Image.fromarray(np.minimum(scaled, 255).astype(np.uint8)), box)
    result.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return result


def _with_profile(pixels: np.ndarray, source: Image.Image) -> Image.Image:
    result = Image.fromarray(pixels)
    if "icc_profile" in source.info:
        result.info["icc_profile"] = source.info["icc_profile"]
    return result


def _declared_white(image: Image.Image) -> int | None:
    """Return the white level that a file declares, or None for plain 16 bits."""
    if image.format in ("PPM", "JPEG2000"):
        return FULL_WHITE  # scaled by Pillow as the file says
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]  # pyrefly: ignore[missing-attribute]
        return 2**bits - 1 if 8 < bits < 16 else None
    return None


def _peak(item: Path | Image.Image | np.ndarray) -> int:
    """Return the largest 16-bit value of an image (of a color image a close upper bound), 0 for other images."""
    if isinstance(item, np.ndarray):
        return int(item.max()) if item.dtype == np.uint16 and item.size else 0
    if isinstance(item, Image.Image):
        return int(np.asarray(item).max()) if is_deep_gray(item) else 0
    try:
        with pillow_limit.lifted(), Image.open(item) as image:
            if is_deep_gray(image):
                return 0 if _declared_white(image) else int(np.asarray(image).max())
            if is_deep_color(image):
                image.load()
                return _color_peak(image)
    except Exception:  # reading the image itself says what is wrong with it
        return 0
    return 0


def _color_peak(image: Image.Image) -> int:
    """Return the largest 16-bit value that the high bytes of a decoded color image allow."""
    return int(np.array(image.getextrema())[:3, 1].max()) * 256 + 255


def _deep_tile(image: Image.Image) -> str | None:
    """Return the raw mode of the pixels in the file if it has 16 bits per channel."""
    for *_, arguments in getattr(image, "tile", []):
        rawmode = arguments if isinstance(arguments, str) else arguments[0] if arguments else None
        if isinstance(rawmode, str) and rawmode[-4:] in _OTHER_BYTE:
            return rawmode
    return None


def _low_bytes(image: Image.Image) -> Image.Image | None:
    """Return an image of the low bytes of a 16-bit color image, read from its file again, or None without a file."""
    filename = getattr(image, "filename", "")
    if not filename:
        return None
    with Image.open(filename) as again:
        rawmode = _deep_tile(again)
        if rawmode is None or rawmode.startswith("LA"):
            return None
        swapped = rawmode[:-4] + _OTHER_BYTE[rawmode[-4:]]
        again.tile = [_with_rawmode(tile, swapped) for tile in again.tile]
        again.load()
        return again


def _with_rawmode(tile: Any, rawmode: str) -> Any:
    """Return a tile of a file, a named tuple since Pillow 11, that is decoded in another raw mode."""
    codec, box, offset, arguments = tile
    values = (codec, box, offset, rawmode if isinstance(arguments, str) else (rawmode, *arguments[1:]))
    return type(tile)(*values) if hasattr(tile, "_fields") else values
