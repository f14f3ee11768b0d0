"""``qvggt quantize``: a float model to a packed checkpoint."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qvggt.cli.arguments import (
    METHODS,
    Calib,
    CalibFrames,
    CalibRoot,
    CalibScenes,
    CalibSeed,
    GroupSize,
    Json,
    Model,
    Output,
    Overwrite,
    Revision,
    Supervision,
    ZeroPoints,
    number,
    option,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qvggt.api.quantize import QuantizeReport
    from qvggt.inference.process_memory import StageCost

Method = Annotated[str, tyro.conf.arg(metavar="NAME", help=METHODS)]
ScaleRule = Annotated[
    Literal["absmax", "mse"], tyro.conf.arg(help="cover the largest weight, or clip for the least squared error")
]
ActivationBits = Annotated[
    int | None, number("of activations, for smoothquant and quarot", "(default: the method's)", "4..8")
]
AverageBits = Annotated[
    float | None, number("budget over all linear layers, for qvggt and qvggt+", "(default: a little above BITS)")
]
Sensitivities = Annotated[
    Path | None,
    option(
        "FILE.json",
        "weigh what qvggt sensitivity measured of this model, for qvggt and qvggt+",
        "(default: measure it)",
    ),
]
Layers = Annotated[
    tuple[str, ...],
    tyro.conf.arg(metavar="PATTERN", help="groups, names, globs or re:EXPRESSION; other layers stay float"),
]
FloatType = Annotated[Literal["float32", "float16", "bfloat16"], tyro.conf.arg(help="of all that is not quantized")]
Tokens = Annotated[
    str | None, option("CLASSES", "activations that count: all, patch, camera+patch, ...", "(default: the method's)")
]
Without = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="STAGE",
        help="leave out stages: select, filter, compensate, task of qvggt; reorder, select, compensate, tune of qvggt+",
        help_behavior_hint="(optional)",
    ),
]
Resume = Annotated[
    bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="go on with an interrupted run", help_behavior_hint="")
]


def quantize(
    model: Model,
    output: Output,
    method: Method = "rtn",
    bits: Annotated[int, number("of a linear layer's weight", metavar="2..8")] = 4,
    group_size: GroupSize = 128,
    zero_points: ZeroPoints = False,
    scale_rule: ScaleRule = "absmax",
    conv_bits: Annotated[int, number("of a convolution's weight; 16 keeps it float", metavar="2..8|16")] = 8,
    activation_bits: ActivationBits = None,
    average_bits: AverageBits = None,
    max_bytes: Annotated[int | None, number("budget for the whole checkpoint, in its place", "(optional)")] = None,
    sensitivities: Sensitivities = None,
    layers: Layers = ("all",),
    float_type: FloatType = "float16",
    tokens: Tokens = None,
    without: Without = (),
    supervision: Supervision = "teacher",
    calib: Calib = "rooms",
    calib_root: CalibRoot = None,
    calib_scenes: CalibScenes = 16,
    calib_frames: CalibFrames = 8,
    seed: CalibSeed = 0,
    revision: Revision = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    json: Json = None,
) -> None:
    """Quantize a model to a checkpoint that other tools read too.

    rtn needs no images, and takes one layer at a time from the model's file to the checkpoint. All other methods are
    calibrated on rooms, on a dataset, or on photographs of your own.
    """
    from qvggt.api.quantize import quantize_to
    from qvggt.cli.show import check_figures, progress, save_figures
    from qvggt.options import CalibrationOptions, QuantizeOptions
    from qvggt.quant.scheme import FloatScheme, Scheme

    check_figures(json)
    scheme = Scheme(bits, group_size, not zero_points, scale_rule)
    conv = FloatScheme(float_type) if conv_bits == 16 else replace(scheme, bits=conv_bits)
    calibration = CalibrationOptions(calib, calib_root, scenes=calib_scenes, frames=calib_frames, seed=seed)
    options = QuantizeOptions(
        scheme, conv, layers, float_type, tokens, supervision, calibration, activation_bits, average_bits, max_bytes,
        sensitivities, without,
    )  # fmt: skip
    started = time.perf_counter()
    with progress(model) as update:
        report = quantize_to(model, output, method, options, overwrite, resume, revision, update)
    save_figures(json, _print(report, model, method, time.perf_counter() - started))


def _print(report: QuantizeReport, model: str, method: str, seconds: float) -> dict[str, object]:
    """Print what was made and return the figures."""
    from qvggt.cli.show import say
    from qvggt.inference.process_memory import peak_memory_bytes, size_text

    figures: dict[str, object] = {
        "model": model,
        "method": method,
        "parameters": report.parameters,
        "average_bits": report.average_bits,
        "checkpoint_bytes": report.checkpoint_bytes,
        "float32_bytes": report.float_bytes,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }
    say(
        f"{report.folder}: {report.parameters / 1e6:.1f} M parameters at {report.average_bits:.2f} bits, "
        f"{size_text(report.checkpoint_bytes)} ({report.float_bytes / report.checkpoint_bytes:.1f}x smaller "
        f"than the {size_text(report.float_bytes)} of float32)"
    )
    if report.losses is not None:
        losses = report.losses
        figures["held_out_loss"] = vars(losses)
        predicted = "" if losses.predicted is None else f", {losses.float_model + losses.predicted:.4f} predicted"
        say(f"loss on scenes held out: {losses.quantized:.4f} (float model {losses.float_model:.4f}{predicted})")
        for stage, notes in report.stages.items():
            if "accepted" in notes:
                verdict = "kept" if notes["accepted"] else "dropped"
                say(f"{stage}: {verdict}, the loss went from {notes['before']:.4f} to {notes['after']:.4f}")
        figures["stages"] = {name: notes for name, notes in report.stages.items() if name != "units"}
        _print_costs(report.costs)
    figures["costs"] = [cost.to_json() for cost in report.costs]
    say(f"{seconds:.1f} s, peak memory {size_text(peak_memory_bytes())}")
    return figures


def _print_costs(costs: Sequence[StageCost]) -> None:
    """Print time by stage, and the peak memory so far at the end of each."""
    from rich.table import Table

    from qvggt.cli.show import say_table
    from qvggt.inference.process_memory import size_text

    table = Table("stage", box=None, header_style="bold", pad_edge=False)
    table.add_column("s", justify="right")
    table.add_column("peak memory so far", justify="right")
    for cost in costs:
        table.add_row(cost.stage, f"{cost.seconds:.1f}", size_text(cost.peak_memory_bytes))
    say_table(table)
