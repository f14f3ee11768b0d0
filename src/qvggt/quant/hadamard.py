"""Rotation of a linear layer's input by an orthonormal Hadamard matrix.

A rotated layer computes x·Wᵀ as (x·H)·(W·H)ᵀ and stores the codes of W·H. H is block diagonal; its blocks are
Sylvester's Hadamard matrices, of the largest power of two that divides the width n, over the square root of their
size. Such a matrix is symmetric and its own inverse, so (x·H)·(W·H)ᵀ = x·H·H·Wᵀ = x·Wᵀ and the float result is the
same. What is rounded differs: an outlier channel in x or W is spread over its whole block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.quant.affine import as_matrix, check_finite


def hadamard_size(width: int) -> int:
    """Return the largest power of two that divides a width: the size of the blocks of its rotation.

    >>> [hadamard_size(width) for width in (1024, 3072, 588, 9)]
    [1024, 1024, 4, 1]

    Raises:
        ValueError: the width is not positive.
    """
    if width < 1:
        raise ValueError(f"expected a positive width, got {width}")
    return width & -width


def rotate(x: Tensor) -> Tensor:
    """Return x·H, the Hadamard rotation of x's last axis; applied twice it gives x again, up to rounding.

    Args:
        x: [..., n], floating. It is rotated in float32 (float64 stays float64) and rounded once to its own type. If n
            is odd, H is the identity.
    """
    width = x.shape[-1]
    size = hadamard_size(width)
    if size == 1:
        return x
    # The matrix of size a·b is the Kronecker product of those of a and b. Two small products instead of one large one
    # cost 2·n·√n per block of n; log2(n) passes of additions would be fewer operations but slower.
    rows = 1 << (size.bit_length() - 1) // 2
    dtype = torch.promote_types(x.dtype, torch.float32)
    left, right = (_hadamard(n, dtype, x.device) for n in (rows, size // rows))
    blocks = x.to(dtype).unflatten(-1, (width // size, rows, size // rows))
    return (left @ (blocks @ right)).flatten(-3).to(x.dtype)


def rotate_weight(weight: Tensor) -> Tensor:
    """Return W·H in float32, the matrix that a rotated layer stores.

    It is computed in float64, so that the result does not depend on the processor's order of additions.

    Args:
        weight: W [out, in] of any floating-point type, or [out, ...], which is flattened to it.

    Raises:
        ValueError: the weight has fewer than two dimensions or is empty.
        QvggtError: a weight is NaN or infinite.
    """
    matrix = as_matrix(weight)
    check_finite(matrix)
    return rotate(matrix.double()).float()


def _hadamard(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    matrix = torch.ones(1, 1, dtype=dtype, device=device)
    while len(matrix) < size:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix / size**0.5
