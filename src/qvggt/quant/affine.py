"""Reference implementation of affine quantization, against which every faster path is tested.

Codes of ``bits`` bits lie in [-2^(bits-1), 2^(bits-1) - 1]. A symmetric group of weights has the step
Δ = max|w| / (2^bits - 1) * 2, which spreads the whole range of codes over [-max|w|, max|w|] as ``compressed-tensors``
does, and Q(w) = Δ · clamp(round(w / Δ)). With zero points, Δ spans [min(w, 0), max(w, 0)] and
Q(w) = Δ · (clamp(round(w / Δ) + z) - z), so that zero is always a level.

Scales are rounded up to the type in which they are stored, and codes are computed with the stored scale. Rounding up
keeps the largest weight in range: every error is at most Δ/2. A step too small for the type becomes its smallest
positive number; the bound holds there too, and a group of zeros stays exactly zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

_CLIP_RATIOS = tuple(1 - 0.025 * step for step in range(27))
"""Fractions of the full range that the "mse" rule tries, from 1 to 0.35."""


@dataclass(frozen=True)
class Grid:
    """The levels of every group.

    Attributes:
        scale: [out, groups] in its stored type, positive.
        zero_point: [out, groups] int8 in the range of the codes, or None for a symmetric grid.
    """

    scale: Tensor
    zero_point: Tensor | None = None

    def to(self, device: torch.device) -> Grid:
        """Return the grid on a device."""
        return Grid(self.scale.to(device), None if self.zero_point is None else self.zero_point.to(device))


@dataclass(frozen=True)
class QuantizedTensor:
    """A weight matrix as integer codes on a grid.

    Attributes:
        codes: [out, in] int8.
        grid: its levels.
        scheme: with a group size that divides ``in``.
    """

    codes: Tensor
    grid: Grid
    scheme: Scheme

    def to(self, device: torch.device) -> QuantizedTensor:
        """Return the matrix on a device."""
        return QuantizedTensor(self.codes.to(device), self.grid.to(device), self.scheme)


def quantize(
    weight: Tensor, scheme: Scheme, grid: Grid | None = None, scale_dtype: torch.dtype = torch.float16
) -> QuantizedTensor:
    """Round a weight to its nearest levels.

    Args:
        weight: [out, in] of any floating-point type, or [out, ...], which is flattened to it.
        scheme: its group size is first made to divide ``in`` (``Scheme.for_width``).
        grid: levels to round to; fitted to the weight if None.
        scale_dtype: the type in which fitted scales are stored.

    Raises:
        ValueError: the weight has fewer than two dimensions or is empty.
        QvggtError: a weight is NaN or infinite, or too large for the scale's type.
    """
    matrix = as_matrix(weight)
    scheme = scheme.for_width(matrix.shape[1])
    if grid is None:
        grid = fit_grid(matrix, scheme, scale_dtype)
    else:
        check_finite(matrix)
    grouped = _grouped(matrix, grid)
    return QuantizedTensor(_codes(grouped, grid, scheme).to(torch.int8).view(matrix.shape), grid, scheme)


def dequantize(quantized: QuantizedTensor) -> Tensor:
    """Return the weights [out, in] in float32.

    With 16-bit scales the product of code and scale is exact; with float32 scales it is rounded once.
    """
    grid, codes = quantized.grid, quantized.codes
    levels = _grouped(codes, grid)
    if grid.zero_point is not None:
        levels = levels - grid.zero_point.float()[..., None]
    return (levels * grid.scale.float()[..., None]).view(codes.shape)


def fit_grid(
    weight: Tensor, scheme: Scheme, scale_dtype: torch.dtype = torch.float16, gram: Tensor | None = None
) -> Grid:
    """Fit the levels of every group of a weight by the scheme's rule.

    Args:
        weight: [out, in] or [out, ...], which is flattened to it.
        scheme: its group size is first made to divide ``in``.
        scale_dtype: the type in which scales are stored.
        gram: [in, in], the sum of x xᵀ over a layer's inputs. The "mse" rule then minimizes the squared error of each
            group's contribution to the output, instead of that of the weights.

    Raises:
        ValueError: the weight has fewer than two dimensions or is empty.
        QvggtError: a weight is NaN or infinite, or too large for the scale's type.
    """
    matrix = as_matrix(weight)
    check_finite(matrix)
    groups = scheme.groups(matrix.shape[1])
    grouped = matrix.unflatten(1, (groups, -1))
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)  # [out, groups]
    if scheme.symmetric:
        high = torch.maximum(-low, high)
        low = -high
    if scheme.scale_rule == "absmax":
        return _grid_over(low, high, scheme, scale_dtype)
    best, least = None, torch.full_like(low, torch.inf)
    for ratio in _ratios(scheme):
        grid = _grid_over(low * ratio, high * ratio, scheme, scale_dtype)
        decoded = _codes(grouped, grid, scheme)
        if grid.zero_point is not None:
            decoded = decoded - grid.zero_point.float()[..., None]
        error = _squared_error(decoded * grid.scale.float()[..., None] - grouped, gram)
        best = grid if best is None else _choose(error < least, grid, best)
        least = torch.minimum(error, least)
    assert best is not None
    return best


def as_matrix(weight: Tensor) -> Tensor:
    """Return a weight [out, ...] as a float32 matrix [out, in].

    Raises:
        ValueError: it has fewer than two dimensions or is empty.
    """
    if weight.ndim < 2 or weight.numel() == 0:
        raise ValueError(f"expected a weight [out, in, ...] with elements, got shape {tuple(weight.shape)}")
    return weight.detach().float().flatten(1)


def check_finite(matrix: Tensor) -> None:
    """Raise QvggtError if a weight is NaN or infinite."""
    # One pass without allocation: NaN and infinity appear in the extremes.
    low, high = torch.aminmax(matrix)
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        bad = int((~torch.isfinite(matrix)).sum())
        raise QvggtError(f"{bad} of {matrix.numel()} weights are NaN or infinite: use an intact checkpoint")


def _grouped(matrix: Tensor, grid: Grid) -> Tensor:
    return matrix.float().unflatten(1, (grid.scale.shape[1], -1))  # [out, groups, in / groups]


def _codes(grouped: Tensor, grid: Grid, scheme: Scheme) -> Tensor:
    # Float32 codes [out, groups, in / groups].
    codes = grouped / grid.scale.float()[..., None]
    if grid.zero_point is not None:
        codes = codes + grid.zero_point.float()[..., None]
    return codes.round_().clamp_(*scheme.code_range)


def _grid_over(low: Tensor, high: Tensor, scheme: Scheme, scale_dtype: torch.dtype) -> Grid:
    smallest, largest = scheme.code_range
    scale = _rounded_up((high - low) / (largest - smallest), scale_dtype)
    if scheme.symmetric:
        return Grid(scale)
    zero_point = (smallest - low / scale.float()).round().clamp(smallest, largest)
    return Grid(scale, zero_point.to(torch.int8))


def _rounded_up(step: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the smallest positive number of ``dtype`` that is not below the step."""
    if bool((step > torch.finfo(dtype).max).any()):
        raise QvggtError(
            f"weights are too large for scales in {str(dtype).removeprefix('torch.')}: choose float32 (--float-type)"
        )
    stored = step.abs().to(dtype)  # a copy; abs turns -0.0 into 0.0, whose bits are 0
    bits = stored.view(torch.int32 if dtype == torch.float32 else torch.int16)
    # Incrementing the bits of a non-negative float gives the next larger float.
    bits += (stored.float() < step) | (stored == 0)
    return stored


def _squared_error(difference: Tensor, gram: Tensor | None) -> Tensor:
    # [out, groups] of a difference [out, groups, k]: e·e, or e G eᵀ with each group's block G of the Gram matrix.
    if gram is None:
        return difference.square().sum(-1)
    size = difference.shape[-1]
    blocks = torch.stack([gram[at : at + size, at : at + size] for at in range(0, gram.shape[0], size)]).float()
    by_group = difference.transpose(0, 1)  # [groups, out, k]
    return ((by_group @ blocks) * by_group).sum(-1).T


def _ratios(scheme: Scheme) -> tuple[float, ...]:
    if not scheme.symmetric:
        return _CLIP_RATIOS
    # Two more put the largest weight on a level, so that weights on a symmetric grid stay unchanged.
    smallest, largest = scheme.code_range
    half_range = (largest - smallest) / 2
    return (*_CLIP_RATIOS, half_range / largest, half_range / -smallest)


def _choose(better: Tensor, grid: Grid, best: Grid) -> Grid:
    scale = torch.where(better, grid.scale, best.scale)
    if grid.zero_point is None or best.zero_point is None:
        return Grid(scale)
    return Grid(scale, torch.where(better, grid.zero_point, best.zero_point))
