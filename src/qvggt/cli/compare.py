"""``qvggt compare``: methods of quantization side by side."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qvggt.cli import arguments as given
from qvggt.options import (
    DATASET,
    CalibrationOptions,
    CompareOptions,
    HalfType,
    QuantizeOptions,
    RunOptions,
    Selection,
)
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

if TYPE_CHECKING:
    from qvggt.eval.comparison import ComparisonReport

Methods = Annotated[
    tuple[str, ...], given.option("NAME", f"{given.METHODS}; qvggt-task and the like leave out stages", None)
]
Seeds = Annotated[
    tuple[int, ...],
    tyro.conf.arg(
        aliases=["--seed"],
        metavar="N",
        help="random seeds of the calibration scenes; each method is quantized per seed",
    ),
]
Half = Annotated[
    tuple[HalfType, ...],
    tyro.conf.arg(help="measure the float model in these types too: what half precision alone costs"),
]
Store = Annotated[Path | None, given.option("DIR", "keep checkpoints and results here", "(default: the user's cache)")]


def compare(
    model: given.Model,
    methods: Methods = CompareOptions.methods,
    bits: Annotated[
        tuple[int, ...], given.number("bits of linear layers' weights, each 2..8", metavar="N")
    ] = CompareOptions.bits,
    group_size: given.GroupSize = Scheme.group_size,
    dataset: given.Dataset = DATASET,
    split: given.Split = None,
    protocol: given.Protocol = (),
    data_root: given.DataRoot = None,
    frames: given.DrawnFrames = Selection.frames,
    scenes: Annotated[int | None, given.option("N", "most scenes to measure")] = Selection.scenes,
    calib: given.Calib = CalibrationOptions.source,
    calib_root: given.CalibRoot = None,
    calib_scenes: given.CalibScenes = CalibrationOptions.scenes,
    calib_frames: given.CalibFrames = CalibrationOptions.frames,
    seeds: Seeds = CompareOptions.seeds,
    supervision: given.Supervision = QuantizeOptions.supervision,
    half: Half = CompareOptions.half,
    store: Store = None,
    ray: given.Ray = RunOptions.ray,
    workers: given.Workers = RunOptions.workers,
    threads: given.Threads = RunOptions.threads,
    device: given.Device = RunOptions.device,
    compute: given.Compute = RunOptions.compute,
    revision: given.Revision = None,
    json: given.Json = None,
    plot: Annotated[Path | None, given.option("FILE.png", "draw accuracy against size to this file")] = None,
) -> None:
    """Quantize with several methods and measure all of them on the same frames.

    The float model computes in float32, --compute is of the others. Each is compared with the true cameras, and with
    the float model's. Checkpoints and results are kept: an interrupted run resumes where it stopped, and results of the
    same options are reused.
    """
    from qvggt.api.compare import compare as run_comparison
    from qvggt.cli.show import check_figures, check_picture, progress, save_figures, say

    check_picture(plot, "--plot")
    check_figures(json)
    calibration = CalibrationOptions(calib, calib_root, scenes=calib_scenes, frames=calib_frames)
    scheme, conv = Scheme(group_size=group_size), Scheme(QuantizeOptions.conv.bits, group_size)
    base = QuantizeOptions(scheme, conv, supervision=supervision, calibration=calibration)
    run = RunOptions(workers=workers, threads=threads, device=device, compute=compute, ray=ray)
    started = time.perf_counter()
    with progress(model) as update:
        report = run_comparison(
            model, CompareOptions(methods, bits, seeds, base, half=half), dataset, split, protocols=protocol,
            selection=Selection(data_root, frames, scenes=scenes), store=store,
            run=run, revision=revision, on_progress=update,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    save_figures(json, report.to_json() | {"seconds": seconds})
    _show(report, plot)
    say(f"{seconds / 60:.1f} min" + (f", picture: {plot}" if plot is not None else ""))
    errors = [error for row in report.rows for error in row.errors]
    if errors:
        raise QvggtError(f"some methods failed: {errors[0]}")


def _show(report: ComparisonReport, plot: Path | None) -> None:
    from qvggt.cli.comparison_table import print_comparison
    from qvggt.plots.comparison import write_comparison_picture

    if plot is not None:
        write_comparison_picture(plot, report)
    print_comparison(report)
