"""WGS84 positions in local east-north-up meters."""

from __future__ import annotations

import numpy as np

_SEMI_MAJOR_M, _FLATTENING = 6378137.0, 1 / 298.257223563
_ECCENTRICITY_2 = _FLATTENING * (2 - _FLATTENING)


def ecef_from_geodetic(geodetic: np.ndarray) -> np.ndarray:
    """Return Earth-centered, Earth-fixed positions [..., 3] in meters.

    Args:
        geodetic: [..., 3]: latitude and longitude in degrees, height above the WGS84 ellipsoid in meters.
    """
    latitude, longitude = np.radians(geodetic[..., 0]), np.radians(geodetic[..., 1])
    height = geodetic[..., 2]
    normal = _SEMI_MAJOR_M / np.sqrt(1 - _ECCENTRICITY_2 * np.sin(latitude) ** 2)
    flat = (normal + height) * np.cos(latitude)
    up = (normal * (1 - _ECCENTRICITY_2) + height) * np.sin(latitude)
    return np.stack((flat * np.cos(longitude), flat * np.sin(longitude), up), -1)


def enu_from_geodetic(geodetic: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return positions [..., 3] in meters east, north and up of an origin [3]; see ``ecef_from_geodetic``."""
    latitude, longitude = np.radians(origin[:2])
    sin_lat, cos_lat, sin_lon, cos_lon = np.sin(latitude), np.cos(latitude), np.sin(longitude), np.cos(longitude)
    enu_from_ecef = np.array(
        [
            [-sin_lon, cos_lon, 0.0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )
    return (ecef_from_geodetic(geodetic) - ecef_from_geodetic(origin)) @ enu_from_ecef.T
