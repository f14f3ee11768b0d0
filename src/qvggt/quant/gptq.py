"""GPTQ's rounding: a column at a time, each error made good by the columns that are still to come.

To round column i of a weight W is to make an error e_i. The output of the layer changes least if every later column j
then gives up e_i · U_ij / U_ii, where U is the upper Cholesky factor of the inverse Hessian, H⁻¹ = UᵀU, and
H = Σ x xᵀ over the layer's inputs x. (Frantar, Ashkboos, Hoefler, Alistarh: "GPTQ", ICLR 2023, arXiv:2210.17323.)

The errors of a block of columns reach the columns behind it in a single matrix product. Errors are passed on in
float64; the rounding is the reference's (``qvggt.quant.affine``), in float32 and against the scales as they are stored.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from qvggt.quant.affine import Grid, QuantizedTensor, as_matrix, check_finite, dequantize, fit_grid, quantize
from qvggt.quant.scheme import PER_CHANNEL, Scheme
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

_LARGEST_DAMPING = 1.0
"""Where the search for a damping that helps ends: as much as the mean diagonal itself."""
_SMALLEST_RAISED = 1e-6
"""Where that search begins if no damping was asked for."""


@dataclass(frozen=True)
class GptqOptions:
    """Options of the rounding.

    Attributes:
        damping: what is added to the Hessian's diagonal, as a share of the diagonal's mean.
        block: columns whose errors are passed on together: a matter of speed, beyond the last digits.
        act_order: round columns with much input first, while there are many left to make good for them. Groups keep
            their columns, so that the layout needs no permutation; their levels are then always fitted before.
        static_groups: fit the levels of all groups before the first column is rounded, and not each group's when it
            is reached, on the weights as the errors before it left them.

    Raises:
        QvggtError: the damping is negative or not finite, or the block is no positive whole number.
    """

    damping: float = 0.01
    block: int = 128
    act_order: bool = True
    static_groups: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.damping < math.inf:
            raise QvggtError(f"damping must be a finite share of at least 0, got {self.damping!r}")
        if not isinstance(self.block, int) or self.block < 1:
            raise QvggtError(f"block must be a positive whole number, got {self.block!r}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def gptq(
    weight: Tensor,
    hessian: Tensor,
    scheme: Scheme,
    options: GptqOptions | None = None,
    grid: Grid | None = None,
    scale_dtype: torch.dtype = torch.float16,
) -> QuantizedTensor:
    """Round a weight so that the layer's output changes little on the inputs that the Hessian sums up.

    A column whose inputs were all zero is dead: its weights become zero before anything else, so that they take no
    part in the levels either. A Hessian that is singular in spite of the damping is damped ten times as much, again
    and again until the damping reaches its mean diagonal.

    Args:
        weight: [out, in] of any floating-point type, or [out, ...], which is flattened to it.
        hessian: [in, in], the sum of x xᵀ over inputs x as the weight meets them, times any positive factor.
        scheme: its group size is first made to divide ``in``.
        options: of the rounding.
        grid: levels to round to; fitted if None.
        scale_dtype: the type in which fitted scales are stored.

    Raises:
        ValueError: the weight has fewer than two dimensions or is empty, or a shape does not fit the weight's.
        QvggtError: a weight or the Hessian is NaN or infinite, the Hessian is zero or no sum of x xᵀ, or a weight is
            too large for the scale's type.
    """
    options = options or GptqOptions()
    matrix = as_matrix(weight)
    check_finite(matrix)
    rows, width = matrix.shape
    scheme = scheme.for_width(width)
    shape = (rows, scheme.groups(width))
    if grid is not None and grid.scale.shape != shape:
        raise ValueError(f"expected a grid with scales {shape}, got {tuple(grid.scale.shape)}")
    hessian, dead = _unit_mean(hessian, matrix)
    matrix = matrix.masked_fill(dead, 0)
    order = torch.arange(width, device=matrix.device)
    if options.act_order:
        order = hessian.diagonal().argsort(descending=True, stable=True)
    if grid is None and (options.act_order or options.static_groups):
        grid = fit_grid(matrix, scheme, scale_dtype)
    grids = [None] * shape[1] if grid is None else _split(grid)
    feedback = _feedback(hessian, order, options.damping)
    codes, grids = _round_columns(matrix, feedback, order, grids, scheme, scale_dtype, options.block)
    return QuantizedTensor(codes, _join(grids), scheme)


def hessian_error(weight: Tensor, quantized_weight: Tensor, hessian: Tensor) -> float:
    """Return the squared change of a layer's output relative to its squared output: tr(E H Eᵀ) / tr(W H Wᵀ).

    Args:
        weight: W, [out, in], or [out, ...], which is flattened to it.
        quantized_weight: W + E of the same shape, decoded (``dequantize``).
        hessian: H [in, in], the sum of x xᵀ over inputs x, times any positive factor.

    Returns:
        At least 0; 0 where nothing changed, and infinity where an output of zero did.

    Raises:
        ValueError: a shape does not fit the weight's.
    """
    matrix, changed = as_matrix(weight).double(), as_matrix(quantized_weight).double()
    if changed.shape != matrix.shape:
        raise ValueError(f"expected two weights of one shape, got {tuple(matrix.shape)} and {tuple(changed.shape)}")
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
    """Return the Hessian in float64 with a mean diagonal of one, dead columns' set to it, and which are dead [in]."""
    _check_square(hessian, matrix.shape[1])
    hessian = hessian.detach().to(matrix.device, torch.float64)
    if not bool(torch.isfinite(hessian).all()):
        raise QvggtError("the Hessian holds NaN or infinity: calibrate with inputs on which the float model is finite")
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    if bool(dead.all()):
        raise QvggtError("the Hessian is zero: calibrate with inputs that reach the layer")
    mean = diagonal[~dead].mean()
    if not mean > 0:
        raise QvggtError("the Hessian's diagonal is negative: sum x xᵀ over the layer's inputs")
    hessian = hessian / mean
    hessian.diagonal()[dead] = 1
    return hessian, dead


