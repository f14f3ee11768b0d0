"""Alternating optimization: round codes to the scale, then fit the scale to the codes, weighted by the inputs.

With w the weights of a group, q their codes (minus the zero point) and e the mean square of the inputs, a scale Δ has
the loss Σ e (w - Δ q)². For given codes the best scale is Σ e w q / Σ e q²; for a given scale the best codes are the
nearest. No step increases the loss, so a few of them improve on the scale that covers the range.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from qvggt.methods import (
    Grid,
    Method,
    QuantizedTensor,
    Scheme,
    UnitContext,
    UnitResult,
    dequantize,
    fit_grid,
    pooled,
    quantize,
)

TURNS = 20


class InTurns(Method):
    """Scales and codes fitted alternately, weighted by a layer's inputs."""

    summary = "scales and codes fitted alternately, weighted by the inputs"

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Fit every layer of a unit independently."""
        weights = {}
        for layer, scheme in context.schemes.items():
            weight = context.model.get_parameter(f"{layer}.weight").detach().float()
            energy = pooled(context.statistics[layer], self.token_classes).mean_square
            weights[layer] = fit_in_turns(weight, energy, scheme, context.scale_dtype)
        return UnitResult(weights)


def fit_in_turns(
    weight: Tensor, energy: Tensor, scheme: Scheme, scale_dtype: torch.dtype = torch.float16, turns: int = TURNS
) -> QuantizedTensor:
    """Quantize a weight so that its error, weighted by the inputs' energy, is small.

    Args:
        weight: [out, in].
        energy: [in] mean square of each input channel.
        scheme: the weight's scheme.
        scale_dtype: the type in which scales are stored.
        turns: number of times that scales are fitted; every group keeps its best scale.
    """
    best = quantize(weight, scheme, fit_grid(weight, replace(scheme, scale_rule="mse"), scale_dtype))
    least, now = _loss(best, weight, energy), best
    smallest = torch.finfo(scale_dtype).smallest_normal
    for _ in range(turns):
        codes = _grouped(now.codes, now.grid).float()
        if now.grid.zero_point is not None:
            codes = codes - now.grid.zero_point.float()[..., None]
        carried = _grouped(energy.expand_as(weight), now.grid) * codes
        step = (carried * _grouped(weight, now.grid)).sum(-1) / (carried * codes).sum(-1)  # 0 / 0 where all codes are 0
        step = torch.where(step > smallest, step, now.grid.scale.float()).to(scale_dtype)
        now = quantize(weight, scheme, Grid(step, now.grid.zero_point))
        loss = _loss(now, weight, energy)
        best_step = torch.where(loss < least, now.grid.scale, best.grid.scale)
        best = replace(best, grid=Grid(best_step, best.grid.zero_point))
        least = torch.minimum(loss, least)
    return quantize(weight, scheme, best.grid)


def _loss(quantized: QuantizedTensor, weight: Tensor, energy: Tensor) -> Tensor:
    """Return the weighted squared error of every group [out, groups]."""
    error = (dequantize(quantized) - weight).square() * energy
    return _grouped(error, quantized.grid).sum(-1)


def _grouped(matrix: Tensor, grid: Grid) -> Tensor:
    return matrix.unflatten(1, (grid.scale.shape[1], -1))  # [out, groups, in / groups]
