"""``qvggt compare``: methods of quantization side by side."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qvggt.cli.arguments import (
    METHODS,
    Calib,
    CalibFrames,
    CalibRoot,
    CalibScenes,
    DataRoot,
    Dataset,
    Device,
    DrawnFrames,
    GroupSize,
    Json,
    Model,
    Protocol,
    Revision,
    Split,
    Supervision,
    number,
    option,
)
from qvggt.types import QvggtError

if TYPE_CHECKING:
    from qvggt.eval.comparison import ComparisonReport


_USUAL = ("rtn", "awq", "gptq", "smoothquant", "qvggt", "qvggt+")
Methods = Annotated[tuple[str, ...], option("NAME", f"{METHODS}; qvggt-task and the like leave stages out", None)]
Seeds = Annotated[
    tuple[int, ...],
    tyro.conf.arg(
        aliases=["--seed"], metavar="N", help="of the calibration scenes: with several, quantize once for each"
    ),
]


def compare(
    model: Model,
    methods: Methods = _USUAL,
    bits: Annotated[tuple[int, ...], number("widths of a linear layer's weight, each 2..8", metavar="N")] = (4,),
    group_size: GroupSize = 128,
    dataset: Dataset = "rooms",
    split: Split = None,
    protocol: Protocol = (),
    data_root: DataRoot = None,
    frames: DrawnFrames = None,
    scenes: Annotated[int | None, option("N", "measure so many scenes")] = None,
    calib: Calib = "rooms",
    calib_root: CalibRoot = None,
    calib_scenes: CalibScenes = 16,
    calib_frames: CalibFrames = 8,
    seeds: Seeds = (0,),
    supervision: Supervision = "teacher",
    store: Annotated[Path | None, option("DIR", "keep checkpoints and results here, not in the user's cache")] = None,
    threads: Annotated[int, option("N", "of the CPU, for measuring", None)] = 1,
    device: Device = "cpu",
    revision: Revision = None,
    json: Json = None,
    plot: Annotated[Path | None, option("FILE.png", "draw accuracy against size to this file")] = None,
) -> None:
    """Quantize by several methods and measure them all on the same frames.

    Checkpoints and results are kept: a run that was interrupted goes on where it was, and what was made before with
    the very same options is not made again.
    """
    from qvggt.api.compare import compare as run_comparison
    from qvggt.cli.show import check_figures, check_picture, progress, save_figures, say
    from qvggt.options import CalibrationOptions, CompareOptions, QuantizeOptions, RunOptions, Selection
    from qvggt.quant.scheme import Scheme

    check_picture(plot, "--plot")
    check_figures(json)
    calibration = CalibrationOptions(calib, calib_root, scenes=calib_scenes, frames=calib_frames)
    scheme, conv = Scheme(group_size=group_size), Scheme(8, group_size)
    base = QuantizeOptions(scheme, conv, supervision=supervision, calibration=calibration)
    options, run = CompareOptions(methods, bits, seeds, base), RunOptions(threads=threads, device=device)
    selection = Selection(data_root, frames, scenes=scenes)
    started = time.perf_counter()
    with progress(model) as update:
        report = run_comparison(
            model, options, dataset, split, protocol, selection, store, run, revision, on_progress=update
        )
    save_figures(json, report.to_json())
    _show(report, plot)
    say(f"{(time.perf_counter() - started) / 60:.1f} min" + (f", picture: {plot}" if plot is not None else ""))
    errors = [error for row in report.rows for error in row.errors]
    if errors:
        raise QvggtError(f"not everything could be compared; {errors[0]}")


def _show(report: ComparisonReport, plot: Path | None) -> None:
    from qvggt.cli.comparison_table import print_comparison
    from qvggt.plots.comparison import write_comparison_picture

    if plot is not None:
        write_comparison_picture(plot, report)
    print_comparison(report)
