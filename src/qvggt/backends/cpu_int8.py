"""Integer products on a CPU: weights of 8 bits a channel, activations of 8 bits a token, oneDNN's product.

On a CPU without VNNI the kernel adds pairs of products in 16 bits, which weights of 7 bits never overflow: there the
grid of a channel's weights has 127 levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.backends.base import Compute
from qvggt.backends.cpu import CpuBackend
from qvggt.backends.plain import FEW_TOKENS
from qvggt.backends.rounding import ZERO, finish, per_channel, per_token
from qvggt.quant.packing import PackedWeight


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
        if reason := super().unsupported_reason(device):
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
        return finish(sums, scale, bias).unflatten(0, x.shape[:-1]).to(x.dtype)


def largest_weight() -> int:
    """Return the largest integer that weights may become on this CPU without sums that overflow."""
    return 127 if torch.cpu._is_vnni_supported() else 63  # pyright: ignore[reportAttributeAccessIssue]
