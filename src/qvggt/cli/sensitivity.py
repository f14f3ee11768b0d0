"""``qvggt sensitivity``: which parts of a model lose the most when they are quantized."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qvggt.cli.arguments import (
    Calib,
    CalibFrames,
    CalibRoot,
    CalibScenes,
    CalibSeed,
    Device,
    GroupSize,
    Model,
    Revision,
    Supervision,
    ZeroPoints,
    number,
)
from qvggt.types import QvggtError

if TYPE_CHECKING:
    from qvggt.calibration.sensitivity import SensitivityReport

_LISTED = 12


def sensitivity(
    model: Model,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE.json", help="write the report to this file")],
    plot: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE.png", help="draw the report to this file", help_behavior_hint="(optional)"),
    ] = None,
    bits: Annotated[tuple[int, ...], number("try these widths, each 2..8", metavar="N")] = (3, 4, 8),
    group_size: GroupSize = 128,
    zero_points: ZeroPoints = False,
    granularity: Annotated[
        Literal["unit", "part", "layer"],
        tyro.conf.arg(help="quantize a block or head at a time, layers of one kind in it, or a single layer"),
    ] = "part",
    rounding: Annotated[
        Literal["nearest", "second-order"],
        tyro.conf.arg(help="round to nearest, or by second order as gptq and qvggt+ do"),
    ] = "nearest",
    calib: Calib = "rooms",
    calib_root: CalibRoot = None,
    calib_scenes: CalibScenes = 8,
    calib_frames: CalibFrames = 4,
    seed: CalibSeed = 0,
    supervision: Supervision = "teacher",
    device: Device = "cpu",
    revision: Revision = None,
) -> None:
    """Say which parts of a model are fragile.

    One part at a time is rounded to few bits, the rest stays floating, and the loss of the whole model is measured:
    of cameras, depth, points, and of points against depth and cameras. What the report holds is what `qvggt quantize`
    weighs when it is given a budget.
    """
    from qvggt.api.sensitivity import sensitivity as measure
    from qvggt.cli.show import check_figures, check_picture, progress, save_figures, say
    from qvggt.inference.process_memory import peak_memory_bytes, size_text
    from qvggt.options import CalibrationOptions, SensitivityOptions, sensitivity_schemes
    from qvggt.plots.sensitivity import write_sensitivity_picture

    check_picture(plot, "--plot")
    if not bits:
        raise QvggtError("there is nothing to try: give --bits at least one width")
    check_figures(output)
    schemes = sensitivity_schemes(bits, group_size, not zero_points)
    options = SensitivityOptions(schemes, granularity, rounding, supervision)
    calibration = CalibrationOptions(calib, calib_root, scenes=calib_scenes, frames=calib_frames, seed=seed)
    started = time.perf_counter()
    with progress(model) as update:
        report = measure(model, options, calibration, device, revision, update)
    save_figures(output, report.to_json())
    if plot is not None:
        write_sensitivity_picture(plot, report)
    _print(report)
    say(f"{time.perf_counter() - started:.1f} s, peak memory {size_text(peak_memory_bytes())}")
    say(f"report: {output}" + (f", picture: {plot}" if plot is not None else ""))


def _print(report: SensitivityReport) -> None:
    from rich.table import Table

    from qvggt.cli.show import say, say_table
    from qvggt.inference.process_memory import size_text

    shown = report.scheme_nearest_4_bits
    totals = {(row.item, row.scheme): row.total for row in report.rows}
    table = Table("most fragile", box=None, header_style="bold", pad_edge=False)
    for scheme in report.schemes:
        table.add_column(f"{scheme.bits} bits", justify="right")
    for title in ("camera", "depth", "point", "geometry", "size"):
        table.add_column(title if title == "size" else f"{title}, {shown.bits} bits", justify="right")
    ranked = report.most_fragile(shown)
    for row in ranked[:_LISTED]:
        parts = row.increase
        table.add_row(
            row.item.name,
            *(_cell(totals[row.item, scheme]) for scheme in report.schemes),
            *(_cell(value) for value in (parts.camera, parts.depth, parts.point, parts.geometry)),
            size_text(row.bytes),
        )
    say(f"increase of the loss in thousandths; the float model's is {1000 * report.baseline.total:.1f}:")
    say_table(table)
    if len(ranked) > _LISTED:
        say(f"and {len(ranked) - _LISTED} more in the report")


def _cell(value: float) -> str:
    return "no answer" if value == float("inf") else f"{1000 * value:+.3f}"
