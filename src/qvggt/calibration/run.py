"""Quantize a model unit by unit: collect statistics on the calibration scenes, then quantize with a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from qvggt.calibration.activation_cache import ActivationCache
from qvggt.calibration.statistics import LayerStatistics, observe
from qvggt.calibration.task import Task
from qvggt.calibration.unit_store import UnitResult, UnitStore
from qvggt.calibration.units import HEADS, ForwardState, Unit, advance, model_units, start
from qvggt.model import VGGT
from qvggt.nn.convert import torch_dtype
from qvggt.quant.affine import QuantizedTensor, dequantize, quantize
from qvggt.quant.hadamard import rotate
from qvggt.quant.recipe import Recipe
from qvggt.quant.scheme import Scheme
from qvggt.types import BlockId, LayerId, OnProgress

Propagation = Literal["quantized", "float"]
"""Which model a unit's inputs on the calibration scenes come from: the units before it are quantized, or float."""


@dataclass(frozen=True)
class UnitContext:
    """One unit of the model, with its inputs, statistics and schemes.

    Attributes:
        model: the model; this unit and those after it are still in floating point.
        unit: the unit to quantize.
        index: position of the unit in the model.
        states: the unit's inputs, one state per batch of scenes.
        statistics: of its linear layers' inputs, by token class.
        schemes: scheme of every linear layer to quantize.
        task: the task objective on the same scenes, or None.
        scale_dtype: type in which scales are stored.
    """

    model: VGGT
    unit: Unit
    index: int
    states: Sequence[ForwardState]
    statistics: Mapping[LayerId, LayerStatistics]
    schemes: Mapping[LayerId, Scheme]
    task: Task | None
    scale_dtype: torch.dtype = torch.float16

    def task_loss(self, scenes: int) -> float:
        """Run the model from this unit onward, and return the objective on the first few scenes."""
        if self.task is None:
            raise ValueError("expected a context with a task")
        task = self.task.first(scenes)
        states = [state.first(batch.scenes) for state, batch in zip(self.states, task.batches, strict=False)]
        return task.total(self.model, self.index, states)


class UnitMethod(Protocol):
    """The part of a method that ``quantize_units`` calls."""

    propagate: ClassVar[Propagation]
    """Which model a unit's inputs come from."""

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Quantize every layer in ``context.schemes``, without changing the model."""
        ...


@dataclass(frozen=True)
class QuantizationResult:
    """The integer weights of a whole model; its float parameters are those of the model itself.

    Attributes:
        weights: codes and grid of every quantized layer.
        stages: JSON-ready notes by stage; ``units`` has those of every unit.
    """

    weights: Mapping[LayerId, QuantizedTensor]
    stages: Mapping[str, Any] = field(default_factory=dict)

    def with_stage(self, name: str, notes: Mapping[str, Any]) -> QuantizationResult:
        """Return the result with the notes of one more stage."""
        return replace(self, stages={**self.stages, name: notes})


@torch.no_grad()
def quantize_units(
    model: VGGT,
    method: UnitMethod,
    recipe: Recipe,
    task: Task,
    store: UnitStore | None = None,
    memory_bytes: int = 4 << 30,
    on_progress: OnProgress = lambda stage, share: None,
) -> QuantizationResult:
    """Quantize a model unit by unit, in place: its weights take their dequantized values.

    Convolutions are rounded to nearest by every method.

    Args:
        model: the float model.
        method: quantizes the linear layers of a unit.
        recipe: scheme of every layer that is not kept as it is, and the type of scales.
        task: the calibration scenes and the objective on them.
        store: keeps the result of each unit; units that it already has are not quantized again.
        memory_bytes: memory budget for activations; the rest is kept in temporary files.
        on_progress: called after each unit.

    Raises:
        QvggtError: weights or activations are not finite, or a file cannot be written.
    """
    cache = ActivationCache(memory_bytes)
    units, device = model_units(model), next(model.parameters()).device
    states = [start(batch.images) for batch in task.batches]
    weights: dict[LayerId, QuantizedTensor] = {}
    notes: dict[BlockId, Mapping[str, Any]] = {}
    for index, unit in enumerate(units):
        result = None if store is None else store.get(unit.id)
        if result is not None:
            result = result.to(device)
        else:
            statistics = observe(model, unit, states) if unit.linear else {}
            context = UnitContext(
                model,
                unit,
                index,
                states,
                statistics=statistics,
                schemes={},
                task=task,
                scale_dtype=torch_dtype(recipe.float_type),
            )
            result = _quantize_unit(context, method, recipe.quantized)
            if store is not None:
                store.put(unit.id, result)
        ends = unit.kind in HEADS
        if method.propagate == "float" and not ends:
            states = _after(model, unit, states, cache)
        apply(model, result)
        if method.propagate == "quantized" and not ends:
            states = _after(model, unit, states, cache)
        weights |= result.weights
        notes[unit.id] = result.notes
        on_progress(f"quantizing {unit.id}", (index + 1) / len(units))
    return QuantizationResult(weights, {"units": notes})


def _after(model: VGGT, unit: Unit, states: Sequence[ForwardState], cache: ActivationCache) -> list[ForwardState]:
    return [cache.put_state(advance(model, unit, state), state) for state in states]


def apply(model: VGGT, result: UnitResult) -> None:
    """Set a model's weights to a unit's dequantized values, and its float parameters to their new values."""
    for name, value in result.parameters.items():
        parameter = model.get_parameter(name)
        parameter.data = value.to(parameter.device)
    for layer, weight in result.weights.items():
        parameter = model.get_parameter(f"{layer}.weight")
        parameter.data = effective_weight(weight).view(parameter.shape).to(parameter.device)


def effective_weight(weight: QuantizedTensor) -> Tensor:
    """Return the dequantized matrix [out, in] for a layer's unrotated input."""
    values = dequantize(weight)
    return rotate(values) if weight.scheme.rotation else values


def _quantize_unit(context: UnitContext, method: UnitMethod, schemes: Mapping[LayerId, Scheme]) -> UnitResult:
    unit, model = context.unit, context.model
    linear = {layer: schemes[layer] for layer in unit.linear if layer in schemes}
    result = UnitResult({})
    if linear:
        result = method.quantize_unit(replace(context, schemes=linear))
        if set(result.weights) != set(linear):
            raise ValueError(f"expected quantized weights for {sorted(linear)}, got {sorted(result.weights)}")
    conv = {
        layer: quantize(model.get_parameter(f"{layer}.weight"), schemes[layer], scale_dtype=context.scale_dtype)
        for layer in unit.conv
        if layer in schemes
    }
    return replace(result, weights={**result.weights, **conv})
