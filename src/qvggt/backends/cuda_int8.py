"""Int8 products on a CUDA GPU by cuBLAS: weights requantized to 8 bits per channel, activations to 8 bits per token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.cuda import CudaBackend
from qvggt.backends.plain import FEW_TOKENS
from qvggt.backends.rounding import finish, per_channel, per_token
from qvggt.options import Compute
from qvggt.quant.packing import PackedWeight

_LARGEST_WEIGHT = 127
_OLDEST_GPU = (7, 5)
_LEAST_TOKENS = 17
_MULTIPLE = 8


@dataclass(frozen=True)
class PaddedWeight:
    """A weight in the form that ``torch._int_mm`` takes.

    Attributes:
        integers: [out, in] int8, both dimensions zero-padded to multiples of 8.
        scale: [out] float32, not padded.
    """

    integers: Tensor
    scale: Tensor


class CudaInt8Backend(CudaBackend):
    """Quantizes activations to 8 bits per token and multiplies integers."""

    name = "cuda-int8"
    compute: Compute = "int8"

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a reason for every device but a CUDA GPU with int8 tensor cores."""
        if reason := super().unsupported_reason(device):
            return reason
        if torch.cuda.is_available() and torch.cuda.get_device_capability(device) < _OLDEST_GPU:
            return "this GPU has no fast integer products (compute capability 7.5 or later)"
        return None

    def prepare(self, weight: PackedWeight, tokens: int) -> PaddedWeight | PackedWeight:
        """Requantize a weight to one scale per channel.

        For few tokens this would cost more than it saves: the weight is returned unchanged and multiplied in float.
        """
        if tokens < FEW_TOKENS:
            return weight
        integers, scale = per_channel(weight, _LARGEST_WEIGHT)
        outputs, inputs = integers.shape
        return PaddedWeight(F.pad(integers, (0, -inputs % _MULTIPLE, 0, -outputs % _MULTIPLE)), scale)

    @torch.no_grad()
    def linear(self, x: Tensor, weight: PaddedWeight | PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply integers, then apply scales and bias. Not differentiable."""
        if isinstance(weight, PackedWeight):
            return super().linear(x, weight, bias)
        codes, scale = per_token(x.flatten(0, -2), signed=True)
        tokens, inputs = codes.shape
        padded = F.pad(codes, (0, -inputs % _MULTIPLE, 0, max(0, _LEAST_TOKENS - tokens)))
        sums = torch._int_mm(padded, weight.integers.T)
        sums = sums[:tokens, : len(weight.scale)]
        return finish(sums * weight.scale, scale, bias).unflatten(0, x.shape[:-1]).to(x.dtype)
