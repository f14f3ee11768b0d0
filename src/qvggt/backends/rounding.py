"""Rounding for integer products: weights to 8 bits a channel, activations to 8 bits a token, and back.

A packed weight has a scale a group of inputs, an integer product one a channel. Its codes are therefore rounded once
more, to a grid of up to 255 levels over each channel: beside the 16 levels a group that they come from the error is
small.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.backends.plain import integer_levels
from qvggt.quant.packing import PackedWeight

ZERO = 128
"""The unsigned number that stands for an activation of zero."""
_LARGEST_ACTIVATION = 127
_SMALLEST_SCALE = 1e-30


def per_channel(weight: PackedWeight, largest: int) -> tuple[Tensor, Tensor]:
    """Round a packed weight to integers with one scale a channel.

    Args:
        weight: any scheme.
        largest: integer that the largest weight of a channel becomes.

    Returns:
        Integers [out, in] int8 in -largest..largest, and scales [out] float32.
    """
    levels = integer_levels(weight)
    low, high = torch.aminmax(levels, dim=2)
    group_scale = weight.scale.float()
    size = torch.maximum(high, -low.to(torch.int16)) * group_scale  # [out, groups] the largest weight of each group
    scale = (size.amax(1) / largest).clamp(min=_SMALLEST_SCALE)
    ratio = group_scale / scale[:, None]
    return torch.round(levels * ratio[..., None]).to(torch.int8).flatten(1), scale


def per_token(x: Tensor, signed: bool = False) -> tuple[Tensor, Tensor]:
    """Round activations with one scale a token.

    Args:
        x: [tokens, in], floating.
        signed: whether codes are int8 around zero, or uint8 around ``ZERO``.

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
    """Scale sums [tokens, out] float32, in place, by token [tokens, 1] and add the bias [out]; return them."""
    return sums.mul_(token_scale) if bias is None else torch.addcmul(bias.float(), sums, token_scale, out=sums)
