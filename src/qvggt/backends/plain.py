"""Packed weights wherever torch computes: expand one layer in passes over small integers, then one dense product.

The expansion's memory is one layer in the type of the activations; nothing expanded outlives the call.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.base import Compute, Window
from qvggt.quant.packing import PackedWeight, unpack_rows, unpack_zero_point

FEW_TOKENS = 64
"""Below this a layer's time is that of reading its weights: the camera head sees a token a frame."""


class PlainBackend:
    """Expands packed weights to the activations' type and multiplies in it, on any device."""

    name = "plain"
    compute: Compute = "float"
    held_dtype: torch.dtype | None = None

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return None: it needs nothing but torch."""
        return None

    def expand(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """Return the weights [out, in]; equal, bit for bit, to the reference's."""
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
        bias = None if bias is None else bias.to(x.dtype)
        return F.linear(x, self.expand(weight, x.dtype), bias)

    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, window: Window) -> Tensor:
        """Convolve in x's type."""
        return window.convolve(x, self.expand(weight, x.dtype), bias)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Attend in the queries' type."""
        return F.scaled_dot_product_attention(q, k, v, bias)


def integer_levels(weight: PackedWeight) -> Tensor:
    """Return a weight's codes less their zero points [out, groups, in / groups], int8 or int16."""
    codes = unpack_rows(weight.packed, weight.scheme.bits, weight.shape[1])
    levels = codes.unflatten(1, (weight.scale.shape[1], -1))
    zero_point = unpack_zero_point(weight)
    return levels if zero_point is None else levels.to(torch.int16) - zero_point[..., None]


def is_inference(*tensors: Tensor | None) -> bool:
    """Return whether no gradient has to reach any of the tensors."""
    needs = any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return not (torch.is_grad_enabled() and needs)
