"""The public verbs ``sensitivity``: the loss of each part of a model when it is quantized, or attends to less."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qvggt.api.reconstruct import load
from qvggt.calibration.attention_sensitivity import AttentionReport, AttentionRow, measure_attention
from qvggt.calibration.data import check_truth, load_calibration
from qvggt.calibration.gradient_sensitivity import find_sensitivity
from qvggt.calibration.sensitivity import SensitivityReport, SensitivityRow
from qvggt.calibration.task import Task, make_task
from qvggt.checkpoint.open import check_float
from qvggt.methods.gptq import second_order_rounder
from qvggt.methods.plan_attention import PlannedAttention, plan_attention
from qvggt.model import VGGT
from qvggt.options import (
    SENSITIVITY_CALIBRATION,
    TOKEN_CLASSES,
    AttentionOptions,
    CalibrationOptions,
    RunOptions,
    SensitivityOptions,
    Supervision,
)
from qvggt.options.checks import check_arguments
from qvggt.types import BlockAttention, OnProgress, PathLike


def sensitivity(
    model: VGGT | PathLike,
    options: SensitivityOptions | None = None,
    calibration: CalibrationOptions | None = None,
    device: str = RunOptions.device,
    revision: str | None = None,
    on_progress: OnProgress | None = None,
) -> SensitivityReport:
    """Quantize one part of a model at a time and measure, or estimate, the loss of its cameras, depth and points.

    A quarter of the scenes is held out, as in quantization, and is not used here.

    Args:
        model: a float model, or whatever ``load`` takes as one.
        options: what to quantize and how to measure the loss.
        calibration: the scenes; if None 8 scenes of rooms with 4 images each, fewer than other calibration: each part
            is measured on all of them.
        device: where a model given by name runs.
        revision: of ``model``, if it is a hub id.
        on_progress: called with the last measured part and the share of the work done.

    Raises:
        QvggtError: the model is quantized or cannot be read, or the scenes are too few or have no ground
            truth.
    """
    check_arguments(sensitivity, locals())
    options, report_to = options or SensitivityOptions(), on_progress or (lambda stage, share: None)
    network = _float_model(model, device, revision, report_to)
    task, provenance = _task(network, calibration or SENSITIVITY_CALIBRATION, options.supervision, report_to)

    def on_row(row: SensitivityRow, share: float) -> None:
        report_to(f"{row.item.name} at {row.scheme.bits} bits", share)

    rounder = second_order_rounder(TOKEN_CLASSES) if options.rounding == "second-order" else None
    report = find_sensitivity(
        network, task, options.schemes, options.by, supervision=options.supervision,
        granularity=options.granularity, on_row=on_row, rounder=rounder,
    )  # fmt: skip
    about = {"model": _name(model), "rounding": options.rounding, "by": options.by}
    about |= _about(task, options.supervision)
    return replace(report, about=about | {"calibration": provenance})


def attention_sensitivity(
    model: VGGT | PathLike,
    options: AttentionOptions | None = None,
    calibration: CalibrationOptions | None = None,
    device: str = RunOptions.device,
    revision: str | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[AttentionReport, PlannedAttention]:
    """Measure what each global block loses with less attention, and make a plan of it.

    Args:
        model: a float model, or whatever ``load`` takes as one.
        options: kinds of attention, and the plan's target.
        calibration: the scenes, all of one size; if None 8 scenes of rooms with 4 images each.
        device: where a model given by name runs.
        revision: of ``model``, if it is a hub id.
        on_progress: called with the last measured block and the share of the work done.

    Returns:
        The report, and the plan.

    Raises:
        QvggtError: the model is quantized or cannot be read, the scenes are unsuitable, or no plan meets the target.
    """
    check_arguments(attention_sensitivity, locals())
    options, report_to = options or AttentionOptions(), on_progress or (lambda stage, share: None)
    network = _float_model(model, device, revision, report_to)
    scenes = calibration or SENSITIVITY_CALIBRATION
    task, provenance = _task(network, scenes, options.supervision, report_to, longer=True)

    def on_row(row: AttentionRow, share: float) -> None:
        report_to(f"global/{row.block} {row.attention}", share)

    choices = [BlockAttention.parse(choice) for choice in options.choices]
    report = measure_attention(network, task, choices, on_row)
    about = {"model": _name(model), **_about(task, options.supervision), "calibration": provenance}
    report = replace(report, about=about)
    return report, plan_attention(report, options)


def _float_model(model: VGGT | PathLike, device: str, revision: str | None, report_to: OnProgress) -> VGGT:
    report_to("loading", 0.0)
    network = model if isinstance(model, VGGT) else load(model, device, "float32", revision)
    check_float(network)
    return network


def _task(
    network: VGGT,
    calibration: CalibrationOptions,
    supervision: Supervision,
    report_to: OnProgress,
    longer: bool = False,
) -> tuple[Task, dict[str, Any]]:
    """Return the objective on the calibration scenes that are not held out, and where the scenes are from."""
    report_to("reading scenes", 0.0)
    data = load_calibration(calibration, network.config.image_size, network.config.patch_size, longer=longer)
    check_truth(data, supervision, calibration.source)
    data = data.to(next(network.parameters()).device)
    report_to("float model", 0.0)
    return make_task(network, data.batches, supervision), dict(data.provenance)


def _name(model: VGGT | PathLike) -> str:
    return "a model in memory" if isinstance(model, VGGT) else str(model)


def _about(task: Task, supervision: Supervision) -> dict[str, Any]:
    return {
        "supervision": supervision,
        "scenes": sum(batch.scenes for batch in task.batches),
        "images": sum(batch.scenes * batch.images.shape[1] for batch in task.batches),
    }
