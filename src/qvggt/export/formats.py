"""Write a reconstruction in the format of another program."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from qvggt.export import nerfstudio, trajectory
from qvggt.export.colmap import write_colmap
from qvggt.export.depth_arrays import write_depth_arrays
from qvggt.export.depth_images import write_depth_images
from qvggt.export.glb import write_glb
from qvggt.export.nerfstudio import write_nerfstudio
from qvggt.export.ply import write_ply
from qvggt.export.points import PointCloud, select_points, with_lens_points
from qvggt.export.result import Result
from qvggt.export.splat import write_splat
from qvggt.export.tracks import find_tracks
from qvggt.export.trajectory import write_trajectories
from qvggt.export.views import View, with_shared_intrinsics, write_masks, write_originals, write_processed
from qvggt.files import write_json
from qvggt.images.originals import frame_times
from qvggt.options import FORMAT_POINTS, ExportFormat, FormatOptions, PointsFrom, Unit
from qvggt.postprocess.distortion import Lens, undistorted
from qvggt.types import OnProgress, PathLike, Prediction, QvggtError

SUMMARY = "export.json"
FORMAT_CONTENTS = (
    "sparse/", "images/", "masks/", "transforms.json", nerfstudio.POINTS, "splat.ply", "points.ply", "scene.glb",
    *trajectory.FILES, "depth/", SUMMARY,
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
        undistorted: number of images that were undistorted, or whose points are where their distorted lens saw them.
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
    undistorted: int | None = None
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


@dataclass(frozen=True)
class ExportJob:
    """What is to be exported.

    Attributes:
        result: of a reconstruction.
        format: of the files.
        options: see ``FormatOptions``.
        images: where the original images are; empty for where they were.
        masks: where the masks of the original images are; None for where they were.
        on_progress: called while images are written.
    """

    result: Result
    format: ExportFormat
    options: FormatOptions
    images: Sequence[PathLike] = ()
    masks: PathLike | None = None
    on_progress: OnProgress | None = None

    @cached_property
    def lenses(self) -> list[Lens | None]:
        """The lens of each photograph that is undistorted."""
        none: list[Lens | None] = [None] * len(self.result.prediction.names)
        return none if self.options.keep_distortion else self.result.lenses()

    @property
    def unit(self) -> Unit:
        """Unit of lengths."""
        return self.result.info.unit

    @property
    def points_from(self) -> PointsFrom:
        """Source of points."""
        return self.options.points_from or self.result.info.points_from

    @property
    def max_points(self) -> int:
        """Most points."""
        return self.options.max_points or FORMAT_POINTS[self.format]

    @property
    def drop_percent(self) -> float:
        """Percentage of pixels, the least confident, that yield no point."""
        given = self.options.drop_percent
        return self.result.info.drop_percent if given is None else given


def write_format(job: ExportJob, folder: Path) -> ExportReport:
    """Write a reconstruction into a folder, with ``export.json``, which says what is in it.

    Raises:
        QvggtError: outputs or original images that the format needs are missing, or a file cannot be written.
    """
    report = _WRITERS[job.format](job, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    report = replace(report, bytes=sum(path.stat().st_size for path in files), files=names)
    write_json(folder / SUMMARY, {"version": 1, **report.to_json()})
    return report


def _report(job: ExportJob) -> ExportReport:
    return ExportReport(job.format, job.unit, len(job.result.prediction.names))


def _write_colmap(job: ExportJob, folder: Path) -> ExportReport:
    prediction, views = _write_images(job, folder)
    tracks = find_tracks(
        prediction, views, job.points_from, max_points=job.max_points, drop_percent=job.drop_percent,
        seed=job.options.seed,
    )  # fmt: skip
    options = job.options
    cameras = write_colmap(folder / "sparse" / "0", views, tracks, options.shared_camera, text=options.text)
    return replace(
        _report(job), undistorted=_undistorted(job), cameras=cameras, points=len(tracks.points),
        observations=len(tracks.owner), reprojection_error_px=float(tracks.errors.mean()),
    )  # fmt: skip


def _write_nerfstudio(job: ExportJob, folder: Path) -> ExportReport:
    prediction, views = _write_images(job, folder)
    cloud = _cloud(job, prediction, job.points_from)
    write_nerfstudio(folder, views, cloud, job.unit, has_masks=prediction.mask is not None)
    return replace(_report(job), undistorted=_undistorted(job), points=len(cloud))


def _undistorted(job: ExportJob) -> int | None:
    return sum(lens is not None for lens in job.lenses) or None


def _write_images(job: ExportJob, folder: Path) -> tuple[Prediction, list[View]]:
    """Write images and masks, and return the prediction with the intrinsics to export, and a view of each image."""
    prediction, masks = job.result.prediction, None
    if any(job.lenses):
        prediction = undistorted(prediction, job.lenses)
    if job.options.shared_camera:
        prediction = with_shared_intrinsics(prediction)
    if job.options.resolution == "processed":
        views = write_processed(folder / "images", prediction)
    else:
        sources, masks = job.result.sources(job.images), job.result.masks(job.masks)
        views = write_originals(folder / "images", prediction, sources, job.lenses, on_progress=job.on_progress)
    write_masks(folder / "masks", prediction, views, masks, lenses=job.lenses)
    return prediction, views


def _cloud(job: ExportJob, prediction: Prediction, source: PointsFrom) -> PointCloud:
    return select_points(
        prediction, source, max_points=job.max_points, drop_percent=job.drop_percent, seed=job.options.seed
    )


def _write_points(job: ExportJob, folder: Path) -> ExportReport:
    prediction, source = job.result.prediction, job.points_from
    if any(job.lenses):
        prediction, source = with_lens_points(prediction, job.lenses, source), "head"
    cloud = _cloud(job, prediction, source)
    if job.format == "ply":
        write_ply(folder / "points.ply", cloud, job.unit)
    elif job.format == "splat":
        write_splat(folder / "splat.ply", cloud, job.unit)
    else:
        write_glb(folder / "scene.glb", prediction, cloud, job.unit)
    return replace(_report(job), undistorted=_undistorted(job), points=len(cloud))


def _write_trajectory(job: ExportJob, folder: Path) -> ExportReport:
    result, times = job.result, None
    try:
        if job.images or result.info.images:
            times = frame_times(result.sources(job.images), result.prediction.names)
    except QvggtError as error:
        if job.images:
            raise
        log.warning("timestamps are the numbers of the frames, because the images cannot be read: %s", error)
    report = replace(_report(job), times="index" if times is None else "video")
    write_trajectories(folder, result.prediction, range(report.frames) if times is None else times)
    return report


def _write_depth(job: ExportJob, folder: Path) -> ExportReport:
    kind, prediction = job.options.depth_files, job.result.prediction
    if kind == "png":
        write_depth_images(folder / "depth", prediction, job.unit)
    else:
        write_depth_arrays(folder / "depth", prediction, kind, job.unit)
    return _report(job)


_WRITERS: dict[ExportFormat, Callable[[ExportJob, Path], ExportReport]] = {
    "colmap": _write_colmap,
    "nerfstudio": _write_nerfstudio,
    "splat": _write_points,
    "ply": _write_points,
    "glb": _write_points,
    "trajectory": _write_trajectory,
    "depth": _write_depth,
}
