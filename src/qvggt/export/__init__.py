"""Files of a prediction for other programs and for the eye: PLY, GLB, cameras, depth images, an overview."""

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
"""Names of what ``write_all`` may put into a folder."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportOptions:
    """What goes into the files of a prediction.

    Attributes:
        points_from: ``depth`` (depth and cameras) or ``head`` (the point head).
        max_points: the most points in ``points.ply`` and ``scene.glb``; more are thinned at random.
        drop_percent: how many percent of the pixels, the least confident, give no point.
        seed: of the thinning.
        title: heads ``overview.png``, as a rule the model's name.
    """

    points_from: PointSource = "depth"
    max_points: int = 1_000_000
    drop_percent: float = 25.0
    seed: int = 0
    title: str = ""

    def __post_init__(self) -> None:
        """Refuse what no selection of points could follow."""
        if self.max_points < 1:
            raise QvggtError(f"the number of points must be at least 1, got {self.max_points}")
        if not 0 <= self.drop_percent <= 100:
            raise QvggtError(f"the share of pixels to leave out must lie in 0..100 percent, got {self.drop_percent}")


def write_all(
    prediction: Prediction, folder: PathLike, options: ExportOptions | None = None, caption: str = ""
) -> dict[str, Path]:
    """Write every file that the prediction has the heads for.

    These are ``points.ply``, ``scene.glb``, ``cameras.json``, ``depth/`` and ``overview.png``. Each file appears whole
    or not at all; files already there are replaced.

    Args:
        prediction: at least images; heads that were not run leave their files out, and a log line says so.
        folder: created where it is missing.
        options: see ``ExportOptions``.
        caption: a line below the title of ``overview.png``.

    Returns:
        The path of each file by its name inside ``folder``, in the order of writing.

    Raises:
        QvggtError: if the point source asked for was not run while the other one was, if the geometry is not finite, or
            if a file cannot be written.
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
        _log.info("The heads that were run give no points: points.ply is left out.")
        return None
    return select_points(
        prediction,
        options.points_from,
        max_points=options.max_points,
        drop_percent=options.drop_percent,
        seed=options.seed,
    )
