"""Packed weights on a CPU: dequantize one layer, then one dense product in torch.

Dequantization costs about 2 % of a product with the thousand tokens of a frame, but dominates with few tokens: there
the compiled kernels, if available, multiply directly from the packed words.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.backends.base import ConvGeometry
from qvggt.backends.native.convolution import can_convolve, convolve_floats, uses_winograd
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.native.products import expand, multiply, supports
from qvggt.backends.plain import FEW_TOKENS, PlainBackend, is_inference
from qvggt.quant.packing import PackedWeight

_WINOGRAD_MIN_PIXELS = 512
"""Smallest H * W of a feature map for which the Winograd transform of the kernels pays off."""


class CpuBackend(PlainBackend):
    """Dequantizes packed weights and multiplies; uses compiled kernels where they are faster."""

    name = "cpu"

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a reason for every device but the CPU."""
        if device.type == "cpu":
            return None
        return f"the {self.name} backend cannot run on {device}: choose another backend, or the device cpu"

    def expand(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """Dequantize to [out, in]; bit-identical to the reference."""
        if dtype == torch.float32 and _compiled(weight):
            return expand(weight)
        return super().expand(weight, dtype)

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply in x's dtype."""
        rows = x.numel() // x.shape[-1]
        if rows < FEW_TOKENS and x.dtype == torch.float32 and is_inference(x, bias) and _compiled(weight):
            return multiply(x.reshape(rows, x.shape[-1]), weight, bias).view(*x.shape[:-1], weight.shape[0])
        return super().linear(x, weight, bias)

    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
        """Convolve in x's dtype, by Winograd's algorithm where it is compiled and faster."""
        winograd = (
            x.shape[2] * x.shape[3] >= _WINOGRAD_MIN_PIXELS and can_convolve(geometry) and uses_winograd(geometry)
        )
        if winograd and x.dtype == torch.float32 and is_inference(x, bias) and unavailable_reason() is None:
            return convolve_floats(x, self.expand(weight, x.dtype), bias, geometry)
        return super().convolve(x, weight, bias, geometry)


def _compiled(weight: PackedWeight) -> bool:
    return supports(weight) and unavailable_reason() is None
