"""The backend that defines what is correct, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.base import Compute, Window
from qvggt.quant.affine import dequantize
from qvggt.quant.packing import PackedWeight, unpack


class ReferenceBackend:
    """Decodes with the reference numerics and multiplies in float32."""

    name = "reference"
    compute: Compute = "float"
    held_dtype: torch.dtype | None = None

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return None: there is nothing that this backend cannot do."""
        return None

    def expand(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """Return the weights [out, in], decoded in float32 and then rounded to ``dtype``."""
        return dequantize(unpack(weight)).to(dtype)

    def prepare(self, weight: PackedWeight, tokens: int) -> PackedWeight:
        """Return the weight as it is."""
        return weight

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply in float32 and round the result to x's type."""
        bias = None if bias is None else bias.float()
        return F.linear(x.float(), self.expand(weight, torch.float32), bias).to(x.dtype)

    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, window: Window) -> Tensor:
        """Convolve in float32 and round the result to x's type."""
        return window.convolve(x.float(), self.expand(weight, torch.float32), bias).to(x.dtype)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Attend as torch does."""
        return F.scaled_dot_product_attention(q, k, v, bias)
