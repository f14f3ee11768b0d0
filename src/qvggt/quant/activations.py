"""Dynamic quantization of activations, one scale per token.

A token x with the largest magnitude m has the step Δ = m / (2^bits - 1) · 2, as a symmetric group of weights has (see
``qvggt.quant.affine``), and Q(x) = Δ · clamp(round(x / Δ), -2^(bits-1), 2^(bits-1) - 1): every error is at most Δ/2.
Here the values are rounded to these levels but stay in floating point ("fake" quantization), which shows the effect of
quantization on a model's outputs without integer products.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.quant.hadamard import rotate
from qvggt.quant.scheme import Scheme


def fake_quantize_tokens(x: Tensor, bits: int) -> Tensor:
    """Round every token to its levels.

    Args:
        x: [..., in], floating; each vector along the last axis is a token. Levels are computed in float32 and rounded
            once to x's type.
        bits: width of a code, at least 2.

    Returns:
        [..., in] in x's type. Tokens of zeros stay zeros; NaN and infinity become NaN. The lowest level is -m - Δ/2,
        so float16 tokens must be that far inside its range.
    """
    half_range = ((1 << bits) - 1) / 2
    values = x.float()
    low, high = torch.aminmax(values, dim=-1, keepdim=True)
    # A lower bound above zero avoids division by zero.
    scale = (torch.maximum(-low, high) / half_range).clamp(min=torch.finfo(torch.float32).tiny)
    codes = (values / scale).round_().clamp_(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return codes.mul_(scale).to(x.dtype)


def layer_input(x: Tensor, scheme: Scheme) -> Tensor:
    """Return the input that a linear layer of this scheme multiplies by its stored matrix: x rotated, then rounded.

    Args:
        x: [..., in], floating.
        scheme: the layer's scheme.

    Returns:
        [..., in] in x's type; x itself if the scheme quantizes weights only.
    """
    if scheme.activation_bits is None:
        return rotate(x) if scheme.rotation else x
    values = rotate(x.float()) if scheme.rotation else x
    return fake_quantize_tokens(values, scheme.activation_bits).to(x.dtype)
