"""GPTQ rounding: quantize column by column, compensating each error in the remaining columns.

Rounding column i of a weight W makes an error e_i. The layer's output changes least if every remaining column j is
reduced by e_i · U_ij / U_ii, where U is the upper Cholesky factor of the inverse Hessian, H⁻¹ = UᵀU, and H = Σ x xᵀ
over the layer's inputs x. (Frantar, Ashkboos, Hoefler, Alistarh: "GPTQ", ICLR 2023, arXiv:2210.17323.) Columns are
visited by decreasing H_ii ("act order"): those with the largest inputs have the most columns left to compensate them.

The errors of a block of columns are applied to the columns behind it in a single matrix product. Errors are computed
in float64; the rounding itself is the reference's (``qvggt.quant.affine``), in float32 against the stored scales.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import torch
from torch import Tensor

from qvggt.quant.affine import Grid, QuantizedTensor, as_matrix, check_finite, dequantize, quantize
from qvggt.quant.scheme import PER_CHANNEL, Scheme
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

DAMPING = 0.01
"""Default damping: what is added to the Hessian's diagonal, as a share of the diagonal's mean."""
BLOCK = 128
"""Columns whose errors are applied together; affects speed only."""

_LARGEST_DAMPING = 1.0
"""Largest damping that is tried, as a share of the mean diagonal."""
_SMALLEST_RAISED = 1e-6
"""First damping that is tried if none was asked for."""


def gptq(
    weight: Tensor, hessian: Tensor, scheme: Scheme, grid: Grid, damping: float = DAMPING, block: int = BLOCK
) -> QuantizedTensor:
    """Round a weight to a grid so that the layer's output changes little.

    A column whose inputs are all zero is dead: its weights become zero. A Hessian that is singular despite the damping
    is damped ten times as much, repeatedly, up to its mean diagonal.

    Args:
        weight: [out, in] of any floating-point type, or [out, ...], which is flattened to it.
        hessian: [in, in], the sum of x xᵀ over the layer's inputs x, times any positive factor.
        scheme: its group size is first made to divide ``in``.
        grid: the levels of every group (``fit_grid``).
        damping: added to the Hessian's diagonal, as a share of the diagonal's mean.
        block: columns whose errors are applied together; affects speed only.

    Raises:
        ValueError: the weight has fewer than two dimensions or is empty, or a shape does not match the weight's.
        QvggtError: a weight or the Hessian is NaN or infinite, the Hessian is zero or not a sum of x xᵀ, or the damping
            is negative or not finite.
    """
    if not 0 <= damping < math.inf:
        raise QvggtError(f"damping must be a finite share of at least 0, got {damping!r}")
    matrix = as_matrix(weight)
    check_finite(matrix)
    rows, width = matrix.shape
    scheme = scheme.for_width(width)
    shape = (rows, scheme.groups(width))
    if grid.scale.shape != shape:
        raise ValueError(f"expected a grid with scales {shape}, got {tuple(grid.scale.shape)}")
    hessian, dead = _unit_mean(hessian, matrix)
    order = hessian.diagonal().argsort(descending=True, stable=True)
    feedback = _feedback(hessian, order, damping)
    codes = _round_columns(matrix.masked_fill(dead, 0), feedback, order, scheme, grid=grid, block=block)
    return QuantizedTensor(codes, grid, scheme)


def hessian_error(weight: Tensor, quantized_weight: Tensor, hessian: Tensor) -> float:
    """Return the relative squared error of a layer's output: tr(E H Eᵀ) / tr(W H Wᵀ).

    Args:
        weight: W, [out, in], or [out, ...], which is flattened to it.
        quantized_weight: W + E of the same shape, dequantized.
        hessian: H [in, in], the sum of x xᵀ over inputs x, times any positive factor.

    Returns:
        At least 0; infinity if an output of zero changed.

    Raises:
        ValueError: a shape does not match the weight's.
    """
    matrix, changed = as_matrix(weight).double(), as_matrix(quantized_weight).double()
    if changed.shape != matrix.shape:
        raise ValueError(
            f"expected two weights of the same shape, got {tuple(matrix.shape)} and {tuple(changed.shape)}"
        )
    _check_square(hessian, matrix.shape[1])
    hessian = hessian.detach().to(matrix.device, torch.float64)
    change = max(_energy(changed - matrix, hessian), 0.0)
    energy = _energy(matrix, hessian)
    if energy <= 0:
        return math.inf if change > 0 else 0.0
    return change / energy


def _energy(matrix: Tensor, hessian: Tensor) -> float:
    return float(((matrix @ hessian) * matrix).sum())


def _check_square(hessian: Tensor, width: int) -> None:
    if hessian.shape != (width, width):
        raise ValueError(f"expected a Hessian {(width, width)}, got {tuple(hessian.shape)}")


def _unit_mean(hessian: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Hessian in float64, scaled to a mean diagonal of one, and which columns are dead [in].

    The diagonal of dead columns is set to one.
    """
    _check_square(hessian, matrix.shape[1])
    hessian = hessian.detach().to(matrix.device, torch.float64)
    if not bool(torch.isfinite(hessian).all()):
        raise QvggtError(
            "the Hessian contains NaN or infinity: calibrate on inputs for which the float model is finite"
        )
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    if bool(dead.all()):
        raise QvggtError("the Hessian is zero: calibrate on inputs that reach the layer")
    mean = diagonal[~dead].mean()
    if not mean > 0:
        raise QvggtError("the Hessian's diagonal is negative: sum x xᵀ over the layer's inputs")
    hessian = hessian / mean
    hessian.diagonal()[dead] = 1
    return hessian, dead


