"""From a finished prediction to what is written: known cameras, refinement, metric scale, quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qvggt.api.known_cameras import check_focal, with_known_cameras
from qvggt.api.metric_scale import to_meters
from qvggt.api.refine import refined_result
from qvggt.export.result import ResultInfo, judged
from qvggt.options import KnownCameras, RefineOptions, ScaleOptions
from qvggt.types import OnProgress, PathLike, Prediction


def postprocessed(
    prediction: Prediction,
    info: ResultInfo,
    known: KnownCameras,
    scale: ScaleOptions | None,
    *,
    refine: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[Prediction, ResultInfo]:
    """Return a reconstruction with known cameras, refined, scaled and judged, and how it came to be.

    Args:
        prediction: of the images of ``info``.
        info: how it came to be so far.
        known: cameras that replace predicted ones.
        scale: where metric scale comes from; None leaves the model's unit.
        refine: whether cameras are refined on the photographs.
        on_progress: the progress callback.

    Raises:
        QvggtError: a file or photograph cannot be read, or does not fit the prediction.
    """
    checked = check_focal(prediction, info.images) if known.focal is None else None
    if checked is not None:
        info = replace(info, details={**info.details, "focal_check": checked})
    if known != KnownCameras():
        found = with_known_cameras(prediction, known, info.images)
        prediction = found.prediction
        info = replace(info, unit=found.unit, details={**info.details, "known": found.details})
    if refine:
        refinement, info = refined_result(prediction, info, info.images, RefineOptions(), on_progress=on_progress)
        prediction = refinement.prediction
    if scale is not None:
        prediction, info = metric(prediction, info, scale, info.images)
    return prediction, judged(prediction, info, on_progress)


def metric(
    prediction: Prediction, info: ResultInfo, scale: ScaleOptions, images: Sequence[PathLike]
) -> tuple[Prediction, ResultInfo]:
    """Return a reconstruction in meters, and how it came to be."""
    prediction, details = to_meters(prediction, scale, images)
    return prediction, replace(info, unit="meter", details={**info.details, "scale": details})
