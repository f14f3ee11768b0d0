"""The public verb to_meters: metric scale from what is known about a scene."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qvggt.data.known import read_depth_image, read_positions
from qvggt.data.known_cameras import of_frames
from qvggt.images.exif import read_tags
from qvggt.images.originals import original_files
from qvggt.options.checks import check_arguments
from qvggt.options.known import ScaleOptions
from qvggt.postprocess.geodesy import enu_from_geodetic
from qvggt.postprocess.metric_scale import (
    MetricScale,
    scale_from_depth,
    scale_from_distances,
    scale_from_positions,
    scaled,
)
from qvggt.postprocess.similarity import transformed
from qvggt.types import PathLike, Prediction, QvggtError

log = logging.getLogger(__name__)

_GPS_ACCURACY_M = 5.0
"""Horizontal error of a phone's GPS under open sky, for photographs that do not state theirs."""


@dataclass(frozen=True)
class _GpsPositions:
    """Positions [3] of frames in meters east, north and up of the first one, which is at ``origin`` (degrees, m)."""

    places: dict[str, np.ndarray]
    origin: tuple[float, float, float]
    accuracy_m: float


def to_meters(
    prediction: Prediction, scale: ScaleOptions | str | Sequence[str], images: Sequence[PathLike] = ()
) -> tuple[Prediction, dict[str, Any]]:
    """Return a prediction in meters, and how its scale was found.

    Args:
        prediction: in the model's unit, or any other.
        scale: where the scale comes from, as options or as the texts that ``--scale`` takes: ``a.jpg:b.jpg=1.5m``
            (between cameras), ``a.jpg@640,360:b.jpg@100,200=80cm`` (between pixels of the photographs),
            ``positions.csv``, ``gps``, ``a.jpg=depth.png``.
        images: the photographs, or their folder, for ``gps``.

    Returns:
        The prediction, in its own world frame unless ``align_world`` is set, and JSON-ready values:
        ``meters_per_unit``, ``median_residual_m``, ``worst_residual_m``, ``used``, ``rejected``, ...

    Raises:
        QvggtError: a file cannot be read, a frame does not exist, or the scale is not determined.
    """
    check_arguments(to_meters, locals())
    if not isinstance(scale, ScaleOptions):
        scale = ScaleOptions.of([scale] if isinstance(scale, str) else scale)
    details: dict[str, Any] = {}
    if scale.gps:
        gps = _gps_positions(prediction, images)
        found = scale_from_positions(prediction, gps.places, gps.accuracy_m)
        latitude, longitude, altitude = gps.origin
        origin = {"latitude_deg": latitude, "longitude_deg": longitude, "altitude_m": altitude}
        details = {"source": "gps", "gps_accuracy_m": gps.accuracy_m, "gps_origin": origin}
    elif scale.positions is not None:
        found = scale_from_positions(
            prediction, of_frames(read_positions(scale.positions), prediction.names, "known positions")
        )
    elif scale.depths:
        found = scale_from_depth(prediction, {name: read_depth_image(path) for name, path in scale.depths})
    else:
        found = scale_from_distances(prediction, scale.distances)
    details = found.to_json() | details | {"world": "known" if scale.align_world else "predicted"}
    return _metric(prediction, found, scale.align_world), details


def _metric(prediction: Prediction, found: MetricScale, align_world: bool) -> Prediction:
    if not align_world:
        return scaled(prediction, found.meters_per_unit)
    if found.world is None:
        raise QvggtError(
            "the known positions are on one line, which leaves the rotation about it open: leave out --align-world, "
            "or give positions off that line"
        )
    return transformed(prediction, found.world)


def _gps_positions(prediction: Prediction, images: Sequence[PathLike]) -> _GpsPositions:
    if not images:
        raise QvggtError("GPS is read from the photographs: name their place (--images)")
    tags = [read_tags(path).gps for path in original_files(images, prediction.names)]
    found = {name: tag for name, tag in zip(prediction.names, tags, strict=True) if tag is not None}
    if len(found) < 2:
        raise QvggtError(
            f"{len(found)} of {len(tags)} photographs have a GPS position, expected at least 2: give a distance "
            "instead "
            "(--scale a.jpg:b.jpg=1.5m)"
        )
    altitudes = [tag.altitude_m for tag in found.values()]
    if None in altitudes:
        log.warning("some photographs have no altitude: all of them are taken to be at one height")
        altitudes = [0.0] * len(found)
    geodetic = np.array(
        [(tag.latitude_deg, tag.longitude_deg, height) for tag, height in zip(found.values(), altitudes, strict=True)]
    )
    places = enu_from_geodetic(geodetic, geodetic[0])
    accuracy = float(np.median([tag.accuracy_m or _GPS_ACCURACY_M for tag in found.values()]))
    return _GpsPositions(dict(zip(found, places, strict=True)), tuple(geodetic[0].tolist()), accuracy)
