"""The public verb export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qvggt.export.formats import FORMAT_CONTENTS, ExportJob, ExportReport, write_format
from qvggt.export.result import Result, ResultInfo, open_result
from qvggt.files import new_folder
from qvggt.options import ExportFormat, FormatOptions
from qvggt.options.checks import check_arguments
from qvggt.options.choices import check_choice
from qvggt.types import OnProgress, PathLike, Prediction


def export(
    result: Result | Prediction | PathLike,
    folder: PathLike,
    format: ExportFormat,
    options: FormatOptions | None = None,
    images: Sequence[PathLike] | PathLike = (),
    overwrite: bool = False,
    masks: PathLike | None = None,
    on_progress: OnProgress | None = None,
) -> ExportReport:
    """Write a reconstruction in the format of another program.

    Args:
        result: a folder that ``qvggt reconstruct`` wrote, its ``prediction.npz``, or a prediction.
        folder: for the files; new, or an earlier export if ``overwrite``.
        format: ``colmap``, ``nerfstudio``, ``splat``, ``ply``, ``glb``, ``trajectory`` or ``depth``.
        options: the defaults if None.
        images: where the original images are, if they are not where they were reconstructed from; a prediction does
            not know.
        overwrite: whether an earlier export in the folder may be replaced.
        masks: where the user's masks are, if they are not where they were.
        on_progress: called with the image being written and the share done.

    Returns:
        Counts, and the reprojection error of tracks; ``export.json`` in the folder has the same.

    Raises:
        QvggtError: the result cannot be read, outputs or original images that the format needs are missing, or a file
            cannot be written.
    """
    check_arguments(export, locals())
    check_choice("format", format, ExportFormat)
    if isinstance(result, Prediction):
        result = Result(Path("the prediction"), result, ResultInfo())
    elif not isinstance(result, Result):
        result = open_result(result)
    places = [images] if isinstance(images, (str, Path)) else images
    job = ExportJob(result, format, options or FormatOptions(), places, masks=masks, on_progress=on_progress)
    with new_folder(folder, FORMAT_CONTENTS, overwrite) as staging:
        return write_format(job, staging)
