"""Camera raw files (DNG, CR2, NEF, ARW, ...), recognized by content and developed with rawpy (extra ``raw``)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from qvggt.images.files import RAW_SUFFIXES, quote, suffix
from qvggt.images.limits import DecodingBytes, check_pixels, fitting_divisor
from qvggt.options.messages import missing_extra
from qvggt.types import QvggtError

_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIRT", b"MMOR", b"MMRO", b"IIU\0", b"\0MRM", b"FOVb")
_OTHER_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")
_COLOR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
_PHOTOMETRIC, _SUB_DIRECTORIES, _DNG_VERSION = 262, 330, 50706
_MAX_DIRECTORIES = 32
_MAX_SUB_DIRECTORIES = 16
_SENSOR_BYTES, _DEVELOPED_BYTES = 2, 12
"""Bytes per pixel of the sensor's values, and of four 16-bit channels and the result."""


def is_raw(file: IO[bytes], path: Path) -> bool:
    """Return whether a file has sensor data: by its content, or for unknown content by its ending.

    Most raw formats are TIFF files whose first page is a thumbnail, so their directories are searched.
    """
    file.seek(0)
    head = file.read(16)
    if head.startswith(_MAGIC) or head[4:12] == b"ftypcrx ":
        return True
    if head[:4] in (b"II*\0", b"MM\0*"):
        return head[8:10] == b"CR" or suffix(path) in RAW_SUFFIXES or _has_sensor_data(file)
    known = head.startswith(_OTHER_IMAGES) or head[4:8] in (b"ftyp", b"jP  ")
    return suffix(path) in RAW_SUFFIXES and bool(head) and not known


def read_raw(path: Path, max_bytes: int | None = None) -> tuple[Image.Image, int]:
    """Develop a raw file to upright 8-bit sRGB with the camera's white balance.

    Brightness is not adapted to each picture, so that the pictures of one scene stay comparable.

    Args:
        path: of the file.
        max_bytes: memory limit; if the file needs more, each 2 x 2 block of sensor pixels becomes one pixel.

    Returns:
        The image, and by how much its sides were divided: 1 or 2.

    Raises:
        QvggtError: rawpy is not installed, or cannot read the file, or the limit is too low.
    """
    try:
        import rawpy
    except ImportError as error:
        raise missing_extra(f"{quote(path)} is a camera raw file, which", "raw") from error
    try:
        with rawpy.imread(str(path)) as raw:
            size = (raw.sizes.width, raw.sizes.height)
            check_pixels(size, quote(path))
            divisor = fitting_divisor(
                DecodingBytes(size[0] * size[1] * _DEVELOPED_BYTES, size[0] * size[1] * _SENSOR_BYTES),
                max_bytes,
                (1, 2),
                quote(path),
            )
            pixels: np.ndarray = raw.postprocess(
                use_camera_wb=True, no_auto_bright=True, gamma=(2.4, 12.92), half_size=divisor == 2, output_bps=8
            )
    except rawpy.LibRawError as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise QvggtError(
            f"{quote(path)} is a camera raw file that cannot be developed ({reason}): convert it to JPEG"
        ) from error
    return Image.fromarray(np.ascontiguousarray(pixels)), divisor


def _has_sensor_data(file: IO[bytes]) -> bool:
    """Return whether a TIFF file has a directory of sensor data, in its chain of pages or below one of them."""
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    file.seek(4)
    pending: list[int] = [_number(file, f"{order}I")]
    seen: set[int] = set()
    while pending and len(seen) < _MAX_DIRECTORIES:
        offset = pending.pop(0)
        if not offset or offset in seen:
            continue
        seen.add(offset)
        tags, following = _directory(file, offset, order)
        if _DNG_VERSION in tags or {_COLOR_FILTER_ARRAY, _LINEAR_RAW} & set(tags.get(_PHOTOMETRIC, ())):
            return True
        pending += [*(tags.get(_SUB_DIRECTORIES) or ()), following]
    return False


def _directory(file: IO[bytes], offset: int, order: str) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the three tags that matter of a TIFF directory, and the offset of the next directory (0 for none)."""
    file.seek(offset)
    count = _number(file, f"{order}H")
    entries = file.read(12 * count)
    following = _number(file, f"{order}I")
    tags: dict[int, tuple[int, ...]] = {}
    for at in range(0, len(entries) - 11, 12):
        tag, kind, number, value = struct.unpack_from(f"{order}HHII", entries, at)
        if tag == _PHOTOMETRIC:
            tags[tag] = struct.unpack_from(f"{order}H", entries, at + 8)
        elif tag == _DNG_VERSION:
            tags[tag] = (value,)
        elif tag == _SUB_DIRECTORIES and kind in (4, 13):
            number = min(number, _MAX_SUB_DIRECTORIES)
            if number == 1:
                tags[tag] = (value,)
            else:
                file.seek(value)
                data = file.read(4 * number)
                tags[tag] = struct.unpack(f"{order}{len(data) // 4}I", data[: len(data) // 4 * 4])
    return tags, following


def _number(file: IO[bytes], form: str) -> int:
    data = file.read(struct.calcsize(form))
    return struct.unpack(form, data)[0] if len(data) == struct.calcsize(form) else 0
