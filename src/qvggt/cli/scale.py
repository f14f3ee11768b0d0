"""``qvggt scale``: a saved reconstruction in meters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from qvggt.cli import arguments as given
from qvggt.cli.known import AlignWorld, Scale
from qvggt.options import RESULT_FILES, ExportOptions, ScaleOptions

ResultFolder = Annotated[Path, tyro.conf.Positional, given.argument("RESULT", "folder that reconstruct wrote")]
NewFolder = Annotated[
    Path | None,
    tyro.conf.arg(aliases=["-o"], metavar="DIR", help="output folder", help_behavior_hint="(default: RESULT)"),
]


def scale(
    result: ResultFolder,
    scale: Scale,
    align_world: AlignWorld = ScaleOptions.align_world,
    output: NewFolder = None,
    images: Annotated[tuple[str, ...], given.option("IMAGES", "place of the photographs, if they were moved")] = (),
    max_points: given.MaxPoints = ExportOptions.max_points,
    files: given.Files = RESULT_FILES,
    overwrite: given.Overwrite = False,
    json: given.Json = None,
) -> None:
    """Make a reconstruction metric: rewrite its files in meters, in RESULT itself or in a new folder."""
    from qvggt.api.postprocess import metric
    from qvggt.cli.known import say_known
    from qvggt.cli.show import check_figures, save_figures, say
    from qvggt.export.result import open_result, result_folder, write_result

    sources = ScaleOptions.of(scale, align_world)
    check_figures(json)
    opened = open_result(result)
    target = output or opened.folder
    prediction, info = metric(opened.prediction, opened.info, sources, images or opened.info.images)
    with result_folder(target, overwrite or output is None) as folder:
        written = write_result(prediction, info, folder, max_points, files=files)
    say_known({"scale": info.details["scale"]})
    say(f"{target}: all files are in meters")
    save_figures(json, {"scale": info.details["scale"], "files": written})
