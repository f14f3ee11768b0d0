"""``qvggt export-model``: a model as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qvggt.cli import arguments as given
from qvggt.options import Head, OnnxCompute, OnnxOptions

if TYPE_CHECKING:
    from qvggt.api.export_model import OnnxReport


def export_model(
    model: given.Model,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE.onnx", help="file to write")],
    size: Annotated[
        tuple[int, ...],
        given.number("width of the images in pixels, or width and height", "(default: the model's)", "PX"),
    ] = OnnxOptions.size,
    heads: Annotated[tuple[Head, ...], tyro.conf.arg(help="outputs")] = OnnxOptions.heads,
    compute: Annotated[
        OnnxCompute, tyro.conf.arg(help="arithmetic of packed linear layers; int8 rounds activations to 8 bits")
    ] = OnnxOptions.compute,
    check_frames: Annotated[
        tuple[int, ...], given.number("run the file with these numbers of images and compare with the model", None, "N")
    ] = OnnxOptions.check_frames,
    revision: given.Revision = None,
    overwrite: given.Overwrite = False,
    json: given.Json = None,
) -> None:
    """Write a model as an ONNX file for ONNX Runtime: one size of images, any number of them.

    4-bit weights stay 4-bit weights (MatMulNBits). The file is run and compared with the model before it gets its name.
    """
    from qvggt.api.export_model import export_model as api
    from qvggt.cli.show import check_figures, progress, save_figures, say

    check_figures(json)
    options = OnnxOptions(size, heads, compute, check_frames)
    with progress("export") as update:
        report = api(model, output, options, revision, overwrite=overwrite, on_progress=update)
    _print(report)
    data = "" if report.data_path is None else f" and {report.data_path}"
    say(f"{output}{data}: {report.bytes / 1e6:.1f} MB, images of {report.size[0]}x{report.size[1]} px")
    save_figures(json, report.to_json())


def _print(report: OnnxReport) -> None:
    from rich.table import Table

    from qvggt.cli.show import say_table

    if not report.checks:
        return
    table = Table("frames", "ONNX Runtime, s", "qvggt, s", box=None, header_style="bold", pad_edge=False)
    for name in report.checks[0].differences:
        table.add_column(name, justify="right")
    for check in report.checks:
        seconds = f"{check.seconds:.3g}", f"{check.model_seconds:.3g}"
        table.add_row(str(check.frames), *seconds, *(f"{value:.1e}" for value in check.differences.values()))
    say_table(table)
