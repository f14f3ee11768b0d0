"""Requantization for int8 products: weights to 8 bits per channel, activations to 8 bits per token.

A packed weight has one scale per group, an int8 product one per channel. Its levels are therefore rounded once more, to
up to 255 levels per channel; the error is small beside that of the 16 levels per group that they come from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.backends.plain import integer_levels
from qvggt.quant.packing import PackedWeight

ZERO = 128
"""Zero point of unsigned activation codes."""
_LARGEST_ACTIVATION = 127
_SMALLEST_SCALE = 1e-30


def per_channel(weight: PackedWeight, largest: int) -> tuple[Tensor, Tensor]:
    """Requantize a packed weight to one scale per channel.

    Args:
        weight: any scheme.
        largest: code of the largest weight of a channel.

    Returns:
        Codes [out, in] int8 in -largest..largest, and scales [out] float32.
    """
    levels = integer_levels(weight)
    low, high = torch.aminmax(levels, dim=2)
    group_scale = weight.scale.float()
    size = torch.maximum(high, -low.to(torch.int16)) * group_scale  # [out, groups] largest magnitude in each group
    scale = (size.amax(1) / largest).clamp(min=_SMALLEST_SCALE)
    ratio = group_scale / scale[:, None]
    return torch.round(levels * ratio[..., None]).to(torch.int8).flatten(1), scale


def per_token(x: Tensor, signed: bool = False) -> tuple[Tensor, Tensor]:
    """Quantize activations with one scale per token.

    Args:
        x: [tokens, in], floating.
        signed: int8 codes, or uint8 codes with zero point ``ZERO``.

    Returns:
        Codes [tokens, in], and scales [tokens, 1] float32.
    """
    x = x.float()
    scale = (x.abs().amax(1, keepdim=True) / _LARGEST_ACTIVATION).clamp(min=_SMALLEST_SCALE)
    codes = x / scale
    if signed:
        return codes.round_().to(torch.int8), scale
    return codes.add_(ZERO).round_().to(torch.uint8), scale


def finish(sums: Tensor, token_scale: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply sums [tokens, out] float32 in place by token scales [tokens, 1], add the bias [out], and return them."""
    return sums.mul_(token_scale) if bias is None else torch.addcmul(bias.float(), sums, token_scale, out=sums)
