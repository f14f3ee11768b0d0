"""QVGGT: mixed precision by sensitivity, statistics of patch tokens, a compensated camera head, task-aware scales.

"Post-Training Quantized Visual Geometry Grounded Transformer" (CVPR 2026, arXiv 2605.31124). Each stage can be left
out, so that its effect can be measured. ``qvggt+`` goes beyond the paper: it uses second-order rounding and tunes
scales and float parameters end to end against the float model.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from torch import nn

from qvggt.calibration.fingerprint import fingerprint
from qvggt.calibration.gradient_sensitivity import find_sensitivity
from qvggt.calibration.run import QuantizationResult, UnitContext, apply
from qvggt.calibration.sensitivity import Rounder, SensitivityReport, read_sensitivity
from qvggt.calibration.size import storage_of
from qvggt.calibration.task import make_task
from qvggt.calibration.unit_store import UnitResult
from qvggt.methods.allocate import Budget, allocate
from qvggt.methods.base import Method, MethodContext, SchemeChoice
from qvggt.methods.common import uniform_schemes
from qvggt.methods.compensate import try_compensation
from qvggt.methods.gptq import second_order, second_order_rounder
from qvggt.methods.reorder import reorder_hidden_units
from qvggt.methods.scale_search import SearchOptions, search_scales
from qvggt.methods.tune import TuneOptions, tune
from qvggt.model import VGGT
from qvggt.options import TOKEN_CLASSES, QuantizeOptions, TokenClass
from qvggt.quant.scheme import MAX_BITS, MIN_BITS, FloatScheme, LayerScheme, Scheme
from qvggt.types import LayerId

log = logging.getLogger(__name__)

SPARE_BITS = 0.125
"""Default budget above the uniform scheme's average bits: 4.25 for 4 bits in groups of 128."""

SENSITIVITY_SCENES, SENSITIVITY_FRAMES = 4, 4
"""Number of scenes, and of frames per scene, for measuring sensitivities."""


