"""QVGGT: schemes by measured sensitivity, statistics of patch tokens, a compensated camera head, task-aware scales.

"Post-Training Quantized Visual Geometry Grounded Transformer" (CVPR 2026, arXiv 2605.31124). Each stage can be left
out, so that what it does can be measured. ``qvggt+`` goes past the paper: it rounds by second order and tunes scales
and what stays floating, end to end, against the float model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from torch import nn

from qvggt.calibration.fingerprint import fingerprint
from qvggt.calibration.run import UnitContext, apply
from qvggt.calibration.sensitivity import Rounder, SensitivityReport, measure_sensitivity, read_sensitivity
from qvggt.calibration.size import storage_of
from qvggt.calibration.task import make_task
from qvggt.calibration.unit_store import UnitResult
from qvggt.methods.allocate import Budget, allocate
from qvggt.methods.base import Bench, Method, Outcome, Plan
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

SPARE_BITS = 0.125
"""Budget above the uniform scheme's own average, if the user names none: 4.25 for 4 bits in groups of 128."""

SENSITIVITY_SCENES, SENSITIVITY_FRAMES = 4, 4
"""Scenes, and frames of each, on which single parts are measured."""

_MEASURED: dict[str, SensitivityReport] = {}
"""What this process measured, by what it depends on: the variants in a comparison would measure the same again."""


