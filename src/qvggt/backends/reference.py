"""The backend that defines what is correct, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.base import ConvGeometry
from qvggt.backends.dense import Own, attend
from qvggt.options import Compute
from qvggt.quant.affine import dequantize
from qvggt.quant.packing import PackedWeight, unpack


class ReferenceBackend:
    """Decodes with the reference numerics and multiplies in float32."""

    name = "reference"
    compute: Compute = "float32"
    dtype: torch.dtype | None = None
    cache_dtype: torch.dtype | None = None

    @property
    def precise(self) -> ReferenceBackend:
        """Itself."""
        return self

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return None: torch runs everywhere."""
        return None

    def expand(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """Dequantize to [out, in] in float32, then round to ``dtype``."""
        return dequantize(unpack(weight)).to(dtype)

    def prepare(self, weight: PackedWeight, tokens: int) -> PackedWeight:
        """Return the weight unchanged."""
        return weight

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply in float32 and round the result to x's dtype."""
        bias = None if bias is None else bias.float()
        return F.linear(x.float(), self.expand(weight, torch.float32), bias).to(x.dtype)

    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
        """Convolve in float32 and round the result to x's dtype."""
        return geometry.convolve(x.float(), self.expand(weight, torch.float32), bias).to(x.dtype)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, own: Own | None = None) -> Tensor:
        """Attend by torch's own kernel."""
        return attend(q, k, v, bias, own=own)
