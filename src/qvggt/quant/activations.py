"""Dynamic quantization of activations, one scale a token.

A token x with the largest magnitude m has the step Δ = m / (2^bits - 1) · 2, as a symmetric group of weights has (see
``qvggt.quant.affine``), and Q(x) = Δ · clamp(round(x / Δ), -2^(bits-1), 2^(bits-1) - 1): every error is at most Δ/2.
Here the values are rounded to these levels and stay floating ("fake" quantization), which shows what quantization does
to a model's outputs without an integer product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.quant.hadamard import rotate
from qvggt.quant.scheme import Scheme


def fake_quantize_tokens(x: Tensor, bits: int) -> Tensor:
    """Round every token to its nearest levels.

    Args:
        x: [..., in], floating; each vector along the last axis is a token. It is rounded in float32, so that a token
            of half precision has exact levels until they are rounded to its type.
        bits: of a code, at least 2.

    Returns:
        [..., in] in x's type. Tokens of zeros stay zeros; NaN stays NaN, and infinity becomes it. The lowest level is
        -m - Δ/2, so tokens of float16 must stay that far inside its range.
    """
    half_range = ((1 << bits) - 1) / 2
    values = x.float()
    low, high = torch.aminmax(values, dim=-1, keepdim=True)
    # A floor above zero, so that tokens of zeros are not divided by zero.
    scale = (torch.maximum(-low, high) / half_range).clamp(min=torch.finfo(torch.float32).tiny)
    codes = (values / scale).round_().clamp_(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return codes.mul_(scale).to(x.dtype)


def layer_input(x: Tensor, scheme: Scheme) -> Tensor:
    """Return what a linear layer of this scheme multiplies its stored matrix with: x rotated, then rounded.

    Args:
        x: [..., in], floating.
        scheme: says whether to rotate and whether to round.

    Returns:
        [..., in] in x's type; x itself where the scheme is of weights alone.
    """
    if scheme.activation_bits is None:
        return rotate(x) if scheme.rotation else x
    values = rotate(x.float()) if scheme.rotation else x
    return fake_quantize_tokens(values, scheme.activation_bits).to(x.dtype)