class Qvggt(Method):
    """The method as published, with automatic mixed precision."""

    summary = "more bits for sensitive layers, patch tokens only, compensated camera head, task-aware scales"
    stages: ClassVar[tuple[str, ...]] = ("select", "filter", "compensate", "task")
    tokens = "patch"
    has_budget = True

    def __init__(self, options: QuantizeOptions) -> None:
        super().__init__(options)
        path = options.sensitivities
        self.report = None if path is None else read_sensitivity(path)

    def has(self, stage: str) -> bool:
        """Return whether a stage is enabled."""
        return stage in self.stages and stage not in self.options.without

    @property
    def token_classes(self) -> tuple[TokenClass, ...]:
        """Patch tokens, unless the user chose others or disabled filtering."""
        return super().token_classes if self.options.tokens or self.has("filter") else TOKEN_CLASSES

    @property
    def rounder(self) -> Rounder | None:
        """How layers are rounded when sensitivities are measured, as in ``quantize_unit``; to nearest if None."""
        return None

    def choose_schemes(self, context: MethodContext) -> SchemeChoice:
        """Find the sensitivity of every part of every block, and minimize the predicted loss within the budget."""
        uniform = uniform_schemes(context.shapes, self.options)
        base = self.options.scheme
        if not self.has("select") or not isinstance(base, Scheme):
            return SchemeChoice(uniform)
        storage = storage_of(context.model.config, self.options.float_type)
        report = self._sensitivities(context, base)
        findings = report.totals_json()
        average_bits = self.options.average_bits
        if average_bits is None and self.options.max_bytes is None:
            average_bits = storage.average_bits(_complete(uniform, self.options, context)) + SPARE_BITS
        budget = Budget(average_bits, self.options.max_bytes)
        recorded = json.dumps({"provenance": {"sensitivities": findings}}, indent=2)
        storage = replace(storage, findings_bytes=len(recorded))
        allocation = allocate(report, storage, budget, self.options.conv, only=uniform)
        schemes = {layer: scheme for layer, scheme in allocation.schemes.items() if layer in uniform}
        return SchemeChoice(schemes, findings, allocation.figures_json())

    def _sensitivities(self, context: MethodContext, base: Scheme) -> SensitivityReport:
        if self.report is not None:
            used, measured = "nearest" if self.rounder is None else "second-order", self.report.about.get("rounding")
            if measured not in (used, None):
                log.warning(
                    "%s were measured with rounding %s, but this method rounds %s, of which they predict little: "
                    "measure with qvggt sensitivity --rounding %s", self.options.sensitivities, measured, used, used
                )  # fmt: skip
            return self.report
        few = [
            batch.first(batch.scenes, SENSITIVITY_FRAMES) for batch in context.task.first(SENSITIVITY_SCENES).batches
        ]
        task = make_task(context.model, few, self.options.supervision)
        schemes = candidate_schemes(base)
        targets = [tensor for target in task.targets for tensor in vars(target).values()]
        tensors = [*context.model.state_dict().values(), *(batch.images for batch in few), *targets]
        rounding = None if self.rounder is None else self.token_classes
        by = self.options.select_by
        key = fingerprint(tensors, schemes, self.options.supervision, rounding, by)
        if key not in context.sensitivities:
            context.sensitivities[key] = find_sensitivity(
                context.model,
                task,
                schemes,
                by,
                supervision=self.options.supervision,
                on_row=lambda row, share: context.on_progress("sensitivity", share),
                memory_bytes=self.options.memory_bytes,
                rounder=self.rounder,
            )
        return context.sensitivities[key]

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Search scales and ranges by the task objective, and round to nearest."""
        shortlist = 3 if self.has("task") else 0
        return search_scales(context, SearchOptions(self.token_classes, shortlist)).rounded()

    def finish(self, context: MethodContext, result: QuantizationResult) -> QuantizationResult:
        """Add a compensation token to the camera head if that lowers the objective on held-out scenes."""
        if not self.has("compensate"):
            return result
        context.on_progress("compensation", 0.0)
        found = try_compensation(context.model, context.task, context.held_out)
        if found.accepted:
            context.model.camera_head.compensation = nn.Parameter(found.token, requires_grad=False)
        return result.with_stage("compensate", found.to_json())


class QvggtPlus(Qvggt):
    """Beyond the paper: second-order rounding, then end-to-end tuning."""

    summary = "mixed precision as qvggt, second-order rounding, scales and float parameters tuned end to end"
    stages = ("reorder", "select", "compensate", "tune")
    tokens = "all"
    tuning = TuneOptions()
    damping: ClassVar[float] = 0.002

    @property
    def needs_teacher(self) -> bool:
        """Whether tuning, which follows the float model, is enabled."""
        return self.has("tune")

    @property
    def further_scenes(self) -> int:
        """Three times as many as are calibrated on: tuning overfits on few scenes."""
        return 3 * self.options.calibration.scenes if self.has("tune") else 0

    @property
    def rounder(self) -> Rounder | None:
        """Second-order rounding, as in ``quantize_unit``; rounded to nearest, layers have other sensitivities."""
        return second_order_rounder(self.token_classes, self.damping)

    def prepare(self, model: VGGT) -> None:
        """Reorder the hidden units of MLPs so that columns of similar magnitude share a scale."""
        if self.has("reorder") and isinstance(self.options.scheme, Scheme):
            reorder_hidden_units(model, self.options.scheme)

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Round by second order, on grids that cover every weight."""
        return second_order(context, self.token_classes, self.damping)

    def finish(self, context: MethodContext, result: QuantizationResult) -> QuantizationResult:
        """Tune against the float model, and keep the tuned model if it lowers the objective on held-out scenes."""
        if context.teacher is not None:
            result = self.tuned(context, context.teacher, result)
        return super().finish(context, result)

    def tuned(self, context: MethodContext, teacher: VGGT, result: QuantizationResult) -> QuantizationResult:
        """Return the tuned result, or the given one if tuning does not lower the objective on held-out scenes."""
        model = context.model
        options = replace(self.tuning, seed=self.options.calibration.seed)
        batches = (*context.task.batches, *context.further)
        found = tune(model, teacher, result.weights, batches, options=options, on_progress=context.on_progress)
        before = context.held_out.total(model)
        kept = {name: parameter.data for name, parameter in model.named_parameters()}
        apply(model, UnitResult(found.weights, found.parameters))
        after = context.held_out.total(model)
        notes = {**found.to_json(), "before": before, "after": after, "accepted": after < before}
        if after < before:
            return replace(result, weights=found.weights).with_stage("tune", notes)
        for name, parameter in model.named_parameters():
            parameter.data = kept[name]
        return result.with_stage("tune", notes)


def candidate_schemes(base: Scheme) -> list[LayerScheme]:
    """Return the schemes to choose from: one bit less than requested, as requested, and with more bits."""
    widths = sorted({base.bits - 1, base.bits, base.bits + 1, base.bits + 2, MAX_BITS})
    return [replace(base, bits=bits) for bits in widths if MIN_BITS <= bits <= MAX_BITS]


def _complete(
    schemes: Mapping[LayerId, LayerScheme], options: QuantizeOptions, context: MethodContext
) -> dict[LayerId, LayerScheme]:
    return {layer: schemes.get(layer, FloatScheme(options.float_type)) for layer in context.shapes}
