"""A calibrated quantization from the float model to the quantized one, by any method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from qvggt.calibration.data import CalibrationData, check_truth, load_calibration, without_truth
from qvggt.calibration.run import quantize_units
from qvggt.calibration.task import make_task
from qvggt.calibration.unit_store import UnitStore
from qvggt.methods.base import Method, MethodContext, SchemeChoice, SensitivityCache
from qvggt.methods.common import current_versions
from qvggt.model import VGGT
from qvggt.nn.convert import convert, quantizable_layers
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.options import QuantizeOptions
from qvggt.quant.recipe import Provenance, build_recipe
from qvggt.types import OnProgress, PathLike


@dataclass(frozen=True)
class Losses:
    """The task objective on held-out scenes.

    Attributes:
        float_model: of the float model; against itself it is the disagreement of its own depth and points.
        quantized: of the quantized model; not finite, or None in a recipe, if its predictions are not.
        predicted: increase that the sensitivities predict; None if the method does not use them.
    """

    float_model: float
    quantized: float | None
    predicted: float | None = None


def quantize_calibrated(
    model: VGGT,
    method: Method,
    source: Provenance,
    work: PathLike | None = None,
    sensitivities: SensitivityCache | None = None,
    on_progress: OnProgress = lambda stage, share: None,
) -> tuple[QuantizedVGGT, Losses]:
    """Quantize a float model in place.

    The same model, options and seed give the same bytes, whether the run was interrupted or not.

    Args:
        model: the float model, on the device to calibrate on.
        method: the method, with the user's options.
        source: provenance of the model, and the method's name.
        work: folder that keeps intermediate results, from which an interrupted run is resumed.
        sensitivities: measurements shared between runs; new ones are added.
        on_progress: called with the stage under way and the share of it done.

    Raises:
        QvggtError: the calibration scenes cannot be read or have no ground truth, the budget is too small, weights or
            activations are not finite, or ``work`` cannot be written or belongs to other options.
    """
    options = method.options
    on_progress("reading calibration scenes", 0.0)
    data = _scenes(model, options, method.further_scenes)
    about = replace(source, options=options.to_json(), calibration=data.provenance, versions=current_versions())
    device = next(model.parameters()).device
    # Photographs are identified by their content: files may be replaced between two runs.
    settings = {**asdict(about), "images": data.content_hash(), "device": device.type}
    store = None if work is None else UnitStore(work, settings)
    data = data.to(device)
    try:
        on_progress("running the float model", 0.0)
        known = {} if sensitivities is None else sensitivities
        context = replace(_context(model, method, data), sensitivities=known, on_progress=on_progress)
        before = context.held_out.total(model)
        method.prepare(model)
        choice = _choice(method, context, store)
        recipe = build_recipe(context.shapes, choice.schemes, options.float_type)
        result = quantize_units(
            model, method, recipe, context.task, store=store, memory_bytes=options.memory_bytes, on_progress=on_progress
        )
        result = method.finish(context, result)
    except BaseException:
        if store is not None and store.empty:
            store.remove()
        raise
    recipe = replace(recipe, compensation=model.camera_head.compensation is not None)
    on_progress("measuring the result", 1.0)
    quantized = convert(model, recipe, weights=result.weights).eval()
    # The model as it will be loaded: float parameters have their stored type, and activations are rounded.
    losses = Losses(before, context.held_out.total(quantized), choice.notes.get("predicted_increase"))
    stages = {**result.stages, "allocation": choice.notes, "held_out_loss": vars(losses)}
    about = replace(about, sensitivities=choice.sensitivities, stages=_finite(stages))
    quantized.recipe = replace(recipe, provenance=about)
    return quantized, losses


def _finite(values: Any) -> Any:
    """Return JSON-ready values with None for numbers that JSON cannot represent."""
    if isinstance(values, Mapping):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _scenes(model: VGGT, options: QuantizeOptions, further: int) -> CalibrationData:
    size, patch = model.config.image_size, model.config.patch_size
    data = load_calibration(options.calibration, size, patch, further=further)
    check_truth(data, options.supervision, options.calibration.source)
    return without_truth(data) if options.supervision == "teacher" else data


def _context(model: VGGT, method: Method, data: CalibrationData) -> MethodContext:
    task, held_out = (make_task(model, scenes, method.options.supervision) for scenes in (data.batches, data.held_out))
    teacher = _twin(model) if method.needs_teacher else None
    return MethodContext(model, teacher, quantizable_layers(model), task, held_out=held_out, further=data.further)


def _choice(method: Method, context: MethodContext, store: UnitStore | None) -> SchemeChoice:
    """Return the method's choice of schemes, from the store if it has one."""
    kept = None if store is None else store.get_schemes()
    if kept is not None:
        return SchemeChoice(kept[0], **kept[1])
    choice = method.choose_schemes(context)
    if store is not None:
        store.put_schemes(choice.schemes, {"sensitivities": choice.sensitivities, "notes": choice.notes})
    return choice


def _twin(model: VGGT) -> VGGT:
    """Return a model that shares the weights; replacing a parameter of one leaves the other unchanged."""
    with torch.device("meta"):
        twin = VGGT(model.config)
    twin.load_state_dict(model.state_dict(), strict=True, assign=True)
    return twin.requires_grad_(False).eval()