def _feedback(hessian: Tensor, order: Tensor, damping: float) -> Tensor:
    """Return U_ij / U_ii [in, in] for the columns in this order: upper triangular with ones on the diagonal.

    The inverse itself is not needed: where L Lᵀ is the Hessian with its columns in reverse, U is L⁻¹ in reverse. That
    saves work and digits, and dividing L's columns by its diagonal divides U's rows by theirs.
    """
    reverse = order.flip(0)
    lower = _cholesky(hessian[reverse[:, None], reverse], damping)
    lower /= lower.diagonal().clone()
    identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower, identity, upper=False, unitriangular=True).flip(0, 1)


def _cholesky(hessian: Tensor, damping: float) -> Tensor:
    """Return the lower Cholesky factor of a Hessian whose mean diagonal is one, damped in place until it has one."""
    hessian.diagonal().add_(damping)
    lower, failed = torch.linalg.cholesky_ex(hessian)
    while bool(failed):
        raised = max(10 * damping, _SMALLEST_RAISED)
        if raised > _LARGEST_DAMPING * (1 + 1e-9):
            raise QvggtError(
                f"the Hessian is not positive definite even with a damping of {damping:g} of its mean diagonal: "
                "sum x xᵀ over the layer's inputs in float32 or float64"
            )
        log.info("the Hessian is singular with a damping of %g of its mean diagonal: damped by %g", damping, raised)
        hessian.diagonal().add_(raised - damping)
        damping = raised
        lower, failed = torch.linalg.cholesky_ex(hessian)
    return lower


def _round_columns(
    matrix: Tensor,
    feedback: Tensor,
    order: Tensor,
    grids: Sequence[Grid | None],
    scheme: Scheme,
    scale_dtype: torch.dtype,
    block: int,
) -> tuple[Tensor, list[Grid]]:
    """Round every column.

    Args:
        matrix: [out, in].
        feedback: from ``_feedback``, in the order in which the columns are rounded.
        order: [in], which column of the weight is rounded when.
        grids: levels of each group; where None they are fitted when the group is reached, which takes its columns in
            one piece.
        scheme: of every group.
        scale_dtype: the type in which fitted scales are stored.
        block: columns whose errors are passed on together.

    Returns:
        Codes [out, in] int8 and the levels of each group [out, 1].
    """
    scheme = replace(scheme, group_size=PER_CHANNEL)
    left = matrix.T[order].double()  # [in, out], what is left to round: each step reads and changes whole rows of it
    width = len(left)
    size = width // len(grids)
    columns = order.tolist()
    fitted = {group: grid for group, grid in enumerate(grids) if grid is not None}
    # Levels are fitted to weights that all earlier errors have reached: there a block ends.
    starts = sorted({*range(0, width, block)} | {group * size for group in range(len(grids)) if group not in fitted})
    codes = torch.empty(left.shape, dtype=torch.int8, device=left.device)
    for start, stop in itertools.pairwise([*starts, width]):
        errors = torch.empty_like(left[start:stop])
        for i in range(start, stop):
            group = columns[i] // size
            if group not in fitted:
                fitted[group] = fit_grid(left[i : i + size].T, scheme, scale_dtype)
            rounded = quantize(left[i, :, None], scheme, fitted[group])
            codes[columns[i]] = rounded.codes[:, 0]
            error = errors[i - start] = left[i] - dequantize(rounded)[:, 0]
            left[i + 1 : stop].addr_(feedback[i, i + 1 : stop], error, alpha=-1)
        left[stop:].addmm_(feedback[start:stop, stop:].T, errors, alpha=-1)
    return codes.T.contiguous(), [fitted[group] for group in range(len(grids))]


def _split(grid: Grid) -> list[Grid]:
    """Return the levels of each group as a grid of their own [out, 1]."""
    scales = [scale.contiguous() for scale in grid.scale.split(1, 1)]
    if grid.zero_point is None:
        return [Grid(scale) for scale in scales]
    return [Grid(scale, zero_point) for scale, zero_point in zip(scales, grid.zero_point.split(1, 1), strict=True)]


def _join(grids: Sequence[Grid]) -> Grid:
    zero_points = [grid.zero_point for grid in grids if grid.zero_point is not None]
    return Grid(torch.cat([grid.scale for grid in grids], 1), torch.cat(zero_points, 1) if zero_points else None)
