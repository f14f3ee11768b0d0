"""Files of a scene to download, in the formats of other programs."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qvggt.app.web.job import fresh
from qvggt.export import select_points, write_glb, write_ply
from qvggt.export.formats import ExportJob, write_format
from qvggt.export.page import write_page
from qvggt.export.result import PREDICTION, Result
from qvggt.options import FormatOptions

_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""Time of a zip file's members: equal scenes give equal bytes."""


def write_download(name: str, result: Result, folder: Path, drop_percent: float, *, points: int) -> Path:
    """Write one of ``DOWNLOADS``, in place of an earlier download, and return the file.

    Args:
        name: what to write.
        result: the scene.
        folder: of the visitor.
        drop_percent: percentage of pixels, the least confident, that yield no point.
        points: most points.

    Raises:
        QvggtError: the original images are gone, or the disk is full.
    """
    file, write = DOWNLOADS[name]
    info = replace(result.info, drop_percent=drop_percent)
    path = fresh(folder / "download", file)
    write(replace(result, info=info), path, points)
    return path


def _glb(result: Result, path: Path, points: int) -> None:
    cloud = select_points(
        result.prediction, result.info.points_from, max_points=points, drop_percent=result.info.drop_percent
    )
    write_glb(path, result.prediction, cloud, result.info.unit)


def _ply(result: Result, path: Path, points: int) -> None:
    cloud = select_points(
        result.prediction, result.info.points_from, max_points=points, drop_percent=result.info.drop_percent
    )
    write_ply(path, cloud, result.info.unit)


def _colmap(result: Result, path: Path, points: int) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        write_format(ExportJob(result, "colmap", FormatOptions()), Path(folder))
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(each for each in Path(folder).rglob("*") if each.is_file()):
                member = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _FIRST_DAY)
                with file.open("rb") as source, archive.open(member, "w") as target:
                    shutil.copyfileobj(source, target)


def _npz(result: Result, path: Path, points: int) -> None:
    shutil.copyfile(result.folder / PREDICTION, path)


def _page(result: Result, path: Path, points: int) -> None:
    options = replace(result.info.export_options(points), title="qvggt")
    write_page(path, {"scene": result.prediction}, options)


DOWNLOADS: dict[str, tuple[str, Callable[[Result, Path, int], None]]] = {
    "GLB": ("scene.glb", _glb),
    "PLY": ("points.ply", _ply),
    "COLMAP (zip)": ("colmap.zip", _colmap),
    "NumPy (npz)": ("prediction.npz", _npz),
    "HTML page": ("scene.html", _page),
}
"""What can be downloaded, with the file's name and what writes it."""
