"""What cameras write into photographs: GPS position and focal length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags

from qvggt.images.decode import open_image

_DIAGONAL_35MM = math.hypot(36.0, 24.0)


@dataclass(frozen=True)
class GpsPosition:
    """A position on the WGS84 ellipsoid.

    Attributes:
        latitude_deg: -90..90.
        longitude_deg: -180..180.
        altitude_m: None if it is not known.
        accuracy_m: horizontal error that the receiver states; None if it does not.
    """

    latitude_deg: float
    longitude_deg: float
    altitude_m: float | None = None
    accuracy_m: float | None = None


@dataclass(frozen=True)
class PhotoTags:
    """What a photograph's EXIF data say about its camera; None for what they do not say.

    Attributes:
        gps: where it was taken.
        focal_35mm: focal length in millimeters of a 36 mm x 24 mm camera with the same diagonal field of view.
    """

    gps: GpsPosition | None = None
    focal_35mm: float | None = None

    def focal_px(self, size: tuple[int, int]) -> float | None:
        """Return the focal length in pixels of a photograph of a (width, height), or None if it is not known."""
        return None if self.focal_35mm is None else self.focal_35mm * math.hypot(*size) / _DIAGONAL_35MM


def read_tags(path: Path) -> PhotoTags:
    """Return the camera's data of an image file; those that are missing or damaged are None."""
    try:
        with open_image(path) as image:
            exif = image.getexif()
            details, gps = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:  # damaged EXIF data raise a dozen unrelated types
        return PhotoTags()
    focal = _number(details.get(ExifTags.Base.FocalLengthIn35mmFilm))
    return PhotoTags(_position(gps), focal if focal is not None and focal > 0 else None)


def _position(gps: Mapping[int, Any]) -> GpsPosition | None:
    latitude = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "S")
    longitude = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "W")
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    altitude, accuracy = _number(gps.get(ExifTags.GPS.GPSAltitude)), _number(gps.get(ExifTags.GPS.GPSHPositioningError))
    if altitude is not None and gps.get(ExifTags.GPS.GPSAltitudeRef) in (1, b"\1"):  # below sea level
        altitude = -altitude
    return GpsPosition(latitude, longitude, altitude, accuracy if accuracy is not None and accuracy > 0 else None)


def _degrees(parts: Any, reference: Any, negative: str) -> float | None:
    """Return an angle given as degrees, minutes and seconds, below 0 if its reference is the negative one."""
    if not isinstance(parts, tuple) or len(parts) != 3:
        return None
    numbers = [_number(part) for part in parts]
    if None in numbers:
        return None
    degrees, minutes, seconds = (number or 0.0 for number in numbers)
    angle = degrees + minutes / 60 + seconds / 3600
    return -angle if str(reference).strip("\0 ").upper() == negative else angle


def _number(value: Any) -> float | None:
    """Return a finite number, or None for anything else, such as a fraction with denominator 0."""
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None
