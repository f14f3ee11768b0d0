"""``qvggt refine``: cameras of a saved reconstruction, adjusted to matches between its photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from qvggt.cli import arguments as given
from qvggt.options import RESULT_FILES, ExportOptions, RefineOptions

ResultFolder = Annotated[Path, given.Positional, given.argument("RESULT", "folder that reconstruct wrote")]
NewFolder = Annotated[
    Path | None,
    tyro.conf.arg(aliases=["-o"], metavar="DIR", help="output folder", help_behavior_hint="(default: RESULT)"),
]


def refine(
    result: ResultFolder,
    output: NewFolder = None,
    images: Annotated[tuple[str, ...], given.option("IMAGES", "place of the photographs, if they were moved")] = (),
    hold_focal: Annotated[bool, given.Flag, given.flag("keep the focal lengths")] = RefineOptions.hold_focal,
    hold_poses: Annotated[bool, given.Flag, given.flag("keep the poses")] = RefineOptions.hold_poses,
    max_size: Annotated[int, given.number("longer side in pixels at which features are detected")] = (
        RefineOptions.max_size
    ),
    max_features: Annotated[int, given.number("most features per photograph")] = RefineOptions.max_features,
    seed: Annotated[int, given.number("random seed of the matches that are held out")] = RefineOptions.seed,
    max_points: given.MaxPoints = ExportOptions.max_points,
    files: given.Files = RESULT_FILES,
    overwrite: given.Overwrite = False,
    json: given.Json = None,
) -> None:
    """Refine cameras by bundle adjustment, in RESULT itself or in a new folder; held-out matches judge every change."""
    from qvggt.api.refine import refined_result
    from qvggt.cli.show import check_figures, files_text, progress, save_figures, say
    from qvggt.export.result import judged, open_result, result_folder, write_result
    from qvggt.postprocess.refine.report import summary

    options = RefineOptions(
        max_size=max_size, max_features=max_features, hold_focal=hold_focal, hold_poses=hold_poses, seed=seed
    )
    check_figures(json)
    opened = open_result(result)
    target = output or opened.folder
    with result_folder(target, overwrite or output is None) as folder, progress("refining") as update:
        sources = opened.sources(images)
        found, info = refined_result(opened.prediction, opened.info, sources, options, on_progress=update)
        info = judged(found.prediction, info, update)
        written = write_result(found.prediction, info, folder, max_points, files=files)
    for line in summary(info.details["refinement"]):
        say(line)
    say(f"{target}: {files_text(written)}")
    save_figures(json, {**info.details, "files": written})
