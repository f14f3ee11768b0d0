"""Scales per input channel and clipped ranges, chosen by what a layer's output or the whole model's answer loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from qvggt.calibration.run import UnitContext
from qvggt.calibration.statistics import pooled
from qvggt.calibration.unit_store import UnitResult
from qvggt.model.producers import ScalePath, absorb, scale_paths
from qvggt.nn.fake import weights_replaced
from qvggt.options import TOKEN_CLASSES, TokenClass
from qvggt.quant.affine import Grid, dequantize, fit_grid, quantize
from qvggt.quant.scheme import Scheme
from qvggt.types import LayerId, QvggtError

SMALLEST_SCALE = 1e-4


@dataclass(frozen=True)
class SearchOptions:
    """What is searched, and how it is judged.

    Attributes:
        tokens: classes of tokens whose activations count.
        grid_points: exponents a in 0..1 that are tried for the scale mean|x|^a.
        scales: whether scales are searched at all.
        clip: whether ranges are clipped.
        shortlist: candidates, best by reconstruction, that are scored by the task objective; 0 leaves it at
            reconstruction.
        score_scenes: calibration scenes on which the short list is scored.
    """

    tokens: tuple[TokenClass, ...] = TOKEN_CLASSES
    grid_points: int = 20
    scales: bool = True
    clip: bool = True
    shortlist: int = 0
    score_scenes: int = 4


@dataclass(frozen=True)
class Candidate:
    """A way to round a layer.

    Attributes:
        exponent: a of the scale, 0 for none.
        scale: [in], or None.
        clip: whether the range is clipped.
        reconstruction: relative squared error of the layer's output.
        task: weighted task objective with it, or None if that was not asked for.
    """

    exponent: float
    scale: Tensor | None
    clip: bool
    reconstruction: float
    task: float | None = None

    @property
    def loss(self) -> float:
        """What is minimised."""
        return self.reconstruction + (self.task or 0.0)


@dataclass(frozen=True)
class LayerPlan:
    """A layer ready to be rounded.

    Attributes:
        weight: [out, in] after scales have moved.
        gram: [in, in] of its inputs after scales have moved.
        grid: its levels.
        scheme: their scheme.
    """

    weight: Tensor
    gram: Tensor
    grid: Grid
    scheme: Scheme


@dataclass(frozen=True)
class UnitPlan:
    """What a search found for a unit.

    Attributes:
        layers: every layer that is to hold integers.
        parameters: float parameters that absorbed scales, by full name.
        notes: exponents and losses by layer.
    """

    layers: Mapping[LayerId, LayerPlan]
    parameters: Mapping[str, Tensor]
    notes: Mapping[str, Any]

    def rounded(self) -> UnitResult:
        """Return every layer at its nearest levels."""
        weights = {layer: quantize(ready.weight, ready.scheme, ready.grid) for layer, ready in self.layers.items()}
        return UnitResult(weights, self.parameters, self.notes)


def plan_unit(context: UnitContext, options: SearchOptions) -> UnitPlan:
    """Choose scales and ranges for every layer of a unit, one layer after the other in the order in which they run.

    With a shortlist, layers whose choice is made stay rounded while the next ones are scored.

    Args:
        context: the unit.
        options: of the search.

    Raises:
        QvggtError: a scheme rotates its layer's inputs, after which their channels are not those that a scale moves.
    """
    rotated = [layer for layer, scheme in context.schemes.items() if scheme.rotation]
    if rotated:
        raise QvggtError(f"{rotated[0]} is to be rotated, and scales are searched for layers that are not: use gptq")
    model, module = context.model, context.model.get_submodule(context.unit.module)
    paths = {LayerId(path.consumer): path for path in scale_paths(module, context.unit.module)}
    found: dict[LayerId, Candidate] = {}
    own = {layer: model.get_parameter(f"{layer}.weight").data for layer in context.schemes}
    with weights_replaced(model, own):  # with themselves: what is tried meanwhile is undone
        for layer, scheme in context.schemes.items():
            statistics = pooled(context.statistics[layer], options.tokens)
            weight = model.get_parameter(f"{layer}.weight").detach()
            exponents = _exponents(options) if layer in paths and options.scales else (0.0,)
            candidates = [
                _candidate(
                    weight, scheme, statistics.gram, _scale(statistics.mean_abs, exponent), exponent, options.clip
                )
                for exponent in exponents
            ]
            if options.shortlist:
                if options.clip:
                    candidates.append(_candidate(weight, scheme, statistics.gram, None, 0.0, False))
                candidates = _scored(context, layer, statistics.gram, candidates, options)
            best = min(candidates, key=lambda candidate: candidate.loss)
            found[layer] = best
            if options.shortlist:
                effective = _effective(weight, scheme, statistics.gram, best)
                model.get_parameter(f"{layer}.weight").data = effective
    return _moved(context, options, paths, found)


def _scored(
    context: UnitContext, layer: LayerId, gram: Tensor, candidates: Sequence[Candidate], options: SearchOptions
) -> list[Candidate]:
    # The plain candidate (no scale, clipped as asked) is always among those that are scored.
    best = sorted(candidates, key=lambda candidate: candidate.reconstruction)[: options.shortlist]
    best += [candidate for candidate in candidates[:1] if candidate not in best]
    parameter, scheme = context.model.get_parameter(f"{layer}.weight"), context.schemes[layer]
    weight, scored = parameter.data, []
    for candidate in best:
        parameter.data = _effective(weight, scheme, gram, candidate)
        scored.append(replace(candidate, task=context.task_loss(options.score_scenes)))
    parameter.data = weight
    return scored


def _moved(
    context: UnitContext, options: SearchOptions, paths: Mapping[LayerId, ScalePath], found: Mapping[LayerId, Candidate]
) -> UnitPlan:
    """Move the chosen scales into their producers and fit the grids to the weights as they are then."""
    model, parameters = context.model, {}
    for layer in found:
        parameters[f"{layer}.weight"] = model.get_parameter(f"{layer}.weight").detach()
    changed: set[str] = set()
    for layer, candidate in found.items():
        if candidate.scale is None:
            continue
        path = paths[layer]
        for name in (f"{path.producer}.weight", f"{path.producer}.bias"):
            parameters.setdefault(name, model.get_parameter(name).detach())
            changed.add(name)
        absorb(parameters, path, candidate.scale)
    layers = {}
    for layer, candidate in found.items():
        gram = pooled(context.statistics[layer], options.tokens).gram
        if candidate.scale is not None:
            gram = gram / candidate.scale / candidate.scale[:, None]
        scheme = context.schemes[layer]
        weight = parameters[f"{layer}.weight"].float()
        layers[layer] = LayerPlan(
            weight, gram, _grid(weight, scheme, gram, candidate.clip, context.scale_dtype), scheme
        )
    integer = {f"{layer}.weight" for layer in found}
    kept = {name: parameters[name] for name in sorted(changed - integer)}
    notes: dict[str, Any] = {
        layer: {
            "exponent": round(candidate.exponent, 4),
            "clip": candidate.clip,
            "reconstruction": candidate.reconstruction,
            **({} if candidate.task is None else {"task": candidate.task}),
        }
        for layer, candidate in found.items()
    }
    return UnitPlan(layers, kept, notes)


def _candidate(
    weight: Tensor, scheme: Scheme, gram: Tensor, scale: Tensor | None, exponent: float, clip: bool
) -> Candidate:
    candidate = Candidate(exponent, scale, clip, 0.0)
    difference = _effective(weight, scheme, gram, candidate) - weight
    size = ((weight @ gram) * weight).sum().clamp(min=1e-30)
    return replace(candidate, reconstruction=float(((difference @ gram) * difference).sum() / size))


def _effective(weight: Tensor, scheme: Scheme, gram: Tensor, candidate: Candidate) -> Tensor:
    """Return what the layer would multiply its present inputs by."""
    if candidate.scale is None:
        grid = _grid(weight, scheme, gram, candidate.clip)
        return dequantize(quantize(weight, scheme, grid)).to(weight.dtype)
    scale = candidate.scale
    scaled = weight * scale
    grid = _grid(scaled, scheme, gram / scale / scale[:, None], candidate.clip)
    return (dequantize(quantize(scaled, scheme, grid)) / scale).to(weight.dtype)


def _grid(weight: Tensor, scheme: Scheme, gram: Tensor, clip: bool, scale_dtype: torch.dtype = torch.float16) -> Grid:
    if not clip:
        return fit_grid(weight, scheme, scale_dtype)
    return fit_grid(weight, replace(scheme, scale_rule="mse"), scale_dtype, gram)


def _exponents(options: SearchOptions) -> tuple[float, ...]:
    return tuple(point / options.grid_points for point in range(options.grid_points))


def _scale(mean_abs: Tensor, exponent: float) -> Tensor | None:
    """Return mean|x|^a, with its extremes made reciprocal to each other, as published."""
    if exponent == 0:
        return None
    scale = mean_abs.clamp(min=SMALLEST_SCALE) ** exponent
    return scale / (scale.max() * scale.min()).sqrt()
