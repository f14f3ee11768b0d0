"""Write a prediction as files: PLY, GLB, cameras, depth images and an overview page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qvggt.export.cameras import write_cameras
from qvggt.export.depth_images import write_depth_images
from qvggt.export.glb import write_glb
from qvggt.export.overview import write_overview
from qvggt.export.ply import write_ply
from qvggt.export.points import PointCloud, PointSource, has_points, select_points
from qvggt.files import make_folder
from qvggt.types import PathLike, Prediction, QvggtError

__all__ = [
    "CONTENTS",
    "ExportOptions",
    "PointCloud",
    "PointSource",
    "select_points",
    "write_all",
    "write_cameras",
    "write_depth_images",
    "write_glb",
    "write_overview",
    "write_ply",
]

CONTENTS = ("points.ply", "scene.glb", "cameras.json", "depth", "overview.png")
"""Names that ``write_all`` may create in a folder."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportOptions:
    """Options for exporting a prediction.

    Attributes:
        points_from: ``depth`` (depth and cameras) or ``head`` (the point head).
        max_points: upper limit of points in ``points.ply`` and ``scene.glb``; larger clouds are subsampled at random.
        drop_percent: percentage of pixels, the least confident, that are left out.
        seed: of the subsampling.
        title: heading of ``overview.png``, usually the model's name.
    """

    points_from: PointSource = "depth"
    max_points: int = 1_000_000
    drop_percent: float = 25.0
    seed: int = 0
    title: str = ""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.max_points < 1:
            raise QvggtError(f"the number of points must be at least 1, got {self.max_points}")
        if not 0 <= self.drop_percent <= 100:
            raise QvggtError(f"the share of pixels to leave out must be in 0..100 percent, got {self.drop_percent}")


def write_all(
    prediction: Prediction, folder: PathLike, options: ExportOptions | None = None, caption: str = ""
) -> dict[str, Path]:
    """Write every file for which the prediction has the required outputs.

    The files are ``points.ply``, ``scene.glb``, ``cameras.json``, ``depth/`` and ``overview.png``. Each file is written
    completely or not at all; existing files are replaced.

    Args:
        prediction: with images; files of heads that were not run are skipped, and a log line says so.
        folder: created if missing.
        options: see ``ExportOptions``.
        caption: line below the title of ``overview.png``.

    Returns:
        The path of each file, keyed by its name inside ``folder``, in the order of writing.

    Raises:
        QvggtError: if ``points_from`` names outputs that are missing while the other source is present, if the geometry
            is not finite, or if a file cannot be written.
    """
    options = options or ExportOptions()
    folder = make_folder(folder)
    cloud = _cloud(prediction, options)
    written: dict[str, Path] = {}

    def write(name: str, writer: Callable[[Path], None]) -> None:
        writer(folder / name)
        written[name] = folder / name

    if cloud is not None:
        write("points.ply", lambda path: write_ply(path, cloud))
    if cloud is not None or prediction.cam_from_world is not None:
        write("scene.glb", lambda path: write_glb(path, prediction, cloud))
    if prediction.cam_from_world is not None:
        write("cameras.json", lambda path: write_cameras(path, prediction))
    if prediction.depth is not None:
        written |= {f"depth/{path.name}": path for path in write_depth_images(folder / "depth", prediction)}
    write("overview.png", lambda path: write_overview(path, prediction, cloud, options.title, caption))
    return written


def _cloud(prediction: Prediction, options: ExportOptions) -> PointCloud | None:
    if not any(has_points(prediction, source) for source in ("depth", "head")):
        _log.info("no points.ply: neither depth with cameras nor world points were predicted")
        return None
    return select_points(
        prediction,
        options.points_from,
        max_points=options.max_points,
        drop_percent=options.drop_percent,
        seed=options.seed,
    )