class Qvggt(Method):
    """The method as published, with an automatic choice of schemes."""

    summary = "fragile layers kept finer, patch tokens only, compensated camera head, task-aware scales"
    stages: ClassVar[tuple[str, ...]] = ("select", "filter", "compensate", "task")
    tokens = "patch"
    has_budget = True

    def __init__(self, options: QuantizeOptions) -> None:
        super().__init__(options)
        measured = options.sensitivities
        self.measured = None if measured is None else read_sensitivity(measured)

    def has(self, stage: str) -> bool:
        """Return whether a stage takes part."""
        return stage in self.stages and stage not in self.options.without

    @property
    def token_classes(self) -> tuple[TokenClass, ...]:
        """Patch tokens, unless the user chose others or left filtering out."""
        return super().token_classes if self.options.tokens or self.has("filter") else TOKEN_CLASSES

    @property
    def rounder(self) -> Rounder | None:
        """How parts are rounded when it is measured what they lose; to nearest if None, as ``quantize_unit`` does."""
        return None

    def plan(self, bench: Bench) -> Plan:
        """Measure what every part of every block loses in a few schemes, and spend the budget where it helps most."""
        uniform = uniform_schemes(bench.shapes, self.options)
        base = self.options.scheme
        if not self.has("select") or not isinstance(base, Scheme):
            return Plan(uniform)
        storage = storage_of(bench.model.config, self.options.float_type)
        report = self._sensitivities(bench, base)
        findings = report.totals_json()
        average_bits = self.options.average_bits
        if average_bits is None and self.options.max_bytes is None:
            average_bits = storage.average_bits(_complete(uniform, self.options, bench)) + SPARE_BITS
        budget = Budget(average_bits, self.options.max_bytes)
        recorded = json.dumps({"provenance": {"sensitivities": findings}}, indent=2)
        storage = replace(storage, findings_bytes=len(recorded))
        allocation = allocate(report, storage, budget, self.options.conv, only=uniform)
        schemes = {layer: scheme for layer, scheme in allocation.schemes.items() if layer in uniform}
        return Plan(schemes, findings, allocation.figures_json())

    def _sensitivities(self, bench: Bench, base: Scheme) -> SensitivityReport:
        if self.measured is not None:
            return self.measured
        few = [batch.first(batch.scenes, SENSITIVITY_FRAMES) for batch in bench.task.first(SENSITIVITY_SCENES).batches]
        task = make_task(bench.model, few, self.options.supervision)
        schemes = candidate_schemes(base)
        targets = [tensor for target in task.targets for tensor in vars(target).values()]
        tensors = [*bench.model.state_dict().values(), *(batch.images for batch in few), *targets]
        rounding = None if self.rounder is None else self.token_classes
        key = fingerprint(tensors, schemes, self.options.supervision, rounding)
        if key not in _MEASURED:
            _MEASURED[key] = measure_sensitivity(
                bench.model,
                task,
                schemes,
                "part",
                on_row=lambda row, share: bench.on_progress("sensitivity", share),
                memory_bytes=self.options.memory_bytes,
                rounder=self.rounder,
            )
        return _MEASURED[key]

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Search scales and ranges by the task objective, and round to nearest."""
        shortlist = 3 if self.has("task") else 0
        return search_scales(context, SearchOptions(self.token_classes, shortlist)).rounded()

    def finish(self, bench: Bench, outcome: Outcome) -> Outcome:
        """Give the camera head a compensation token, if that lowers the objective on scenes held out."""
        if not self.has("compensate"):
            return outcome
        bench.on_progress("compensation", 0.0)
        found = try_compensation(bench.model, bench.task, bench.held_out)
        if found.accepted:
            bench.model.camera_head.compensation = nn.Parameter(found.token, requires_grad=False)
        return outcome.with_stage("compensate", found.to_json())


class QvggtPlus(Qvggt):
    """Ours beyond the paper: second-order rounding, then tuning end to end."""

    summary = "qvggt's choice of schemes, second-order rounding, scales and norms tuned end to end"
    stages = ("reorder", "select", "compensate", "tune")
    tokens = "all"
    tuning = TuneOptions()
    damping: ClassVar[float] = 0.002

    @property
    def needs_teacher(self) -> bool:
        """Tuning follows the float model."""
        return self.has("tune")

    @property
    def rounder(self) -> Rounder | None:
        """By second order, as ``quantize_unit`` does: parts lose something else then, and less of it."""
        return second_order_rounder(self.token_classes, self.damping)

    def prepare(self, model: VGGT) -> None:
        """Let columns of like size share their scales."""
        if self.has("reorder") and isinstance(self.options.scheme, Scheme):
            reorder_hidden_units(model, self.options.scheme)

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Round by second order, on ranges that cover every weight."""
        return second_order(context, self.token_classes, self.damping)

    def finish(self, bench: Bench, outcome: Outcome) -> Outcome:
        """Tune against the float model; kept if it lowers the objective on scenes held out."""
        if bench.teacher is not None:
            outcome = self.tuned(bench, bench.teacher, outcome)
        return super().finish(bench, outcome)

    def tuned(self, bench: Bench, teacher: VGGT, outcome: Outcome) -> Outcome:
        """Return the outcome after tuning, or as it was if that did no good."""
        options = replace(self.tuning, seed=self.options.calibration.seed)
        found = tune(
            bench.model,
            teacher,
            outcome.weights,
            bench.task.batches,
            options=options,
            on_step=lambda step, loss: bench.on_progress("tuning", step / options.steps),
        )
        before = bench.held_out.total(bench.model)
        kept = {name: parameter.data for name, parameter in bench.model.named_parameters()}
        apply(bench.model, UnitResult(found.weights, found.parameters))
        after = bench.held_out.total(bench.model)
        notes = {**found.to_json(), "before": before, "after": after, "accepted": after < before}
        if after < before:
            return Outcome(found.weights, outcome.stages).with_stage("tune", notes)
        for name, parameter in bench.model.named_parameters():
            parameter.data = kept[name]
        return outcome.with_stage("tune", notes)


def candidate_schemes(base: Scheme) -> list[LayerScheme]:
    """Return the schemes that a choice is made from: a bit less than asked for, as asked, and finer ones."""
    widths = sorted({base.bits - 1, base.bits, base.bits + 1, base.bits + 2, MAX_BITS})
    return [replace(base, bits=bits) for bits in widths if MIN_BITS <= bits <= MAX_BITS]


def _complete(
    schemes: Mapping[LayerId, LayerScheme], options: QuantizeOptions, bench: Bench
) -> dict[LayerId, LayerScheme]:
    return {layer: schemes.get(layer, FloatScheme(options.float_type)) for layer in bench.shapes}
