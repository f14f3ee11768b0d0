"""Int8 products on a CPU directly from packed weights: every group keeps its own scale, nothing is requantized.

With 4-bit weights and 8-bit activations, eight products fit a 16-bit sum, so that AVX2 multiplies two to three times as
many integers as floats per second, and CPUs with dot-product instructions (VNNI, NEON) up to four times as many. No
layer is dequantized in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.backends import operators
from qvggt.backends.base import ConvGeometry
from qvggt.backends.cpu import CpuBackend
from qvggt.backends.dense import Own
from qvggt.backends.native.attention import Attention, can_attend
from qvggt.backends.native.convolution import can_convolve
from qvggt.backends.native.jobs import is_compiled
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.native.products import supports
from qvggt.backends.plain import FEW_TOKENS
from qvggt.options import Compute
from qvggt.quant.packing import PackedWeight


class CpuNativeBackend(CpuBackend):
    """Quantizes activations to 8 bits per token and multiplies integers in compiled kernels."""

    name = "cpu-native"
    compute: Compute = "int8"
    cache_dtype: torch.dtype | None = torch.float16 if is_compiled(Attention) else None

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a reason for every device but the CPU, and if the native library is unavailable."""
        return super().unsupported_reason(device) or unavailable_reason()

    @torch.no_grad()
    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply integers, or floats for few tokens, which costs the same. Not differentiable."""
        rows = x.numel() // x.shape[-1]
        if rows < FEW_TOKENS or not supports(weight):
            return super().linear(x, weight, bias)
        return operators.linear_int8(x, *operators.weight_arguments(weight), bias)

    @torch.no_grad()
    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
        """Multiply 14-bit by 11-bit integers, with one scale per image and one per output. Not differentiable."""
        if x.dtype != torch.float32 or not (self._has_maps and can_convolve(geometry)):
            return super().convolve(x, weight, bias, geometry)
        arguments = geometry.shape, geometry.stride, geometry.padding
        return operators.conv2d_int16(x, self.expand(weight, torch.float32), bias, *arguments)

    @torch.no_grad()
    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, own: Own | None = None) -> Tensor:
        """Multiply integers of 11 to 15 bits, or floats for few queries. Not differentiable."""
        if q.shape[2] < FEW_TOKENS or not (self._has_maps and can_attend(q)):
            q, k, v = q.float(), k.float(), v.float()  # torch is slow in float16 on CPUs
            return super().attend(q, k, v, None if bias is None else bias.float(), own=own)
        score, value = own or (None, None)
        return operators.attention_int16(q, k, v, bias, score, None if value is None else value.to(q.dtype))
