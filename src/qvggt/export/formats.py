"""Write a reconstruction in the format of another program."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qvggt.export import nerfstudio, trajectory
from qvggt.export.colmap import write_colmap
from qvggt.export.depth_arrays import write_depth_arrays
from qvggt.export.depth_images import write_depth_images
from qvggt.export.glb import write_glb
from qvggt.export.nerfstudio import write_nerfstudio
from qvggt.export.ply import write_ply
from qvggt.export.points import PointCloud, select_points
from qvggt.export.result import Result
from qvggt.export.splat import write_splat
from qvggt.export.tracks import find_tracks
from qvggt.export.trajectory import write_trajectories
from qvggt.export.views import View, with_shared_intrinsics, write_masks, write_originals, write_processed
from qvggt.files import write_json
from qvggt.images.originals import frame_times
from qvggt.options import FORMAT_POINTS, ExportFormat, FormatOptions, Unit
from qvggt.types import PathLike, Prediction, QvggtError

SUMMARY = "export.json"
FORMAT_CONTENTS = (
    "sparse", "images", "masks", "transforms.json", nerfstudio.POINTS, "splat.ply", "points.ply", "scene.glb",
    *trajectory.FILES, "depth", SUMMARY,
)  # fmt: skip
"""Names that ``write_format`` may create in a folder."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportReport:
    """What an export contains; None where a format has no such thing.

    Attributes:
        format: of the files.
        unit: unit of lengths, ``model`` (unknown scale) or ``meter``.
        frames: number of frames.
        cameras: number of distinct cameras of a COLMAP model.
        points: number of points.
        observations: number of observations of the points by images.
        reprojection_error_px: mean over the points of their mean reprojection error, in pixels of the exported images.
        times: timestamps of a trajectory: ``video`` (seconds of the video) or ``index`` (the frame's number, from 0).
        bytes: size of all files.
        files: their names in the folder.
    """

    format: ExportFormat
    unit: Unit
    frames: int
    cameras: int | None = None
    points: int | None = None
    observations: int | None = None
    reprojection_error_px: float | None = None
    times: str | None = None
    bytes: int = 0
    files: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields that the format has as JSON-ready values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def write_format(
    result: Result, folder: Path, kind: ExportFormat, options: FormatOptions, images: Sequence[PathLike] = ()
) -> ExportReport:
    """Write a reconstruction into a folder, with ``export.json``, which says what is in it.

    Args:
        result: of a reconstruction.
        folder: which exists.
        kind: format of the files.
        options: see ``FormatOptions``.
        images: where the original images are; empty for where they were.

    Raises:
        QvggtError: outputs or original images that the format needs are missing, or a file cannot be written.
    """
    info = result.info
    options = replace(
        options,
        points_from=options.points_from or info.points_from,
        drop_percent=info.drop_percent if options.drop_percent is None else options.drop_percent,
        max_points=options.max_points or FORMAT_POINTS.get(kind),
    )
    report = ExportReport(kind, info.unit, len(result.prediction.names))
    if kind in ("colmap", "nerfstudio"):
        report = _write_scene(result, folder, options, report, images=images)
    elif kind == "trajectory":
        report = _write_trajectory(result, folder, report, images)
    elif kind == "depth":
        _write_depth(result.prediction, folder / "depth", options, info.unit)
    else:
        cloud = _cloud(result.prediction, options)
        report = replace(report, points=len(cloud))
        if kind == "ply":
            write_ply(folder / "points.ply", cloud, info.unit)
        elif kind == "splat":
            write_splat(folder / "splat.ply", cloud, info.unit)
        else:
            write_glb(folder / "scene.glb", result.prediction, cloud, info.unit)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    report = replace(report, bytes=sum(path.stat().st_size for path in files), files=names)
    write_json(folder / SUMMARY, {"version": 1, **report.to_json()})
    return report


def _write_scene(
    result: Result, folder: Path, options: FormatOptions, report: ExportReport, images: Sequence[PathLike]
) -> ExportReport:
    """Write images, masks and a COLMAP model or ``transforms.json``."""
    prediction = with_shared_intrinsics(result.prediction) if options.shared_camera else result.prediction
    views = _write_images(result, folder / "images", prediction, options, images=images)
    write_masks(folder / "masks", prediction, views)
    if report.format == "nerfstudio":
        cloud = _cloud(prediction, options)
        write_nerfstudio(folder, views, cloud, report.unit, has_masks=prediction.mask is not None)
        return replace(report, points=len(cloud))
    assert options.points_from is not None
    assert options.max_points is not None
    assert options.drop_percent is not None
    tracks = find_tracks(
        prediction, views, options.points_from, max_points=options.max_points, drop_percent=options.drop_percent,
        seed=options.seed,
    )  # fmt: skip
    cameras = write_colmap(folder / "sparse" / "0", views, tracks, options.shared_camera, text=options.text)
    return replace(
        report, cameras=cameras, points=len(tracks.points), observations=len(tracks.owner),
        reprojection_error_px=float(tracks.errors.mean()),
    )  # fmt: skip


def _write_images(
    result: Result, folder: Path, prediction: Prediction, options: FormatOptions, images: Sequence[PathLike]
) -> list[View]:
    if options.resolution == "processed":
        return write_processed(folder, prediction)
    return write_originals(folder, prediction, result.sources(images))


def _write_trajectory(result: Result, folder: Path, report: ExportReport, images: Sequence[PathLike]) -> ExportReport:
    times = None
    try:
        if images or result.info.images:
            times = frame_times(result.sources(images), result.prediction.names)
    except QvggtError as error:
        if images:
            raise
        log.warning("timestamps are the numbers of the frames, because the images cannot be read: %s", error)
    write_trajectories(folder, result.prediction, range(report.frames) if times is None else times)
    return replace(report, times="index" if times is None else "video")


def _write_depth(prediction: Prediction, folder: Path, options: FormatOptions, unit: Unit) -> None:
    if options.depth_files == "png":
        write_depth_images(folder, prediction, unit)
    else:
        write_depth_arrays(folder, prediction, options.depth_files, unit)


def _cloud(prediction: Prediction, options: FormatOptions) -> PointCloud:
    assert options.points_from is not None
    assert options.max_points is not None
    assert options.drop_percent is not None
    return select_points(
        prediction, options.points_from, max_points=options.max_points, drop_percent=options.drop_percent,
        seed=options.seed,
    )  # fmt: skip
