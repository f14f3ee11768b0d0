"""``qvggt export``: a reconstruction in the format of another program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qvggt.cli import arguments as given
from qvggt.cli.arguments import flag, number, option
from qvggt.options import DepthFiles, ExportFormat, FormatOptions, PointsFrom, Resolution

if TYPE_CHECKING:
    from qvggt.export.formats import ExportReport

_OF_RESULT = "(default: the reconstruction's)"


def export(
    result: Annotated[Path, given.Positional, given.argument("RESULT", "a folder that reconstruct wrote")],
    output: given.Output,
    format: Annotated[ExportFormat, tyro.conf.arg(help="what to write")],
    images: Annotated[
        tuple[str, ...], option("IMAGES", "where the original images are", "(default: where they were)")
    ] = (),
    masks: Annotated[Path | None, option("DIR", "where the masks are", "(default: where they were)")] = None,
    resolution: Annotated[Resolution, tyro.conf.arg(help="of images: original, or as the model saw them")] = (
        FormatOptions.resolution
    ),
    shared_camera: Annotated[bool, given.Flag, flag("one camera for all images of one size")] = False,
    text: Annotated[bool, given.Flag, flag("COLMAP's text files in place of binary ones")] = False,
    max_points: Annotated[int | None, number("most points", "(default: 100000; ply, glb: 1000000)")] = None,
    points_from: Annotated[PointsFrom | None, option("depth|head", "source of points", _OF_RESULT)] = None,
    drop_percent: Annotated[float | None, given.drop_percent(_OF_RESULT)] = None,
    depth_files: Annotated[DepthFiles, tyro.conf.arg(help="file type of depth maps")] = FormatOptions.depth_files,
    keep_distortion: Annotated[bool, given.Flag, flag("leave the distortion that refinement found in images")] = (
        FormatOptions.keep_distortion
    ),
    overwrite: given.Overwrite = False,
    json: given.Json = None,
) -> None:
    """Write a reconstruction for other programs: COLMAP, nerfstudio, splats, PLY, GLB, trajectories, depth maps."""
    from qvggt.api.export import export as api
    from qvggt.cli.show import check_figures, progress, save_figures, say
    from qvggt.inference.process_memory import size_text

    check_figures(json)
    options = FormatOptions(
        resolution, shared_camera, text, max_points, points_from=points_from, drop_percent=drop_percent,
        depth_files=depth_files, keep_distortion=keep_distortion,
    )  # fmt: skip
    with progress(format) as update:
        report = api(
            result, output, format, options, images=images, overwrite=overwrite, masks=masks, on_progress=update
        )
    say(_sentence(report))
    say(f"{output}: {_places(report)}, {size_text(report.bytes)}")
    save_figures(json, report.to_json())


def _sentence(report: ExportReport) -> str:
    from qvggt.cli.show import count_text

    parts = [count_text(report.frames, "frame")]
    if report.undistorted is not None:
        parts.append(f"lens distortion removed in {count_text(report.undistorted, 'frame')}")
    if report.cameras is not None:
        parts.append(count_text(report.cameras, "camera"))
    if report.points is not None:
        parts.append(count_text(report.points, "point"))
    if report.observations is not None and report.points:
        parts.append(f"each seen in {report.observations / report.points:.1f} images on average")
        parts.append(f"mean reprojection error {report.reprojection_error_px:.2f} px")
    if report.times is not None:
        parts.append(f"timestamps {'in seconds of the video' if report.times == 'video' else 'are frame numbers'}")
    return f"{', '.join(parts)}; lengths in {'meters' if report.unit == 'meter' else 'the unit of the model'}"


def _places(report: ExportReport) -> str:
    """Return the files, and of files in folders the folder."""
    places = dict.fromkeys("/".join([*name.split("/")[:-1], ""]) if "/" in name else name for name in report.files)
    return ", ".join(places)
