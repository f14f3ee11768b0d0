"""Color management: ICC profiles, wide-gamut primaries and HDR transfer functions to sRGB.

Images without any of these are not changed.
"""

from __future__ import annotations

import io
import logging
import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

log = logging.getLogger(__name__)

PQ, HLG = 16, 18
"""Transfer characteristics of HDR, as numbered in ITU-T H.273."""
HDR_NAMES = {PQ: "PQ", HLG: "HLG"}
_BT2020, _DISPLAY_P3 = 9, 12
_WHITE_NITS, _PEAK_NITS = 203.0, 1000.0
"""Luminance of diffuse white (ITU-R BT.2408), and the peak to which HDR is tone-mapped."""
_KNEE = 0.5
"""Linear values up to this share of diffuse white are not compressed."""
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
_TO_BT709 = {
    _BT2020: np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32),
    _DISPLAY_P3: np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]], np.float32),
}
_BAND_ROWS = 256
_SAME_LEVELS = 2
_SPACES = {"RGB": ("RGB ", "RGB"), "L": ("GRAY", "RGB"), "CMYK": ("CMYK", "RGB")}
"""Per Pillow mode: the profile's color space and the mode of the result."""


@dataclass(frozen=True)
class CodingPoints:
    """Color description of a video or HEIF image, as numbered in ITU-T H.273 (CICP).

    Attributes:
        primaries: 1 BT.709, 9 BT.2020, 12 Display P3.
        transfer: 1 BT.709, 13 sRGB, 16 PQ, 18 HLG.
    """

    primaries: int
    transfer: int

    @property
    def is_hdr(self) -> bool:
        """Whether the transfer function is PQ or HLG."""
        return self.transfer in HDR_NAMES

    @property
    def needs_conversion(self) -> bool:
        """Whether pixels differ from sRGB enough to be converted."""
        return self.is_hdr or self.primaries in _TO_BT709


def profile_to_srgb(image: Image.Image) -> Image.Image:
    """Return an image converted from its ICC profile to sRGB; the image itself if it has none, or sRGB's own."""
    profile = image.info.get("icc_profile")
    transform = _transform(profile, image.mode) if profile and isinstance(profile, bytes) else None
    if transform is None:
        return image
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    converted.info = {name: value for name, value in image.info.items() if name != "icc_profile"}
    return converted


def coding_points_of(head: bytes) -> CodingPoints | None:
    """Return the color description in the first bytes of a HEIF, AVIF or PNG file, or None if there is none."""
    at = head.find(b"colrnclx")
    if at >= 0 and len(head) >= at + 12:
        return CodingPoints(*struct.unpack_from(">HH", head, at + 8))
    at = head.find(b"\0\0\0\4cICP")
    if head.startswith(b"\x89PNG") and at >= 0 and len(head) >= at + 10:
        return CodingPoints(head[at + 8], head[at + 9])
    return None


def coded_to_srgb(pixels: np.ndarray, points: CodingPoints) -> np.ndarray:
    """Return RGB pixels [H, W, 3], uint8 or uint16, as sRGB uint8.

    HDR is tone-mapped: diffuse white (203 nits) and what is darker keeps its contrast up to a knee, and highlights up
    to 1000 nits are compressed above it. Colors outside of sRGB are clipped.
    """
    result = np.empty(pixels.shape, np.uint8)
    linear_of = _linear_table(points.transfer, 256 if pixels.dtype == np.uint8 else 65536)
    matrix = _TO_BT709.get(points.primaries, np.eye(3, dtype=np.float32))
    for top in range(0, len(pixels), _BAND_ROWS):
        linear = linear_of[pixels[top : top + _BAND_ROWS]]
        if points.transfer == HLG:
            linear = linear * (linear @ _LUMA_2020)[..., None] ** 0.2 * np.float32(_PEAK_NITS / _WHITE_NITS)
        linear = np.maximum(linear @ matrix.T, 0)
        if points.is_hdr:
            brightest = np.maximum(linear.max(-1, keepdims=True), 1e-6)
            linear = linear * (_compressed(brightest) / brightest)
        result[top : top + _BAND_ROWS] = np.rint(_srgb_from_linear(np.clip(linear, 0, 1)) * 255)
    return result


def _compressed(linear: np.ndarray) -> np.ndarray:
    """Return tone-mapped values: the identity up to the knee, then a curve that reaches 1 at the peak."""
    above = np.maximum(linear - _KNEE, 0) / (1 - _KNEE)
    reach = (_PEAK_NITS / _WHITE_NITS - _KNEE) / (1 - _KNEE)
    return np.where(linear <= _KNEE, linear, _KNEE + (1 - _KNEE) * above * (1 + above / reach**2) / (1 + above))


def _srgb_from_linear(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@lru_cache(maxsize=8)
def _linear_table(transfer: int, levels: int) -> np.ndarray:
    """Return linear light of each code value; 1 is diffuse white, for HLG the scene's peak."""
    code = np.arange(levels) / (levels - 1)
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        root = code ** (1 / m2)
        linear = 10000 / _WHITE_NITS * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    elif transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        linear = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    else:
        linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of a profile to sRGB; None if it changes nothing, or does not fit the mode or is damaged."""
    if mode not in _SPACES:
        return None
    space, output = _SPACES[mode]
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != space:
            return None
        # Gray is not optimized: the usual table of 33 entries is too coarse for dark levels.
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, output, flags=flags)
        if mode == "CMYK":
            return transform
        probe = _probe(mode)
        changed = ImageCms.applyTransform(probe, transform)
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError) as error:
        log.warning("color profile ignored: %s", " ".join(str(error).split()))
        return None
    assert changed is not None
    difference = np.abs(np.asarray(changed.convert("RGB"), int) - np.asarray(probe.convert("RGB"), int))
    return transform if difference.max() > _SAME_LEVELS else None


def _probe(mode: str) -> Image.Image:
    """Return an image of evenly spaced colors, by which a profile is compared with sRGB."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    return Image.fromarray(grid)