def _feedback(hessian: Tensor, order: Tensor, damping: float) -> Tensor:
    """Return U_ij / U_ii [in, in] for the columns in this order: upper triangular with ones on the diagonal.

    The inverse Hessian is not computed: if L Lᵀ is the Hessian with its columns reversed, U is L⁻¹ reversed, which is
    faster and more accurate. Dividing L's columns by its diagonal divides U's rows by theirs.
    """
    reverse = order.flip(0)
    lower = _cholesky(hessian[reverse[:, None], reverse], damping)
    lower /= lower.diagonal().clone()
    identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower, identity, upper=False, unitriangular=True).flip(0, 1)


def _cholesky(hessian: Tensor, damping: float) -> Tensor:
    """Return the lower Cholesky factor of a Hessian with unit mean diagonal, damped in place until it exists."""
    hessian.diagonal().add_(damping)
    lower, failed = torch.linalg.cholesky_ex(hessian)
    while bool(failed):
        raised = max(10 * damping, _SMALLEST_RAISED)
        if raised > _LARGEST_DAMPING * (1 + 1e-9):
            raise QvggtError(
                f"the Hessian is not positive definite even with a damping of {damping:g} of its mean diagonal: "
                "sum x xᵀ over the layer's inputs in float32 or float64"
            )
        log.info(
            "the Hessian is singular with a damping of %g of its mean diagonal: damped by %g instead", damping, raised
        )
        hessian.diagonal().add_(raised - damping)
        damping = raised
        lower, failed = torch.linalg.cholesky_ex(hessian)
    return lower


def _round_columns(matrix: Tensor, feedback: Tensor, order: Tensor, scheme: Scheme, grid: Grid, block: int) -> Tensor:
    """Round every column and return the codes [out, in] int8.

    Args:
        matrix: [out, in].
        feedback: from ``_feedback``, for the same order.
        order: [in], the columns in the order in which they are rounded.
        scheme: of every group.
        grid: the levels of every group.
        block: columns whose errors are applied together.
    """
    scheme = replace(scheme, group_size=PER_CHANNEL)
    grids = _split(grid)
    left = matrix.T[order].double()  # [in, out], transposed so that each step works on whole rows
    width = len(left)
    size = width // len(grids)
    columns = order.tolist()
    codes = torch.empty(left.shape, dtype=torch.int8, device=left.device)
    for start in range(0, width, block):
        stop = min(start + block, width)
        errors = torch.empty_like(left[start:stop])
        for i in range(start, stop):
            rounded = quantize(left[i, :, None], scheme, grids[columns[i] // size])
            codes[columns[i]] = rounded.codes[:, 0]
            error = errors[i - start] = left[i] - dequantize(rounded)[:, 0]
            left[i + 1 : stop].addr_(feedback[i, i + 1 : stop], error, alpha=-1)
        left[stop:].addmm_(feedback[start:stop, stop:].T, errors, alpha=-1)
    return codes.T.contiguous()


def _split(grid: Grid) -> list[Grid]:
    """Return each group's levels as a grid [out, 1]."""
    scales = [scale.contiguous() for scale in grid.scale.split(1, 1)]
    if grid.zero_point is None:
        return [Grid(scale) for scale in scales]
    return [Grid(scale, zero_point) for scale, zero_point in zip(scales, grid.zero_point.split(1, 1), strict=True)]
