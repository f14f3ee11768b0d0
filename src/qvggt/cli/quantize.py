"""``qvggt quantize``: a float model to a packed checkpoint."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from qvggt.cli import arguments as given
from qvggt.cli.arguments import Flag, flag, number, option
from qvggt.options import METHOD, CalibrationOptions, QuantizeOptions, RunOptions, SensitivityBy
from qvggt.quant.scheme import FloatScheme, FloatType, ScaleRule, Scheme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qvggt.api.quantize import QuantizeReport
    from qvggt.inference.process_memory import StageCost

log = logging.getLogger(__name__)

Scales = Annotated[ScaleRule, tyro.conf.arg(help="cover the largest weight, or clip for the least squared error")]
ConvBits = Annotated[int, number("bits of convolutions' weights; 16 keeps them float", metavar="2..8|16")]
ActivationBits = Annotated[
    int | None, number("bits of activations, for smoothquant and quarot", "(default: the method's)", "4..8")
]
AverageBits = Annotated[
    float | None, number("budget over all linear layers, for qvggt and qvggt+", "(default: a little above BITS)")
]
MaxBytes = Annotated[int | None, number("budget for the whole checkpoint, instead of --average-bits", "(optional)")]
Sensitivities = Annotated[
    Path | None,
    option("FILE.json", "report of qvggt sensitivity on this model, for qvggt and qvggt+", "(default: make it)"),
]
SelectBy = Annotated[
    SensitivityBy,
    tyro.conf.arg(help="how qvggt and qvggt+ find sensitivities: part after part, from gradients, or from both"),
]
Layers = Annotated[
    tuple[str, ...],
    tyro.conf.arg(metavar="PATTERN", help="groups, names, globs or re:EXPRESSION; other layers stay float"),
]
OtherType = Annotated[FloatType, tyro.conf.arg(help="type of everything that is not quantized")]
Tokens = Annotated[
    str | None,
    option("CLASSES", "token classes to calibrate on: all, patch, camera+patch, ...", "(default: the method's)"),
]
Without = Annotated[
    tuple[str, ...],
    option(
        "STAGE",
        "leave out stages: select, filter, compensate, task of qvggt; reorder, select, compensate, tune of qvggt+",
    ),
]

AttentionPlanFile = Annotated[
    str | None,
    option("FILE.json|PRESET", "state this plan of global attention in the checkpoint", "(default: exact attention)"),
]


def quantize(
    model: given.Model,
    output: given.Output,
    method: Annotated[str, option("NAME", given.METHODS, None)] = METHOD,
    bits: Annotated[int, number("bits of linear layers' weights", metavar="2..8")] = Scheme.bits,
    group_size: given.GroupSize = Scheme.group_size,
    zero_points: given.ZeroPoints = not Scheme.symmetric,
    scale_rule: Scales = Scheme.scale_rule,
    conv_bits: ConvBits = QuantizeOptions.conv.bits,
    activation_bits: ActivationBits = QuantizeOptions.activation_bits,
    average_bits: AverageBits = QuantizeOptions.average_bits,
    max_bytes: MaxBytes = QuantizeOptions.max_bytes,
    sensitivities: Sensitivities = None,
    select_by: SelectBy = QuantizeOptions.select_by,
    layers: Layers = QuantizeOptions.layers,
    float_type: OtherType = QuantizeOptions.float_type,
    tokens: Tokens = QuantizeOptions.tokens,
    without: Without = QuantizeOptions.without,
    attention_plan: AttentionPlanFile = None,
    supervision: given.Supervision = QuantizeOptions.supervision,
    calib: given.Calib = CalibrationOptions.source,
    calib_root: given.CalibRoot = None,
    calib_scenes: given.CalibScenes = CalibrationOptions.scenes,
    calib_frames: given.CalibFrames = CalibrationOptions.frames,
    seed: given.CalibSeed = CalibrationOptions.seed,
    device: given.Device = RunOptions.device,
    threads: given.TorchThreads = None,
    revision: given.Revision = None,
    overwrite: given.Overwrite = False,
    resume: Annotated[bool, Flag, flag("resume an interrupted run")] = False,
    json: given.Json = None,
) -> None:
    """Quantize a model to a checkpoint that other tools can read too.

    rtn needs no images and streams one layer at a time from the model's file to the checkpoint. All other methods are
    calibrated on rooms, on a dataset, or on your own photographs.
    """
    from qvggt.api.quantize import quantize_to
    from qvggt.cli.show import check_figures, progress, save_figures

    check_figures(json)
    given.use_threads(threads)
    scheme = Scheme(bits, group_size, not zero_points, scale_rule)
    options = QuantizeOptions(
        scheme=scheme, conv=FloatScheme(float_type) if conv_bits == 16 else replace(scheme, bits=conv_bits),
        layers=layers, float_type=float_type, tokens=tokens, supervision=supervision,
        calibration=CalibrationOptions(calib, calib_root, scenes=calib_scenes, frames=calib_frames, seed=seed),
        activation_bits=activation_bits, average_bits=average_bits, max_bytes=max_bytes,
        sensitivities=sensitivities, select_by=select_by, without=without, attention_plan=attention_plan,
    )  # fmt: skip
    _warn_of_ignored(method, options)
    started = time.perf_counter()
    with progress(model) as update:
        report = quantize_to(
            model, output, method, options, overwrite=overwrite, resume=resume, revision=revision, device=device,
            on_progress=update,
        )  # fmt: skip
    save_figures(json, _print(report, model, method, time.perf_counter() - started))


def _warn_of_ignored(method: str, options: QuantizeOptions) -> None:
    """Warn of options that were given and that a method without calibration does not use."""
    from qvggt.methods.registry import find_method

    if find_method(method).needs_calibration:
        return
    fields = {
        "calibration": "--calib and what follows it", "tokens": "--tokens", "supervision": "--supervision",
        "activation_bits": "--activation-bits", "without": "--without",
    }  # fmt: skip
    usual = QuantizeOptions()
    ignored = [flag for name, flag in fields.items() if getattr(options, name) != getattr(usual, name)]
    if ignored:
        log.warning(
            "%s is not calibrated and ignores %s: choose a method that is (--method)", method, ", ".join(ignored)
        )


def _print(report: QuantizeReport, model: str, method: str, seconds: float) -> dict[str, object]:
    """Print the results and return them."""
    from qvggt.checkpoint.card import loss_text
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
        say(f"loss on held-out scenes: {loss_text(losses.quantized)} (float model {losses.float_model:.4f}{predicted})")
        for stage, notes in report.stages.items():
            if "accepted" in notes:
                verdict = "kept" if notes["accepted"] else "dropped"
                before, after = loss_text(notes["before"]), loss_text(notes["after"])
                say(f"{stage}: {verdict}, the loss went from {before} to {after}")
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
