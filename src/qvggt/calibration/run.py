"""One pass over a model: each unit in turn is observed on the calibration scenes and quantized by a method."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from qvggt.calibration.activation_cache import ActivationCache
from qvggt.calibration.data import SceneBatch
from qvggt.calibration.statistics import LayerStatistics, observe
from qvggt.calibration.task import Task
from qvggt.calibration.unit_store import UnitResult, UnitStore
from qvggt.calibration.units import HEADS, ForwardState, Unit, advance, model_units, start
from qvggt.model import VGGT
from qvggt.quant.affine import QuantizedTensor, dequantize, quantize
from qvggt.quant.hadamard import rotate
from qvggt.quant.scheme import LayerScheme, Scheme
from qvggt.types import BlockId, LayerId

log = logging.getLogger(__name__)

Propagation = Literal["quantized", "float"]
"""What a unit's inputs on the calibration scenes come from: the quantized units before it, or the float ones."""

OnUnit = Callable[[BlockId, float, Mapping[str, Any]], None]
"""Called with a unit, the share of the pass that is done, and the method's notes."""


@dataclass(frozen=True)
class UnitContext:
    """What a method sees of the unit that it is to quantize.

    Attributes:
        model: float from this unit on.
        unit: the one under work.
        index: of the unit among the model's.
        states: what enters it, one a batch of scenes.
        statistics: of its linear layers' inputs, by class of tokens.
        schemes: of the linear layers that are to hold integers.
        task: the objective on the same scenes; None if the method does without.
        scale_dtype: the type in which scales are stored.
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
        """Return the weighted objective on the first few scenes with the model's present weights, from here onward."""
        if self.task is None:
            raise ValueError("expected a pass with a task")
        task = self.task.first(scenes)
        states = [state.first(batch.scenes) for state, batch in zip(self.states, task.batches, strict=False)]
        return task.total(self.model, self.index, states)


class UnitMethod(Protocol):
    """How a unit is quantized."""

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Return integers for every layer in ``context.schemes``, leaving the model as it is."""
        ...


@dataclass(frozen=True)
class PassOptions:
    """How the pass runs.

    Attributes:
        propagate: which model the inputs of a unit come from.
        memory_bytes: of activations in memory; what is beyond waits in temporary files.
        scale_dtype: the type in which scales are stored.
    """

    propagate: Propagation = "quantized"
    memory_bytes: int = 4 << 30
    scale_dtype: torch.dtype = torch.float16


@dataclass(frozen=True)
class PassResult:
    """What the pass made; the model itself holds the quantized values afterwards.

    Attributes:
        weights: integers of every layer that holds some.
        notes: the method's notes, by unit.
        mapped_bytes: of activations that were written to files.
    """

    weights: Mapping[LayerId, QuantizedTensor]
    notes: Mapping[BlockId, Mapping[str, Any]] = field(default_factory=dict)
    mapped_bytes: int = 0


@torch.no_grad()
def quantize_units(
    model: VGGT,
    method: UnitMethod,
    schemes: Mapping[LayerId, LayerScheme],
    batches: Sequence[SceneBatch],
    task: Task | None = None,
    options: PassOptions | None = None,
    store: UnitStore | None = None,
    on_unit: OnUnit = lambda unit, share, notes: None,
) -> PassResult:
    """Quantize a model unit by unit, in place: its weights take the values that their integers stand for.

    Convolutions are rounded to nearest, whatever the method.

    Args:
        model: the float model.
        method: what quantizes a unit.
        schemes: of every layer that shall not stay as it is.
        batches: calibration scenes.
        task: the objective on the same batches, for methods that ask for it.
        options: of the pass.
        store: where results are kept as they come; those that it holds already are taken from it.
        on_unit: called after each unit.

    Raises:
        QvggtError: weights or activations are not finite, or a file cannot be written.
    """
    options = options or PassOptions()
    cache = ActivationCache(options.memory_bytes)
    units = model_units(model)
    states = [start(batch.images) for batch in batches]
    weights: dict[LayerId, QuantizedTensor] = {}
    notes: dict[BlockId, Mapping[str, Any]] = {}
    for index, unit in enumerate(units):
        result = None if store is None else store.get(unit.id)
        if result is None:
            chosen = {layer: schemes[layer] for layer in (*unit.linear, *unit.conv) if layer in schemes}
            statistics = observe(model, unit, states) if unit.linear else {}
            about = {"statistics": statistics, "schemes": {}, "task": task, "scale_dtype": options.scale_dtype}
            context = UnitContext(model, unit, index, states, **about)
            result = _quantize_unit(context, method, chosen)
            if store is not None:
                store.put(unit.id, result)
        ends = unit.kind in HEADS
        if options.propagate == "float" and not ends:
            states = _after(model, unit, states, cache)
        apply(model, result)
        if options.propagate == "quantized" and not ends:
            states = _after(model, unit, states, cache)
        weights |= result.weights
        notes[unit.id] = result.notes
        on_unit(unit.id, (index + 1) / len(units), result.notes)
    return PassResult(weights, notes, cache.mapped_bytes)


def _after(model: VGGT, unit: Unit, states: Sequence[ForwardState], cache: ActivationCache) -> list[ForwardState]:
    return [cache.put_state(advance(model, unit, state), state) for state in states]


def apply(model: VGGT, result: UnitResult) -> None:
    """Give a model the values that a unit's integers stand for, and its new float parameters."""
    for name, value in result.parameters.items():
        parameter = model.get_parameter(name)
        parameter.data = value.to(parameter.device)
    for layer, weight in result.weights.items():
        parameter = model.get_parameter(f"{layer}.weight")
        parameter.data = effective_weight(weight).view(parameter.shape).to(parameter.device)


def effective_weight(weight: QuantizedTensor) -> Tensor:
    """Return the matrix [out, in] that a layer multiplies its unrotated input by."""
    values = dequantize(weight)
    return rotate(values) if weight.scheme.rotation else values


def _quantize_unit(context: UnitContext, method: UnitMethod, chosen: Mapping[LayerId, LayerScheme]) -> UnitResult:
    unit, model = context.unit, context.model
    integers = {layer: scheme for layer, scheme in chosen.items() if isinstance(scheme, Scheme)}
    linear = {layer: integers[layer] for layer in unit.linear if layer in integers}
    result = UnitResult({})
    if linear:
        result = method.quantize_unit(replace(context, schemes=linear))
        if set(result.weights) != set(linear):
            raise ValueError(f"expected integers for {sorted(linear)}, got them for {sorted(result.weights)}")
    conv = {
        layer: quantize(model.get_parameter(f"{layer}.weight"), integers[layer], scale_dtype=context.scale_dtype)
        for layer in unit.conv
        if layer in integers
    }
    return replace(result, weights={**result.weights, **conv})
