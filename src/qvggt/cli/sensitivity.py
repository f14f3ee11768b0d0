"""``qvggt sensitivity``: which parts of a model lose the most when they are quantized."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qvggt.cli import arguments as given
from qvggt.options import (
    SENSITIVITY_BITS,
    SENSITIVITY_CALIBRATION,
    AttentionOptions,
    CalibrationOptions,
    Granularity,
    Rounding,
    RunOptions,
    SensitivityBy,
    SensitivityOptions,
    Supervision,
    sensitivity_schemes,
)
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

if TYPE_CHECKING:
    from qvggt.calibration.attention_sensitivity import AttentionReport
    from qvggt.calibration.sensitivity import SensitivityReport
    from qvggt.methods.plan_attention import PlannedAttention

_LISTED = 12

Report = Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE.json", help="write the report to this file")]
Items = Annotated[
    Granularity,
    tyro.conf.arg(help="quantize one block or head at a time, the layers of one kind in it, or a single layer"),
]
Rounded = Annotated[Rounding, tyro.conf.arg(help="round to nearest, or by second order as gptq and qvggt+ do")]
By = Annotated[
    SensitivityBy,
    tyro.conf.arg(help="measure part after part, estimate all from gradients, or estimate and measure in doubt"),
]


@dataclass(frozen=True)
class AttentionValues:
    """What each global block attends to instead of all tokens."""

    attention: Annotated[
        bool, given.Flag, given.flag("measure what each global block loses with less attention, and make a plan of it")
    ] = False
    attention_choices: Annotated[
        tuple[str, ...], given.option("KIND", "with --attention: frame, 'pooled 2', 'sampled 3', ...", None)
    ] = AttentionOptions.choices
    products: Annotated[
        float | None, given.number("with --attention: the plan's largest share of attention products", "(default: 0.5)")
    ] = AttentionOptions.max_share
    max_loss: Annotated[
        float | None, given.number("with --attention: instead, the plan's largest predicted loss", "(optional)")
    ] = AttentionOptions.max_loss
    min_frames: Annotated[
        int | None, given.number("with --attention: fewest frames for the plan", "(default: --calib-frames)", "N")
    ] = AttentionOptions.min_frames


def sensitivity(
    model: given.Model,
    output: Report,
    plot: Annotated[Path | None, given.option("FILE.png", "draw the report to this file")] = None,
    bits: Annotated[tuple[int, ...], given.number("bits to try, each 2..8", metavar="N")] = SENSITIVITY_BITS,
    group_size: given.GroupSize = Scheme.group_size,
    zero_points: given.ZeroPoints = not Scheme.symmetric,
    granularity: Items = SensitivityOptions.granularity,
    rounding: Rounded = SensitivityOptions.rounding,
    by: By = SensitivityOptions.by,
    calib: given.Calib = SENSITIVITY_CALIBRATION.source,
    calib_root: given.CalibRoot = None,
    calib_scenes: given.CalibScenes = SENSITIVITY_CALIBRATION.scenes,
    calib_frames: given.CalibFrames = SENSITIVITY_CALIBRATION.frames,
    seed: given.CalibSeed = SENSITIVITY_CALIBRATION.seed,
    supervision: given.Supervision = SensitivityOptions.supervision,
    attention: Annotated[AttentionValues, tyro.conf.arg(name="")] = AttentionValues(),
    device: given.Device = RunOptions.device,
    threads: given.TorchThreads = None,
    revision: given.Revision = None,
    json: given.Json = None,
) -> None:
    """Measure how much each part of a model loses when it is quantized.

    One part at a time is quantized to few bits, the rest stays float, and the loss of the whole model is found: of
    cameras, depth, points, and of points against depth and cameras. One forward and one backward pass estimate all of
    it; where gradients cannot judge, it is measured. `qvggt quantize --sensitivities` uses the report to distribute a
    budget of bits.

    With --attention, each global block attends to less instead, and the report has a plan that --global-attention and
    `qvggt quantize --attention-plan` take; the options of quantization do not count.
    """
    from qvggt.api.sensitivity import sensitivity as measure
    from qvggt.cli.show import check_figures, check_picture, progress, save_figures, say
    from qvggt.inference.process_memory import peak_memory_bytes, size_text
    from qvggt.plots.sensitivity import write_sensitivity_picture

    check_picture(plot, "--plot")
    if attention.attention and plot is not None:
        raise QvggtError("there is no picture of attention: leave out --plot, or --attention")
    check_figures(output, json)
    given.use_threads(threads)
    calibration = CalibrationOptions(calib, calib_root, scenes=calib_scenes, frames=calib_frames, seed=seed)
    if attention.attention:
        found = _attention(model, output, attention, supervision, calibration=calibration, where=(device, revision))
        save_figures(json, found)
        return
    schemes = sensitivity_schemes(bits, group_size, not zero_points)
    options = SensitivityOptions(schemes, granularity, rounding, supervision, by=by)
    started = time.perf_counter()
    with progress(model) as update:
        report = measure(model, options, calibration, device=device, revision=revision, on_progress=update)
    save_figures(output, report.to_json())
    if plot is not None:
        write_sensitivity_picture(plot, report)
    _print(report)
    seconds, peak = time.perf_counter() - started, peak_memory_bytes()
    say(f"{seconds:.1f} s, peak memory {size_text(peak)}")
    say(f"report: {output}" + (f", picture: {plot}" if plot is not None else ""))
    save_figures(json, {**report.to_json(), "seconds": seconds, "peak_memory_bytes": peak})


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
    baseline = 1000 * report.baseline.total
    say(f"increase of the loss in thousandths; the float model's loss is {baseline:.1f}:")
    say_table(table)
    if len(ranked) > _LISTED:
        say(f"{len(ranked) - _LISTED} more rows are in the report")


def _cell(value: float) -> str:
    return "not finite" if value == float("inf") else f"{1000 * value:+.3f}"


def _attention(
    model: str,
    output: Path,
    values: AttentionValues,
    supervision: Supervision,
    calibration: CalibrationOptions,
    where: tuple[str, str | None],
) -> dict[str, Any]:
    """Measure attention, write the report with the plan, and return it; ``where`` is the device and the revision."""
    from qvggt.api.sensitivity import attention_sensitivity
    from qvggt.cli.show import progress, save_figures, say

    options = AttentionOptions(
        values.attention_choices, values.max_loss, values.products, values.min_frames, supervision=supervision
    )
    started = time.perf_counter()
    with progress(model) as update:
        report, planned = attention_sensitivity(
            model, options, calibration, device=where[0], revision=where[1], on_progress=update
        )
    seconds, found = time.perf_counter() - started, {**report.to_json(), **planned.to_json()}
    save_figures(output, found)
    _print_attention(report, planned)
    say(f"{seconds:.1f} s; report with the plan: {output}")
    return {**found, "seconds": seconds}


def _print_attention(report: AttentionReport, planned: PlannedAttention) -> None:
    from rich.table import Table

    from qvggt.cli.show import say, say_table

    choices = list(dict.fromkeys(row.attention for row in report.rows))
    totals = {(row.block, row.attention): row.total for row in report.rows}
    table = Table("global block", box=None, header_style="bold", pad_edge=False)
    for choice in choices:
        table.add_column(str(choice), justify="right")
    table.add_column("plan")
    for block, chosen in enumerate(planned.plan.levels[-1].blocks):
        table.add_row(str(block), *(_cell(totals[block, choice]) for choice in choices), str(chosen))
    products = ", ".join(f"{choice} {report.size.products(choice) / report.size.products():.3f}" for choice in choices)
    say(f"increase of the loss in thousandths over exact attention's, on scenes of {report.size.frames} frames:")
    say_table(table)
    say(f"share of exact attention's products: {products}; the plan {planned.products_share:.3f}")
    say(
        f"predicted increase of the plan: {1000 * planned.predicted_increase:.3f} thousandths; it applies to scenes of "
        f"at least {planned.plan.levels[-1].min_frames} frames"
    )
