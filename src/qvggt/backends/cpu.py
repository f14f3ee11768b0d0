"""Packed weights on a CPU: expand one layer in two passes over small integers, then one dense product.

The expansion costs about two hundredths of the product with a frame's thousand tokens, and its memory is one layer in
the type of the activations; nothing expanded outlives the call. With few tokens the expansion is what takes the time:
compiled products, where they can be had, multiply straight from the packed words.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.base import Compute
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.native.products import expand, multiply, supports
from qvggt.quant.packing import PackedWeight, unpack_rows, unpack_zero_point

FEW_TOKENS = 64
"""Below this a layer's time is that of reading its weights: the camera head sees a token a frame."""


class CpuBackend:
    """Expands packed weights to the activations' type and multiplies in it."""

    name = "cpu"
    compute: Compute = "float"

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a sentence for every device but the CPU."""
        if device.type == "cpu":
            return None
        return f"the cpu backend cannot work on {device}: choose another backend, or the device cpu"

    def expand(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """Return the weights [out, in]; equal, bit for bit, to the reference's."""
        if dtype == torch.float32 and _compiled(weight):
            return expand(weight)
        levels = integer_levels(weight)
        expanded = torch.empty(levels.shape, dtype=dtype, device=levels.device)
        # The product is taken in float32 and rounded once to the result's type, as the reference's is.
        torch.mul(levels, weight.scale.float()[..., None], out=expanded)
        return expanded.flatten(1)

    def prepare(self, weight: PackedWeight, tokens: int) -> PackedWeight:
        """Return the weight as it is: expanding it anew costs little, keeping it expanded much memory."""
        return weight

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply in x's type."""
        rows = x.numel() // x.shape[-1]
        if rows < FEW_TOKENS and x.dtype == torch.float32 and _is_inference(x, bias) and _compiled(weight):
            return multiply(x.reshape(rows, -1), weight, bias).unflatten(0, x.shape[:-1])
        bias = None if bias is None else bias.to(x.dtype)
        return F.linear(x, self.expand(weight, x.dtype), bias)


def integer_levels(weight: PackedWeight) -> Tensor:
    """Return a weight's codes less their zero points [out, groups, in / groups], int8 or int16."""
    codes = unpack_rows(weight.packed, weight.scheme.bits, weight.shape[1])
    levels = codes.unflatten(1, (weight.scale.shape[1], -1))
    zero_point = unpack_zero_point(weight)
    return levels if zero_point is None else levels.to(torch.int16) - zero_point[..., None]


def why_no_integers_on(device: torch.device) -> str | None:
    """Return a sentence for every device but the CPU, where integers cannot be multiplied yet."""
    return None if device.type == "cpu" else f"integer products are for the CPU so far, not for {device}"


def _is_inference(*tensors: Tensor | None) -> bool:
    needs = any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return not (torch.is_grad_enabled() and needs)


def _compiled(weight: PackedWeight) -> bool:
    return supports(weight) and unavailable_reason() is None
