"""Integer products on a CPU straight from packed weights: every group keeps its own scale, nothing is rounded twice.

Weights of 4 bits and activations of 8 bits leave room to add eight products in 16 bits, so that plain AVX2 multiplies
two to three times as many integers as floats in the same time; no layer is ever expanded in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.backends.base import Compute, Convolution
from qvggt.backends.cpu import FEW_TOKENS, CpuBackend
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.native.products import Window, multiply, round_rows, supports
from qvggt.quant.affine import quantize
from qvggt.quant.packing import PackedWeight, pack
from qvggt.quant.scheme import Scheme

CONV_BITS = 8


class CpuNativeBackend(CpuBackend):
    """Rounds activations to 8 bits, token by token or pixel by pixel, and multiplies integers in compiled code."""

    name = "cpu-native"
    compute: Compute = "int8"

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a sentence for every device but the CPU, and where products cannot be compiled."""
        if device.type != "cpu":
            return f"integer products are for the CPU so far, not for {device}"
        return unavailable_reason()

    @torch.no_grad()
    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply integers; few tokens are multiplied in float, which costs the same. No gradient passes."""
        rows = x.numel() // x.shape[-1]
        if rows < FEW_TOKENS or not supports(weight):
            return super().linear(x, weight, bias)
        out = multiply(round_rows(x.reshape(rows, -1).float()), weight, bias)
        return out.unflatten(0, x.shape[:-1]).to(x.dtype)

    @torch.no_grad()
    def conv2d(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, how: Convolution) -> Tensor:
        """Convolve integers, with weights rounded to 8 bits by channel and tap. No gradient passes."""
        window = window_of(how, x.shape[-2:])
        if window is None:
            return super().conv2d(x, weight, bias, how)
        pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])  # [B*H*W, in]
        out = multiply(round_rows(pixels.float()), by_tap(self, weight, how), bias, window)
        out = out.unflatten(0, (x.shape[0], *window.out_hw)).permute(0, 3, 1, 2)  # [B, out, H', W'], channels last
        return out.to(x.dtype)


def window_of(how: Convolution, hw: tuple[int, ...]) -> Window | None:
    """Return how a kernel moves, or None where the compiled products have no such convolution."""
    _, channels, *kernel = how.kernel_shape
    square = all(len({*pair}) == 1 for pair in (kernel, how.stride, how.padding))
    if not square or how.groups != 1 or set(how.dilation) != {1} or channels % 4:
        return None
    return Window(hw[0], hw[1], kernel[0], how.stride[0], how.padding[0])


def by_tap(backend: CpuBackend, weight: PackedWeight, how: Convolution) -> PackedWeight:
    """Return a convolution's weights with the taps outermost, and a scale for every channel and tap."""
    kernel = backend.expand(weight, torch.float32).view(how.kernel_shape)
    rows, channels = how.kernel_shape[:2]
    matrix = kernel.permute(0, 2, 3, 1).reshape(rows, -1)  # [out, h*w*in]
    return pack(quantize(matrix, Scheme(CONV_BITS, channels)))
