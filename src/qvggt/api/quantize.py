"""The public verb ``quantize``: a float model to a quantized one, in memory or from file to checkpoint."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from qvggt.backends import usable_device
from qvggt.calibration.unit_store import check_store, remove_store, stored_settings
from qvggt.checkpoint.folder import is_checkpoint, open_checkpoint
from qvggt.checkpoint.open import check_float, open_float
from qvggt.checkpoint.write import check_place, save_checkpoint, write_checkpoint
from qvggt.inference.process_memory import StageClock, StageCost
from qvggt.methods.base import SensitivityCache
from qvggt.methods.registry import find_method
from qvggt.methods.run import Losses, quantize_calibrated
from qvggt.model import VGGT
from qvggt.nn.convert import convert, model_layers
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.options import METHOD, QuantizeOptions, RunOptions
from qvggt.options.checks import check_arguments
from qvggt.quant.layer_names import part_of
from qvggt.quant.recipe import Provenance
from qvggt.types import AttentionPlan, OnProgress, PathLike, QvggtError
from qvggt.weights.open import FloatWeights, load_float

log = logging.getLogger(__name__)

UNFINISHED = ".unfinished"
"""Suffix of the folder, beside the checkpoint, with the intermediate results of a quantization."""


@dataclass(frozen=True)
class QuantizeReport:
    """A checkpoint that was made, with its size, losses and costs.

    Attributes:
        folder: the checkpoint.
        parameters: number of parameters of the float model.
        average_bits: bits of tensor data per parameter.
        checkpoint_bytes: size of the folder's files, without the model card.
        float_bytes: size of the same model in float32.
        losses: the task objective on held-out scenes; None without calibration.
        stages: notes of the method's stages, e.g. whether they were accepted.
        costs: time and memory of each stage.
    """

    folder: Path
    parameters: int
    average_bits: float
    checkpoint_bytes: int
    float_bytes: int
    losses: Losses | None = None
    stages: Mapping[str, Any] = field(default_factory=dict)
    costs: tuple[StageCost, ...] = ()


def quantize(
    model: PathLike | VGGT,
    method: str = METHOD,
    options: QuantizeOptions | None = None,
    revision: str | None = None,
    on_progress: OnProgress | None = None,
    device: str = RunOptions.device,
) -> QuantizedVGGT:
    """Quantize a model in memory.

    Args:
        model: whatever ``load`` takes as a float model, or a float model, which is changed in place.
        method: a name in ``qvggt.methods.registry``.
        options: of the method.
        revision: branch, tag or commit of a hub id.
        on_progress: the progress callback.
        device: where a model given by name is calibrated, and stays. The digits of calibrated methods depend on it.

    Raises:
        QvggtError: the model is quantized already, cannot be read, or an option is impossible.
    """
    check_arguments(quantize, locals())
    report, device = on_progress or (lambda stage, share: None), usable_device(device)
    if not isinstance(model, VGGT):
        report("opening", 0.0)
    float_model = model if isinstance(model, VGGT) else load_float(open_float(model, revision, on_progress), device)
    check_float(float_model)
    chosen = find_method(method)(options or QuantizeOptions())
    plan = chosen.options.plan_for(float_model.config.depth)
    source = Provenance("" if isinstance(model, VGGT) else str(model), method=method)
    if chosen.needs_calibration:
        quantized = quantize_calibrated(float_model, chosen, source, on_progress=report)[0]
    else:
        report("quantizing", 0.0)
        quantized = convert(float_model, chosen.recipe(model_layers(float_model.config), source)).eval()
    report("done", 1.0)
    return _with_plan(quantized, plan)


def quantize_to(
    model: PathLike,
    folder: PathLike,
    method: str = METHOD,
    options: QuantizeOptions | None = None,
    overwrite: bool = False,
    resume: bool = False,
    revision: str | None = None,
    on_progress: OnProgress | None = None,
    sensitivities: SensitivityCache | None = None,
    device: str = RunOptions.device,
) -> QuantizeReport:
    """Quantize a model to a checkpoint.

    Rounding to nearest reads and writes one layer at a time, without holding the model in memory. Calibrated methods
    keep intermediate results beside the checkpoint until it is complete; an interrupted run resumes from them.

    Args:
        model: whatever ``load`` takes as a float model.
        folder: for the checkpoint; see ``write_checkpoint``.
        method: a name in ``qvggt.methods.registry``.
        options: of the method.
        overwrite: whether an existing checkpoint, or the results of an interrupted run, may be replaced.
        resume: whether to resume an interrupted run; the bytes are the same as without interruption.
        revision: branch, tag or commit of a hub id.
        on_progress: the progress callback.
        sensitivities: measurements shared between several quantizations; new ones are added.
        device: where the model is calibrated; methods without calibration run on the CPU. Digits depend on it.

    Raises:
        QvggtError: the model cannot be read, an option is impossible, or the folder cannot be written.
    """
    check_arguments(quantize_to, locals())
    device, work = usable_device(device), Path(f"{folder}{UNFINISHED}")
    report_to = StageClock(on_progress or (lambda stage, share: None), ("quantizing",))
    completed = _completed_settings(folder, work) if resume else None
    check_place(folder, overwrite or completed is not None)
    chosen = find_method(method)(options or QuantizeOptions())
    if chosen.needs_calibration:
        _check_work(work, overwrite, resume)
    report_to("opening", 0.0)
    weights = open_float(model, revision, on_progress)
    plan = chosen.options.plan_for(weights.config.depth)
    report_to("hashing", 0.0)
    source = Provenance(str(model), source_hash=weights.hash(), method=method)
    asked = {"source_hash": source.source_hash, "method": method, "options": chosen.options.to_json()}
    if not chosen.needs_calibration:
        recipe = replace(chosen.recipe(model_layers(weights.config), source), attention=plan)
        tensors = _watched(chosen.stream(weights.source, weights.config, recipe), weights, report_to)
        write_checkpoint(folder, weights.config, recipe, tensors, overwrite=overwrite, origin=weights.origin)
    elif completed is None or not _agree(completed, asked):
        with _kept(work):
            quantized, _ = quantize_calibrated(
                load_float(weights, device), chosen, source, work, sensitivities=sensitivities, on_progress=report_to
            )
        report_to("writing", 1.0)
        save_checkpoint(_with_plan(quantized, plan), folder, overwrite, weights.origin)
    if chosen.needs_calibration:
        remove_store(work)
    return _report(folder, report_to.costs())


def _with_plan(model: QuantizedVGGT, plan: AttentionPlan | None) -> QuantizedVGGT:
    """Make a quantized model state and use an attention plan, in place, and return it."""
    model.recipe = replace(model.recipe, attention=plan)
    model.aggregator.global_attention = plan or "exact"
    return model


def _report(folder: PathLike, costs: tuple[StageCost, ...]) -> QuantizeReport:
    made = open_checkpoint(folder)
    stages = made.recipe.provenance.stages
    return QuantizeReport(
        Path(folder),
        parameters=made.parameters,
        average_bits=made.average_bits,
        checkpoint_bytes=made.file_bytes,
        float_bytes=4 * made.parameters,
        losses=Losses(**stages["held_out_loss"]) if "held_out_loss" in stages else None,
        stages=stages,
        costs=costs,
    )


def _completed_settings(folder: PathLike, work: Path) -> Mapping[str, Any] | None:
    """Return the settings of a run that was killed after it wrote its checkpoint and before it removed its results."""
    settings = stored_settings(work)
    if settings is None or not is_checkpoint(folder):
        return None
    made = asdict(open_checkpoint(folder).recipe.provenance)
    names = ("source", "source_hash", "method", "options", "calibration", "versions")
    return settings if _agree(settings, {name: made[name] for name in names}) else None


def _agree(settings: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return all(
        json.dumps(settings.get(name), sort_keys=True) == json.dumps(value, sort_keys=True)
        for name, value in values.items()
    )


@contextmanager
def _kept(work: Path) -> Iterator[None]:
    """Log where the results of an interrupted run are."""
    try:
        yield
    except KeyboardInterrupt:
        if work.exists():
            log.warning("intermediate results are kept in %s: continue with --resume", work)
        raise


def _check_work(work: Path, overwrite: bool, resume: bool) -> None:
    check_store(work)
    if resume or not work.exists():
        return
    if not overwrite:
        raise QvggtError(
            f"{work} holds an interrupted quantization: continue with --resume, or start again with --overwrite"
        )
    remove_store(work)


def _watched(
    tensors: Iterable[tuple[str, Tensor]], weights: FloatWeights, on_progress: OnProgress
) -> Iterator[tuple[str, Tensor]]:
    """Yield a method's tensors and report progress by the part of the model that they belong to."""
    sizes = {name: math.prod(weights.source.shape(name)) for name in weights.source.names()}
    done, total = 0, sum(sizes.values())
    for name, tensor in tensors:
        on_progress(f"quantizing {part_of(name)}", min(1.0, done / total))
        yield name, tensor
        done += sizes.get(name.removesuffix("_packed"), 0)
