"""The public verb ``sensitivity``: the loss of each part of a model when it is quantized."""

from __future__ import annotations

from dataclasses import replace

from qvggt.api.reconstruct import load
from qvggt.calibration.data import SceneBatch, check_truth, load_calibration
from qvggt.calibration.sensitivity import SensitivityReport, SensitivityRow, measure_sensitivity
from qvggt.calibration.task import make_task
from qvggt.checkpoint.open import check_float
from qvggt.geometry import Truth
from qvggt.methods.gptq import second_order_rounder
from qvggt.model import VGGT
from qvggt.options import SENSITIVITY_CALIBRATION, TOKEN_CLASSES, CalibrationOptions, RunOptions, SensitivityOptions
from qvggt.types import OnProgress, PathLike


def sensitivity(
    model: VGGT | PathLike,
    options: SensitivityOptions | None = None,
    calibration: CalibrationOptions | None = None,
    device: str = RunOptions.device,
    revision: str | None = None,
    on_progress: OnProgress | None = None,
) -> SensitivityReport:
    """Quantize one part of a model at a time and measure the loss of its cameras, depth and points.

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
    options, calibration = options or SensitivityOptions(), calibration or SENSITIVITY_CALIBRATION
    report_to = on_progress or (lambda stage, share: None)
    report_to("loading", 0.0)
    network = model if isinstance(model, VGGT) else load(model, device, "float32", revision)
    check_float(network)
    report_to("reading scenes", 0.0)
    data = load_calibration(calibration, network.config.image_size, network.config.patch_size)
    check_truth(data, options.supervision, calibration.source)
    device = next(network.parameters()).device.type
    report_to("float model", 0.0)
    task = make_task(network, [_on(batch, device) for batch in data.batches], options.supervision)

    def on_row(row: SensitivityRow, share: float) -> None:
        report_to(f"{row.item.name} at {row.scheme.bits} bits", share)

    rounder = second_order_rounder(TOKEN_CLASSES) if options.rounding == "second-order" else None
    report = measure_sensitivity(network, task, options.schemes, options.granularity, on_row=on_row, rounder=rounder)
    name = "a model in memory" if isinstance(model, VGGT) else str(model)
    scenes = sum(batch.scenes for batch in data.batches)
    images = sum(batch.scenes * batch.images.shape[1] for batch in data.batches)
    about = {
        "model": name,
        "rounding": options.rounding,
        "supervision": options.supervision,
        "scenes": scenes,
        "images": images,
    }
    return replace(report, about=about | {"calibration": dict(data.provenance)})


def _on(batch: SceneBatch, device: str) -> SceneBatch:
    truth = batch.truth
    if truth is not None:
        truth = Truth(**{name: value.to(device) for name, value in vars(truth).items()})
    return SceneBatch(batch.images.to(device), truth)
