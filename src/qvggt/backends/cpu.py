"""Packed weights on a CPU: dequantize one layer, then one dense product in torch.

Dequantization costs about 2 % of a product with the thousand tokens of a frame, but dominates with few tokens: there
the compiled kernels, if available, multiply directly from the packed words.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.backends import operators
from qvggt.backends.base import ConvGeometry
from qvggt.backends.dense import Own, is_inference
from qvggt.backends.native import half_products, halves, products
from qvggt.backends.native.convolution import Convolution, can_convolve, uses_winograd
from qvggt.backends.native.jobs import is_compiled
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.plain import FEW_TOKENS, PlainBackend
from qvggt.options import Compute
from qvggt.quant.packing import PackedWeight

_WINOGRAD_MIN_PIXELS = 512
"""Smallest H * W of a feature map for which the Winograd transform of the kernels pays off."""


class CpuBackend(PlainBackend):
    """Dequantizes packed weights and multiplies; uses compiled kernels where they are faster."""

    name = "cpu"

    def __init__(self, compute: Compute = "float32") -> None:
        super().__init__(compute)
        self._has_maps = is_compiled(Convolution)  # and attention, which come together

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a reason for every device but the CPU."""
        if device.type == "cpu":
            return None
        return f"the {self.name} backend cannot run on {device}: choose another backend, or the device cpu"

    def expand(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """Dequantize to [out, in]; bit-identical to the reference."""
        if dtype in products.EXPANDED_DTYPES:
            return operators.dequantize(weight.shape[1], *operators.weight_arguments(weight), dtype)
        return super().expand(weight, dtype)

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply in x's dtype."""
        rows = x.numel() // x.shape[-1]
        if rows < FEW_TOKENS and x.dtype == torch.float32 and is_inference(x, bias):
            return operators.linear(x, *operators.weight_arguments(weight), bias)
        if half_products.supports(x, weight) and is_inference(x, bias):
            return operators.linear_bfloat16(x, *operators.weight_arguments(weight), bias)
        return super().linear(x, weight, bias)

    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
        """Convolve in x's dtype, by Winograd's algorithm where it is compiled and faster."""
        large = x.shape[2] * x.shape[3] >= _WINOGRAD_MIN_PIXELS
        winograd = large and self._has_maps and can_convolve(geometry) and uses_winograd(geometry)
        if winograd and x.dtype == torch.float32 and is_inference(x, bias) and _has_library():
            arguments = geometry.shape, geometry.stride, geometry.padding
            return operators.conv2d_winograd(x, self.expand(weight, x.dtype), bias, *arguments)
        return super().convolve(x, weight, bias, geometry)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, own: Own | None = None) -> Tensor:
        """Attend in the backend's half-precision type, or in the queries' dtype."""
        dtype = self.dtype or q.dtype
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
        if halves.supports(q) and is_inference(q, k, v):
            score, value = own or (None, None)
            return operators.attention_bfloat16(q, k, v, bias, score, None if value is None else value.to(dtype))
        return super().attend(q, k, v, bias, own=own)


def _has_library() -> bool:
    # Unknown while a graph is traced: the operator decides when it runs.
    return torch.compiler.is_compiling() or unavailable_reason() is None
