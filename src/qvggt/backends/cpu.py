"""Packed weights on a CPU: expand one layer in two passes over small integers, then one dense product.

The expansion costs about two hundredths of the product with a frame's thousand tokens. With few tokens it is what takes
the time: compiled products, where they can be had, multiply straight from the packed words.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.backends.base import Window
from qvggt.backends.native.convolution import can_convolve, convolve_floats, goes_by_squares
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.native.products import expand, multiply, supports
from qvggt.backends.plain import FEW_TOKENS, PlainBackend, is_inference
from qvggt.quant.packing import PackedWeight

_MANY_PIXELS = 512
"""Of a map, from which on it pays to transform a convolution's kernels."""


class CpuBackend(PlainBackend):
    """Expands packed weights and multiplies, in compiled code where that is faster."""

    name = "cpu"

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a sentence for every device but the CPU."""
        if device.type == "cpu":
            return None
        return f"the {self.name} backend cannot work on {device}: choose another backend, or the device cpu"

    def expand(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """Return the weights [out, in]; equal, bit for bit, to the reference's."""
        if dtype == torch.float32 and _compiled(weight):
            return expand(weight)
        return super().expand(weight, dtype)

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply in x's type."""
        rows = x.numel() // x.shape[-1]
        if rows < FEW_TOKENS and x.dtype == torch.float32 and is_inference(x, bias) and _compiled(weight):
            return multiply(x.reshape(rows, -1), weight, bias).unflatten(0, x.shape[:-1])
        return super().linear(x, weight, bias)

    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, window: Window) -> Tensor:
        """Convolve in x's type, with fewer products where that is compiled."""
        by_squares = x.shape[2] * x.shape[3] >= _MANY_PIXELS and can_convolve(window) and goes_by_squares(window)
        if by_squares and x.dtype == torch.float32 and is_inference(x, bias) and unavailable_reason() is None:
            return convolve_floats(x, self.expand(weight, x.dtype), bias, window)
        return super().convolve(x, weight, bias, window)


def _compiled(weight: PackedWeight) -> bool:
    return supports(weight) and unavailable_reason() is None
