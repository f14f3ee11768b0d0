"""Packed weights on any device: dequantize one layer with torch operations, then one dense product.

Peak memory is one layer in the dtype of the activations; nothing dequantized outlives the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from qvggt.backends import dense
from qvggt.backends.base import ConvGeometry
from qvggt.options import Compute
from qvggt.quant.packing import PackedWeight, unpack_rows, unpack_zero_point

HALF_DTYPES: Mapping[Compute, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""The half-precision types by the compute mode that is named after them."""

FEW_TOKENS = 64
"""Below this number of tokens, reading the weights dominates a layer's time (camera head: one token per frame)."""


class PlainBackend:
    """Dequantizes packed weights to the activations' dtype and multiplies in it, on any device.

    Args:
        compute: ``float32``, or the half-precision type in which a model's layers compute.
    """

    name = "plain"
    compute: Compute = "float32"
    dtype: torch.dtype | None = None
    cache_dtype: torch.dtype | None = None

    def __init__(self, compute: Compute = "float32") -> None:
        if compute in HALF_DTYPES:
            self.name, self.compute = f"{self.name}-{compute}", compute
            self.dtype = self.cache_dtype = HALF_DTYPES[compute]

    @property
    def precise(self) -> PlainBackend:
        """The same backend in float32."""
        return self if self.dtype is None else type(self)()

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return None: torch runs everywhere."""
        return None

    def expand(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """Dequantize to [out, in]; bit-identical to the reference."""
        levels = integer_levels(weight)
        expanded = torch.empty(levels.shape, dtype=dtype, device=levels.device)
        # Multiplied in float32 and rounded once to the result's dtype, as in the reference.
        torch.mul(levels, weight.scale.float()[..., None], out=expanded)
        return expanded.flatten(1)

    def prepare(self, weight: PackedWeight, tokens: int) -> Any:
        """Return the weight unchanged: dequantizing it at each call is cheap, keeping it dequantized is not."""
        return weight

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply in x's dtype."""
        return dense.linear(x, self.expand(weight, x.dtype), bias)

    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
        """Convolve in x's dtype."""
        return geometry.convolve(x, self.expand(weight, x.dtype), bias)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, own: dense.Own | None = None) -> Tensor:
        """Attend in the backend's half-precision type, or in the queries' dtype."""
        dtype = self.dtype or q.dtype
        return dense.attend(q.to(dtype), k.to(dtype), v.to(dtype), bias, own=own)


def integer_levels(weight: PackedWeight) -> Tensor:
    """Return a weight's levels (codes minus zero points) [out, groups, in / groups], int8 or int16."""
    codes = unpack_rows(weight.packed, weight.scheme.bits, weight.shape[1])
    levels = codes.unflatten(1, (weight.scale.shape[1], -1))
    zero_point = unpack_zero_point(weight)
    return levels if zero_point is None else levels.to(torch.int16) - zero_point[..., None]
