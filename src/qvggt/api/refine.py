"""The public verb ``refine``: cameras adjusted to matches between the original photographs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from qvggt.export.result import ResultInfo
from qvggt.images.decode import array_as_rgb, as_rgb
from qvggt.images.originals import read_originals
from qvggt.images.sources import ImageSource, items_of
from qvggt.options import RefineOptions
from qvggt.options.checks import check_arguments
from qvggt.postprocess.refine.refinement import Refinement, refine_prediction
from qvggt.types import OnProgress, PathLike, Prediction, QvggtError

_LENS = ("radial_distortion", "lens_focal_px")
"""Values of a refined frame that say which lens it was taken with."""


def refine(
    prediction: Prediction,
    images: ImageSource,
    options: RefineOptions = RefineOptions(),  # noqa: B008  frozen
    on_progress: OnProgress | None = None,
) -> Refinement:
    """Adjust cameras to feature matches between the original photographs; never to worse ones.

    Some of the matches are held out and judge the result, frame by frame. Cameras that too few matches determine stay
    as they are; the report says which and why. World frame and scale are kept, depth maps get one scale each.

    Args:
        prediction: of ``reconstruct``, with cameras.
        images: what was reconstructed: a folder, glob, video, image paths, or the images themselves in order (RGB,
            uint8 or 0..1).
        options: what is held, and how much is searched.
        on_progress: called with the stage and the share done.

    Raises:
        QvggtError: pycolmap is not installed, the prediction has no cameras, or the images are not those that were
            reconstructed.
    """
    check_arguments(refine, locals())
    return refine_prediction(prediction, _photographs(items_of(images), prediction), options, on_progress)


def refined_result(
    prediction: Prediction,
    info: ResultInfo,
    images: ImageSource,
    options: RefineOptions,
    on_progress: OnProgress | None = None,
) -> tuple[Refinement, ResultInfo]:
    """Return a refinement, which keeps what the user knows, and how the refined reconstruction came to be."""
    options = replace(
        options,
        hold_focal=options.hold_focal or info.focal_known,
        hold_poses=options.hold_poses or info.poses_known,
        rig_moments=options.rig_moments or info.rig_moments,
    )
    found = refine(prediction, images, options, on_progress)
    report = found.report.to_json()
    before = info.details.get("refinement", {}).get("frames", [])
    earlier = {frame["name"]: {name: frame.get(name) for name in _LENS} for frame in before}
    for frame in report["frames"]:
        if not frame["refined"] and earlier.get(frame["name"], {}).get("lens_focal_px"):
            frame |= earlier[frame["name"]]  # its camera is still the one of that lens
    return found, replace(info, details={**info.details, "refinement": report})


def _photographs(items: Sequence[PathLike | Image.Image | np.ndarray], prediction: Prediction) -> Iterator[Image.Image]:
    places = [item for item in items if isinstance(item, (str, os.PathLike))]
    pictures = [item for item in items if not isinstance(item, (str, os.PathLike))]
    if not pictures:
        yield from read_originals(places, prediction.names, prediction.maps)
        return
    if places:
        raise QvggtError("paths and images are mixed: give either the place of the images, or all of them")
    if len(items) != len(prediction.names):
        raise QvggtError(f"{len(items)} images are given, and {len(prediction.names)} were reconstructed: give those")
    for item, name, frame in zip(pictures, prediction.names, prediction.maps, strict=True):
        image = array_as_rgb(item, name) if isinstance(item, np.ndarray) else as_rgb(item, name)
        if image.size != frame.original_size:
            was = "x".join(map(str, frame.original_size))
            raise QvggtError(f"{name} has {image.width}x{image.height} px, and {was} were reconstructed: give those")
        yield image
