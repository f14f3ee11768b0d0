"""A calibrated quantization from the float model to the quantized one, whatever the method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from qvggt.calibration.data import CalibrationData, check_truth, load_calibration, without_truth
from qvggt.calibration.run import PassOptions, quantize_units
from qvggt.calibration.task import make_task
from qvggt.calibration.unit_store import UnitStore
from qvggt.methods.base import Bench, Method, Outcome, Plan
from qvggt.methods.common import current_versions
from qvggt.model import VGGT
from qvggt.nn.convert import convert, quantizable_layers, torch_dtype
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.options import QuantizeOptions
from qvggt.quant.recipe import Provenance, build_recipe
from qvggt.types import OnProgress, PathLike


@dataclass(frozen=True)
class Losses:
    """The weighted task objective on scenes held out.

    Attributes:
        float_model: of the float model: zero against itself but for how its own depth and points disagree.
        quantized: of the quantized one.
        predicted: what adding up sensitivities predicted for it; None if that was not done.
    """

    float_model: float
    quantized: float
    predicted: float | None = None


def quantize_calibrated(
    model: VGGT,
    name: str,
    method: type[Method],
    source: Provenance,
    options: QuantizeOptions,
    work: PathLike | None = None,
    on_progress: OnProgress = lambda what, share: None,
) -> tuple[QuantizedVGGT, Losses]:
    """Quantize a float model, in place.

    The same model, options and seed give the same bytes, interrupted or not.

    Args:
        model: the float model.
        name: of the method, for the recipe.
        method: the method.
        source: what is known of the model.
        options: the user's.
        work: a folder in which results are kept as they come, and from which an interrupted run goes on.
        on_progress: progress.

    Raises:
        QvggtError: the calibration scenes cannot be read or know no truth, the budget is too small, weights or
            activations are not finite, or ``work`` cannot be written or is of other options.
    """
    worker = method(options)  # before anything takes time: it may refuse the options
    on_progress("reading calibration scenes", 0.0)
    data = _scenes(model, options)
    about = replace(
        source, method=name, options=options.to_json(), calibration=data.provenance, versions=current_versions()
    )
    store = None if work is None else UnitStore(work, asdict(about))
    try:
        bench = _bench(model, worker, data, store, on_progress=on_progress)
        before = bench.held_out.total(model)
        worker.prepare(bench.model)
        plan, outcome = _quantized(worker, bench, data)
    except BaseException:
        if store is not None and store.empty:
            store.remove()
        raise
    recipe = replace(
        build_recipe(bench.shapes, plan.schemes, options.float_type),
        compensation=model.camera_head.compensation is not None,
    )
    on_progress("measuring the result", 1.0)
    quantized = convert(model, recipe, weights=outcome.weights).eval()
    # Of the model as it will be loaded: what stays floating has its stored type, and inputs are rounded.
    losses = Losses(before, bench.held_out.total(quantized), plan.notes.get("predicted_increase"))
    stages = {**outcome.stages, "allocation": plan.notes, "held_out_loss": vars(losses)}
    about = replace(about, sensitivities=plan.sensitivities, stages=_finite(stages))
    quantized.recipe = replace(recipe, provenance=about)
    return quantized, losses


def _finite(values: Any) -> Any:
    """Return JSON-ready values with None for numbers that JSON cannot hold."""
    if isinstance(values, Mapping):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _bench(
    model: VGGT, worker: Method, data: CalibrationData, store: UnitStore | None, on_progress: OnProgress
) -> Bench:
    on_progress("running the float model", 0.0)
    supervision = worker.options.supervision
    task = make_task(model, data.batches, supervision)
    held_out = make_task(model, data.held_out, supervision)
    teacher = _twin(model) if worker.needs_teacher else None
    return Bench(
        model,
        teacher=teacher,
        shapes=quantizable_layers(model),
        task=task,
        held_out=held_out,
        store=store,
        on_progress=on_progress,
    )


def _quantized(worker: Method, bench: Bench, data: CalibrationData) -> tuple[Plan, Outcome]:
    """Choose schemes and quantize unit by unit; the bench's model holds the quantized values afterwards."""
    options = worker.options
    plan = _plan(worker, bench)
    passed = quantize_units(
        bench.model,
        worker,
        build_recipe(bench.shapes, plan.schemes, options.float_type).layers,  # fits group sizes to widths
        data.batches,
        task=bench.task,
        options=PassOptions(worker.propagate, options.memory_bytes, torch_dtype(options.float_type)),
        store=bench.store,
        on_unit=lambda unit, share, notes: bench.on_progress(f"quantizing {unit}", share),
    )
    return plan, worker.finish(bench, Outcome(passed.weights, {"units": passed.notes}))


def _scenes(model: VGGT, options: QuantizeOptions) -> CalibrationData:
    data = load_calibration(options.calibration, model.config.image_size, model.config.patch_size)
    check_truth(data, options.supervision, options.calibration.source)
    return without_truth(data) if options.supervision == "teacher" else data


def _plan(worker: Method, bench: Bench) -> Plan:
    """Return the method's plan, from the store if it was made before."""
    if bench.store is None:
        return worker.plan(bench)
    kept = bench.store.get_plan()
    if kept is None:
        plan = worker.plan(bench)
        bench.store.put_plan(plan.schemes, {"sensitivities": plan.sensitivities, "notes": plan.notes})
        return plan
    return Plan(kept[0], **kept[1])


def _twin(model: VGGT) -> VGGT:
    """Return a model that shares the weights; giving one of them other values leaves those of the other alone."""
    with torch.device("meta"):
        twin = VGGT(model.config)
    twin.load_state_dict(model.state_dict(), strict=True, assign=True)
    return twin.requires_grad_(False).eval()
