"""AWQ's search for scales per input channel and clipped ranges, by layer output error or by the task objective."""

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
SCORE_SCENES = 4
"""Calibration scenes on which the shortlist is scored."""


@dataclass(frozen=True)
class SearchOptions:
    """Search space and criterion.

    Attributes:
        tokens: token classes whose activations are used.
        shortlist: number of candidates, best by reconstruction, that are scored by the task objective; 0 decides by
            reconstruction alone.
        grid_points: number of exponents a in [0, 1) that are tried for the scale mean|x|^a; 1 tries no scale.
    """

    tokens: tuple[TokenClass, ...] = TOKEN_CLASSES
    shortlist: int = 0
    grid_points: int = 20


@dataclass(frozen=True)
class Candidate:
    """One way to round a layer, and its loss.

    Attributes:
        exponent: a of the scale, 0 for none.
        scale: [in], or None.
        clip: whether the range is clipped.
        reconstruction: relative squared error of the layer's output.
        task: task objective of the whole model, or None if not scored.
    """

    exponent: float
    scale: Tensor | None
    clip: bool
    reconstruction: float
    task: float | None = None

    @property
    def loss(self) -> float:
        """The quantity that the search minimizes."""
        return self.reconstruction + (self.task or 0.0)


@dataclass(frozen=True)
class ScaledLayer:
    """A layer with its scales applied, before rounding.

    Attributes:
        weight: [out, in], scaled.
        gram: [in, in], Gram matrix of the scaled inputs.
        grid: levels fitted to the scaled weight.
        scheme: scheme of the grid.
    """

    weight: Tensor
    gram: Tensor
    grid: Grid
    scheme: Scheme


@dataclass(frozen=True)
class ScaledUnit:
    """A unit with the best scales applied, before rounding.

    Attributes:
        layers: every layer to quantize.
        parameters: float parameters that absorbed scales, by full name.
        notes: exponents and losses by layer.
    """

    layers: Mapping[LayerId, ScaledLayer]
    parameters: Mapping[str, Tensor]
    notes: Mapping[str, Any]

    def rounded(self) -> UnitResult:
        """Round every layer to its nearest levels."""
        weights = {name: quantize(layer.weight, layer.scheme, layer.grid) for name, layer in self.layers.items()}
        return UnitResult(weights, self.parameters, self.notes)


def search_scales(context: UnitContext, options: SearchOptions) -> ScaledUnit:
    """Choose scales and ranges for every layer of a unit, layer by layer in execution order.

    With a shortlist, layers that are already decided stay rounded while the next ones are scored.

    Args:
        context: the unit.
        options: search space and criterion.

    Raises:
        QvggtError: a scheme rotates its layer's inputs, which mixes the channels that the scales belong to.
    """
    rotated = [layer for layer, scheme in context.schemes.items() if scheme.rotation]
    if rotated:
        raise QvggtError(
            f"{rotated[0]} has a rotated scheme, but scales are searched per input channel: use --method gptq"
        )
    model, module = context.model, context.model.get_submodule(context.unit.module)
    paths = {LayerId(path.consumer): path for path in scale_paths(module, context.unit.module)}
    found: dict[LayerId, Candidate] = {}
    own = {layer: model.get_parameter(f"{layer}.weight").data for layer in context.schemes}
    with weights_replaced(model, own):  # with themselves, so that candidates are undone at the end
        for layer, scheme in context.schemes.items():
            statistics = pooled(context.statistics[layer], options.tokens)
            weight = model.get_parameter(f"{layer}.weight").detach()
            exponents = _exponents(options) if layer in paths else (0.0,)
            candidates = [
                _candidate(weight, scheme, statistics.gram, _scale(statistics.mean_abs, exponent), exponent=exponent)
                for exponent in exponents
            ]
            if options.shortlist:
                candidates.append(_candidate(weight, scheme, statistics.gram, None, exponent=0.0, clip=False))
                candidates = _scored(context, layer, statistics.gram, candidates, options=options)
            best = min(candidates, key=lambda candidate: candidate.loss)
            found[layer] = best
            if options.shortlist:
                effective = _effective(weight, scheme, statistics.gram, best)
                model.get_parameter(f"{layer}.weight").data = effective
    return _apply_scales(context, options, paths, found)


def _scored(
    context: UnitContext, layer: LayerId, gram: Tensor, candidates: Sequence[Candidate], options: SearchOptions
) -> list[Candidate]:
    # The first candidate (no scale, clipped) is always scored.
    best = sorted(candidates, key=lambda candidate: candidate.reconstruction)[: options.shortlist]
    best += [candidate for candidate in candidates[:1] if candidate not in best]
    parameter, scheme = context.model.get_parameter(f"{layer}.weight"), context.schemes[layer]
    weight, scored = parameter.data, []
    for candidate in best:
        parameter.data = _effective(weight, scheme, gram, candidate)
        scored.append(replace(candidate, task=context.task_loss(SCORE_SCENES)))
    parameter.data = weight
    return scored


def _apply_scales(
    context: UnitContext, options: SearchOptions, paths: Mapping[LayerId, ScalePath], found: Mapping[LayerId, Candidate]
) -> ScaledUnit:
    """Absorb the chosen scales into their producers and fit the grids to the scaled weights."""
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
        grid = _grid(weight, scheme, gram, candidate.clip, scale_dtype=context.scale_dtype)
        layers[layer] = ScaledLayer(weight, gram, grid, scheme)
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
    return ScaledUnit(layers, kept, notes)


def _candidate(
    weight: Tensor, scheme: Scheme, gram: Tensor, scale: Tensor | None, exponent: float, clip: bool = True
) -> Candidate:
    candidate = Candidate(exponent, scale, clip, 0.0)
    difference = _effective(weight, scheme, gram, candidate) - weight
    size = ((weight @ gram) * weight).sum().clamp(min=1e-30)
    return replace(candidate, reconstruction=float(((difference @ gram) * difference).sum() / size))


def _effective(weight: Tensor, scheme: Scheme, gram: Tensor, candidate: Candidate) -> Tensor:
    """Return the quantized weight with its scale divided out again, for the unscaled inputs."""
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
    """Return mean|x|^a, normalized so that its minimum and maximum are reciprocal, as published."""
    if exponent == 0:
        return None
    scale = mean_abs.clamp(min=SMALLEST_SCALE) ** exponent
    return scale / (scale.max() * scale.min()).sqrt()
