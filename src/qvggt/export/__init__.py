"""Write a prediction as files: PLY, GLB, cameras, depth images and an overview page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from qvggt.export.cameras import write_cameras
from qvggt.export.depth_images import write_depth_images
from qvggt.export.glb import write_glb
from qvggt.export.overview import write_overview
from qvggt.export.ply import write_ply
from qvggt.export.points import PointCloud, has_points, select_points, with_lens_points
from qvggt.files import make_folder
from qvggt.options import ExportOptions, ResultFile
from qvggt.postprocess.distortion import Lens
from qvggt.types import PathLike, Prediction

__all__ = [
    "CONTENTS",
    "PointCloud",
    "select_points",
    "write_all",
    "write_cameras",
    "write_depth_images",
    "write_glb",
    "write_overview",
    "write_ply",
]

CONTENTS = ("points.ply", "scene.glb", "cameras.json", "depth/", "overview.png")
"""Names that ``write_all`` may create in a folder."""

_OF_POINTS: frozenset[ResultFile] = frozenset(("points.ply", "scene.glb", "overview.png"))
"""Files that show the points."""

_log = logging.getLogger(__name__)


def write_all(
    prediction: Prediction,
    folder: PathLike,
    options: ExportOptions | None = None,
    caption: str = "",
    badges: Sequence[str] = (),
    lenses: Sequence[Lens | None] = (),
) -> dict[str, Path]:
    """Write every file for which the prediction has the required outputs.

    The files are those of ``options.files`` but ``prediction.npz``, by default ``points.ply``, ``scene.glb``,
    ``cameras.json``, ``depth/`` and ``overview.png``. Each file is written completely or not at all; existing files are
    replaced.

    Args:
        prediction: with images; files of heads that were not run are skipped, and a log line says so.
        folder: created if missing.
        options: see ``ExportOptions``.
        caption: line below the title of ``overview.png``.
        badges: warnings of a few words that stand beside it.
        lenses: of the photographs in which a distortion was found, None for pinholes; empty if all are pinholes.

    Returns:
        The path of each file, keyed by its name inside ``folder``, in the order of writing.

    Raises:
        QvggtError: if ``points_from`` names outputs that are missing while the other source is present, if the geometry
            is not finite, or if a file cannot be written.
    """
    options = options or ExportOptions()
    folder = make_folder(folder)
    cloud = None if _OF_POINTS.isdisjoint(options.files) else _cloud(prediction, options, lenses)
    written: dict[str, Path] = {}

    def write(name: ResultFile, writer: Callable[[Path], None]) -> None:
        if name in options.files:
            writer(folder / name)
            written[name] = folder / name

    if cloud is not None:
        write("points.ply", lambda path: write_ply(path, cloud, options.unit))
    if cloud is not None or prediction.cam_from_world is not None:
        write("scene.glb", lambda path: write_glb(path, prediction, cloud, options.unit))
    if prediction.cam_from_world is not None:
        write("cameras.json", lambda path: write_cameras(path, prediction, options.unit))
    if prediction.depth is not None and "depth" in options.files:
        images = write_depth_images(folder / "depth", prediction, options.unit)
        written |= {f"depth/{path.name}": path for path in images}

    def overview(path: Path) -> None:
        write_overview(path, prediction, cloud, options.title, caption=caption, unit=options.unit, badges=badges)

    write("overview.png", overview)
    return written


def _cloud(prediction: Prediction, options: ExportOptions, lenses: Sequence[Lens | None]) -> PointCloud | None:
    if not any(has_points(prediction, source) for source in ("depth", "head")):
        _log.info("no points.ply: neither depth with cameras nor world points were predicted")
        return None
    source = options.points_from
    if any(lenses):
        prediction, source = with_lens_points(prediction, lenses, source), "head"
    return select_points(
        prediction,
        source,
        max_points=options.max_points,
        drop_percent=options.drop_percent,
        seed=options.seed,
    )
