"""Integer products on a CUDA GPU: weights of 8 bits a channel, activations of 8 bits a token, cuBLAS's product."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.base import Compute
from qvggt.backends.cuda import CudaBackend
from qvggt.backends.plain import FEW_TOKENS
from qvggt.backends.rounding import finish, per_channel, per_token
from qvggt.quant.packing import PackedWeight

_LARGEST_WEIGHT = 127
_OLDEST_GPU = (7, 5)
_LEAST_TOKENS = 17
_MULTIPLE = 8


@dataclass(frozen=True)
class PaddedWeight:
    """A weight as ``torch._int_mm`` takes it.

    Attributes:
        integers: [out, in] int8, both filled up with zeros to multiples of 8.
        scale: [out] float32, not filled up.
    """

    integers: Tensor
    scale: Tensor


class CudaInt8Backend(CudaBackend):
    """Rounds activations to 8 bits, token by token, and multiplies integers."""

    name = "cuda-int8"
    compute: Compute = "int8"

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a sentence for every device but a CUDA GPU, and for one without integer matrix units."""
        if reason := super().unsupported_reason(device):
            return reason
        if torch.cuda.is_available() and torch.cuda.get_device_capability(device) < _OLDEST_GPU:
            return "this GPU has no fast integer products (compute capability 7.5 or later)"
        return None

    def prepare(self, weight: PackedWeight, tokens: int) -> PaddedWeight | PackedWeight:
        """Round a weight to one scale a channel.

        For few tokens that takes longer than it saves: the weight stays as it is, and the product is in float.
        """
        if tokens < FEW_TOKENS:
            return weight
        integers, scale = per_channel(weight, _LARGEST_WEIGHT)
        outputs, inputs = integers.shape
        return PaddedWeight(F.pad(integers, (0, -inputs % _MULTIPLE, 0, -outputs % _MULTIPLE)), scale)

    @torch.no_grad()
    def linear(self, x: Tensor, weight: PaddedWeight | PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply integers; scales and bias are applied to the sums. No gradient passes."""
        if isinstance(weight, PackedWeight):
            return super().linear(x, weight, bias)
        codes, scale = per_token(x.flatten(0, -2), signed=True)
        tokens, inputs = codes.shape
        padded = F.pad(codes, (0, -inputs % _MULTIPLE, 0, max(0, _LEAST_TOKENS - tokens)))
        sums = torch._int_mm(padded, weight.integers.T)  # pyright: ignore[reportPrivateImportUsage]
        sums = sums[:tokens, : len(weight.scale)]
        return finish(sums * weight.scale, scale, bias).unflatten(0, x.shape[:-1]).to(x.dtype)
