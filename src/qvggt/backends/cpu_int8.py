"""Int8 products on a CPU by oneDNN: weights requantized to 8 bits per channel, activations to 8 bits per token.

Without VNNI, oneDNN sums pairs of products in 16 bits, which could overflow with 8-bit weights: there weights have 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.backends.cpu import CpuBackend
from qvggt.backends.plain import FEW_TOKENS
from qvggt.backends.rounding import ZERO, finish, per_channel, per_token
from qvggt.options import Compute
from qvggt.quant.packing import PackedWeight


@dataclass(frozen=True)
class Int8Weight:
    """A weight in oneDNN's form.

    Attributes:
        blocked: int8 weights [out, in] in oneDNN's blocked layout.
        scale: [out] float32.
        zero_point: [out] zeros.
    """

    blocked: Tensor
    scale: Tensor
    zero_point: Tensor


class CpuInt8Backend(CpuBackend):
    """Quantizes activations to 8 bits per token and multiplies integers."""

    name = "cpu-int8"
    compute: Compute = "int8"

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a reason for every device but the CPU, and if torch or the CPU lacks int8 products."""
        if reason := super().unsupported_reason(device):
            return reason
        if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
            return "this build of torch has no integer products (oneDNN)"
        if not torch.cpu._is_avx2_supported():
            return "this CPU has no fast integer products (AVX2 or later on x86)"
        return None

    def prepare(self, weight: PackedWeight, tokens: int) -> Int8Weight | PackedWeight:
        """Requantize a weight to one scale per channel and reorder it for oneDNN.

        For few tokens this would cost more than it saves: the weight is returned unchanged and multiplied in float.
        """
        if tokens < FEW_TOKENS:
            return weight
        integers, scale = per_channel(weight, largest_weight())
        blocked = torch.ops.onednn.qlinear_prepack(integers, None)
        return Int8Weight(blocked, scale, torch.zeros_like(scale, dtype=torch.int64))

    @torch.no_grad()
    def linear(self, x: Tensor, weight: Int8Weight | PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply integers, then apply scales and bias. Not differentiable."""
        if isinstance(weight, PackedWeight):
            return super().linear(x, weight, bias)
        codes, scale = per_token(x.flatten(0, -2))
        sums = torch.ops.onednn.qlinear_pointwise(
            codes, 1.0, ZERO, weight.blocked, weight.scale, weight.zero_point, None, 1.0, 0, torch.float32,
            "none", [], "",
        )  # fmt: skip
        return finish(sums, scale, bias).unflatten(0, x.shape[:-1]).to(x.dtype)


def largest_weight() -> int:
    """Return the largest weight code for which sums cannot overflow on this CPU."""
    return 127 if torch.cpu._is_vnni_supported() else 63
