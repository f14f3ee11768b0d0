"""Integer products on a CPU: weights of 8 bits a channel, activations of 8 bits a token, oneDNN's product.

A packed weight has a scale a group of inputs, an integer product one a channel. Its codes are therefore rounded once
more, to a grid of 255 levels over each channel: beside the 16 levels a group that they come from the error is small.
On a CPU without VNNI the kernel adds pairs of products in 16 bits, which weights of 7 bits never overflow: there the
grid has 127 levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.backends.base import Compute
from qvggt.backends.cpu import FEW_TOKENS, CpuBackend, integer_levels, why_no_integers_on
from qvggt.quant.packing import PackedWeight

ZERO = 128
"""The unsigned number that stands for an activation of zero."""
_LARGEST_ACTIVATION = 127
_SMALLEST_SCALE = 1e-30


@dataclass(frozen=True)
class Int8Weight:
    """A weight as the integer product takes it.

    Attributes:
        blocked: the integers [out, in], in oneDNN's order.
        scale: [out] float32.
        zero_point: [out] zeros.
    """

    blocked: Tensor
    scale: Tensor
    zero_point: Tensor


class CpuInt8Backend(CpuBackend):
    """Rounds activations to 8 bits, token by token, and multiplies integers."""

    name = "cpu-int8"
    compute: Compute = "int8"

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a sentence for every device but the CPU, and where torch has no such product."""
        if reason := why_no_integers_on(device):
            return reason
        if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
            return "this build of torch has no integer products (oneDNN)"
        if not torch.cpu._is_avx2_supported():  # pyright: ignore[reportAttributeAccessIssue]
            return "this CPU has no fast integer products (AVX2 or later on x86)"
        return None

    def prepare(self, weight: PackedWeight, tokens: int) -> Int8Weight | PackedWeight:
        """Round a weight to one scale a channel and put it in the order of the product.

        For few tokens that takes longer than it saves: the weight stays as it is, and the product is in float.
        """
        if tokens < FEW_TOKENS:
            return weight
        integers, scale = per_channel(weight, largest_weight())
        blocked = torch.ops.onednn.qlinear_prepack(integers, None)
        return Int8Weight(blocked, scale, torch.zeros(len(scale), dtype=torch.int64))

    @torch.no_grad()
    def linear(self, x: Tensor, weight: Int8Weight | PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply integers; scales and bias are applied to the sums. No gradient passes."""
        if isinstance(weight, PackedWeight):
            return super().linear(x, weight, bias)
        codes, scale = per_token(x.flatten(0, -2))
        sums = torch.ops.onednn.qlinear_pointwise(
            codes, 1.0, ZERO, weight.blocked, weight.scale, weight.zero_point, None, 1.0, 0, torch.float32,
            "none", [], "",
        )  # fmt: skip
        out = sums.mul_(scale) if bias is None else torch.addcmul(bias.float(), sums, scale, out=sums)
        return out.unflatten(0, x.shape[:-1]).to(x.dtype)


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


def per_token(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round activations [tokens, in] to codes uint8 around ``ZERO``, and return them and the scales [tokens, 1]."""
    x = x.float()
    scale = (x.abs().amax(1, keepdim=True) / _LARGEST_ACTIVATION).clamp(min=_SMALLEST_SCALE)
    return (x / scale).add_(ZERO).round_().to(torch.uint8), scale


def largest_weight() -> int:
    """Return the largest integer that weights may become on this CPU without sums that overflow."""
    return 127 if torch.cpu._is_vnni_supported() else 63  # pyright: ignore[reportAttributeAccessIssue]
