"""The public verb with_known_cameras: known intrinsics and poses take the place of predicted ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qvggt.data.known_cameras import focal_intrinsics, read_intrinsics, read_poses, read_rig
from qvggt.images.exif import read_tags
from qvggt.images.files import VIDEO_SUFFIXES, suffix
from qvggt.images.originals import original_files
from qvggt.options import KnownCameras, Unit
from qvggt.options.checks import check_arguments
from qvggt.postprocess.known_cameras import with_intrinsics, with_poses, with_rig
from qvggt.types import PathLike, Prediction, QvggtError

log = logging.getLogger(__name__)

_UNLIKELY = 0.2
"""Relative difference of predicted focal lengths from EXIF's beyond which a warning says so."""


@dataclass(frozen=True)
class WithKnown:
    """A prediction with known cameras.

    Attributes:
        prediction: with them.
        unit: of its lengths: the known poses' or the rig's, or else the model's.
        details: what was replaced, and how far predictions were from it; JSON-ready values.
    """

    prediction: Prediction
    unit: Unit = "model"
    details: dict[str, Any] = field(default_factory=dict)


def with_known_cameras(prediction: Prediction, known: KnownCameras, images: Sequence[PathLike] = ()) -> WithKnown:
    """Return a prediction with known focal lengths, poses or a rig in the place of predicted ones.

    VGGT takes no cameras as input: known values do not change what it predicts, they replace it. Depth and points
    follow (docs/known-values.md). A warning says so if known focal lengths differ from predicted ones by over a fifth.

    Args:
        prediction: with cameras.
        known: the files or values.
        images: the photographs, or their folder, for focal lengths from EXIF.

    Raises:
        QvggtError: a file cannot be read, names no frame, or does not fit the prediction.
    """
    check_arguments(with_known_cameras, locals())
    unit, details = "model", {}
    if known.focal is not None:
        lenses = _intrinsics(prediction, known.focal, images)
        prediction, details["focal"] = with_intrinsics(prediction, lenses)
        ratio = details["focal"]["median_predicted_over_known"]
        if abs(ratio - 1) > _UNLIKELY:
            log.warning(
                "predicted focal lengths are %.2f times the known ones in the median: check that those are of these "
                "photographs, and in their pixels (--focal)", ratio,
            )  # fmt: skip
    if known.poses is not None:
        poses, unit = read_poses(known.poses, prediction.names)
        prediction, details["poses"] = with_poses(prediction, poses)
    if known.rig is not None:
        prediction, details["rig"] = with_rig(prediction, read_rig(known.rig))
        unit = "meter" if "meters_per_unit" in details["rig"] else "model"
    return WithKnown(prediction, unit, details)


def check_focal(prediction: Prediction, images: Sequence[PathLike]) -> dict[str, Any] | None:
    """Compare predicted focal lengths with those in the photographs' EXIF data; warn if they differ by a fifth.

    Returns:
        The number of frames whose EXIF data have a focal length, and the median ratio predicted / EXIF; None if there
        are none, or the frames are of a video.
    """
    if prediction.intrinsics is None or _is_video(images):
        return None
    lenses = _exif_intrinsics(prediction, images)
    if not lenses:
        return None
    ratios = [
        float(lens[0, 0]) / frame.scale[0] / float(lenses[name][0, 0])
        for name, frame, lens in zip(prediction.names, prediction.maps, prediction.intrinsics, strict=True)
        if name in lenses
    ]
    median = float(np.median(ratios))
    if abs(median - 1) > _UNLIKELY:
        log.warning(
            "predicted focal lengths are %.2f times those in the photographs' EXIF data in the median: if the "
            "photographs were not cropped, use --focal exif", median,
        )  # fmt: skip
    return {"frames": len(ratios), "median_predicted_over_exif": median}


def _intrinsics(prediction: Prediction, focal: float | PathLike, images: Sequence[PathLike]) -> dict[str, np.ndarray]:
    if isinstance(focal, (int, float)):
        return {
            name: focal_intrinsics(focal, frame) for name, frame in zip(prediction.names, prediction.maps, strict=True)
        }
    if str(focal) != "exif":
        return read_intrinsics(focal, prediction.names, prediction.maps)
    if not images:
        raise QvggtError("focal lengths in EXIF are read from the photographs: name their place (--images)")
    found = _exif_intrinsics(prediction, images)
    if not found:
        raise QvggtError("no photograph has a 35 mm equivalent focal length in its EXIF data: give pixels (--focal)")
    return found


def _exif_intrinsics(prediction: Prediction, images: Sequence[PathLike]) -> dict[str, np.ndarray]:
    """Return the intrinsics of photographs whose EXIF data have a focal length."""
    if not images:
        return {}
    found = {}
    files = original_files(images, prediction.names)
    for name, path, frame in zip(prediction.names, files, prediction.maps, strict=True):
        focal = read_tags(path).focal_px(frame.original_size)
        if focal is not None:
            found[name] = focal_intrinsics(focal, frame)
    return found


def _is_video(images: Sequence[PathLike]) -> bool:
    return len(images) == 1 and suffix(Path(images[0])) in VIDEO_SUFFIXES
