"""Integer products on a CPU straight from packed weights: every group keeps its own scale, nothing is rounded twice.

Weights of 4 bits and activations of 8 bits leave room to add eight products in 16 bits, so that plain AVX2 multiplies
two to three times as many integers as floats in the same time, and CPUs that add fours of products (VNNI, NEON) up to
four times as many; no layer is ever expanded in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.backends.base import Compute, Window
from qvggt.backends.cpu import CpuBackend
from qvggt.backends.native.attention import Attention, attend, can_attend
from qvggt.backends.native.convolution import can_convolve, convolve, round_kernel
from qvggt.backends.native.jobs import is_compiled
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.native.products import multiply, round_rows, supports
from qvggt.backends.plain import FEW_TOKENS
from qvggt.quant.packing import PackedWeight


class CpuNativeBackend(CpuBackend):
    """Rounds activations to 8 bits, token by token, and multiplies integers in compiled code."""

    name = "cpu-native"
    compute: Compute = "int8"
    held_dtype: torch.dtype | None = torch.float16 if is_compiled(Attention) else None

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a sentence for every device but the CPU, and where products cannot be compiled."""
        return super().unsupported_reason(device) or unavailable_reason()

    @torch.no_grad()
    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply integers; few tokens are multiplied in float, which costs the same. No gradient passes."""
        rows = x.numel() // x.shape[-1]
        if rows < FEW_TOKENS or not supports(weight):
            return super().linear(x, weight, bias)
        out = multiply(round_rows(x.reshape(rows, -1).float()), weight, bias)
        return out.unflatten(0, x.shape[:-1]).to(x.dtype)

    @torch.no_grad()
    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, window: Window) -> Tensor:
        """Multiply integers of more than 8 bits, with one scale a map and one an output. No gradient passes."""
        if x.dtype != torch.float32 or not can_convolve(window):
            return super().convolve(x, weight, bias, window)
        return convolve(x, round_kernel(self.expand(weight, torch.float32), window), bias, window)

    @torch.no_grad()
    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply integers of more than 8 bits; a few tokens are left to float. No gradient passes."""
        if q.shape[2] < FEW_TOKENS or not can_attend(q):
            q, k, v = q.float(), k.float(), v.float()  # halves wait only, and torch is slow with them
            return super().attend(q, k, v, None if bias is None else bias.float())
        return attend(q, k, v, bias)
