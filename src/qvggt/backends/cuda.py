"""Packed weights on a CUDA GPU: straight from the packed words, or expanded first, whichever is faster.

Which that is depends on the GPU, the layer, the type and the number of tokens: it is measured when such a product is
first wanted, and kept for the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import ModuleType

import torch
from torch import Tensor

from qvggt.backends.fastest import Fastest, Timer, seconds_on_cuda
from qvggt.backends.plain import PlainBackend, is_inference
from qvggt.quant.packing import PackedWeight


class CudaBackend(PlainBackend):
    """Multiplies in the activations' type.

    Args:
        seconds: what measures the ways to multiply.
    """

    name = "cuda"

    def __init__(self, seconds: Timer = seconds_on_cuda) -> None:
        self._fastest = Fastest(seconds)

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a sentence for every device but a CUDA GPU."""
        if device.type == "cuda":
            return None
        return f"the {self.name} backend cannot work on {device}: choose another backend, or the device cuda"

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply in x's type, in the way that is fastest for about so many tokens."""
        if not (x.is_cuda and x.numel() and is_inference(x, bias)):
            return super().linear(x, weight, bias)
        tokens = x.numel() // x.shape[-1]
        task = (weight.shape, weight.scheme, x.dtype, x.device, (tokens - 1).bit_length())
        return self._fastest(task, self.ways(x, weight, bias))

    def ways(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Mapping[str, Callable[[], Tensor]]:
        """Return every way to compute x [..., in] times the transposed weight plus the bias, by name.

        The first expands the weight; the others need Triton, and a weight and a type that their kernel takes.
        """
        ways: dict[str, Callable[[], Tensor]] = {"expand": partial(super().linear, x, weight, bias)}
        fused = _fused()
        if fused is not None and x.dtype in fused.DTYPES and fused.supports(weight):
            rows, shape = x.reshape(-1, x.shape[-1]), (*x.shape[:-1], weight.shape[0])
            for tile in fused.TILES:
                ways[f"fused {tile}"] = lambda tile=tile: fused.multiply(rows, weight, bias, tile).view(shape)
        return ways


@cache
def _fused() -> ModuleType | None:
    try:
        from qvggt.backends import fused
    except ImportError:  # Triton comes with torch's builds for CUDA on Linux only
        return None
    return fused
