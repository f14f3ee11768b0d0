"""Packed weights on a CUDA GPU: a fused kernel or dequantization plus a dense product, whichever is faster.

The choice depends on GPU, layer, dtype and number of tokens; it is measured at the first such product and kept for the
process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import ModuleType

import torch
from torch import Tensor

from qvggt.backends.autotune import Autotuner, Timer, cuda_seconds
from qvggt.backends.dense import is_inference
from qvggt.backends.plain import PlainBackend
from qvggt.options import Compute
from qvggt.quant.packing import PackedWeight


class CudaBackend(PlainBackend):
    """Multiplies in the activations' dtype.

    Args:
        compute: as for ``PlainBackend``.
        timer: measures the candidate kernels.
    """

    name = "cuda"

    def __init__(self, compute: Compute = "float32", timer: Timer = cuda_seconds) -> None:
        super().__init__(compute)
        self._fastest = Autotuner(timer)

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return a reason for every device but a CUDA GPU."""
        if device.type == "cuda":
            return None
        return f"the {self.name} backend cannot run on {device}: choose another backend, or the device cuda"

    def linear(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
        """Multiply in x's dtype by the kernel that is fastest for this problem size."""
        if torch.compiler.is_compiling() or not (x.is_cuda and x.numel() and is_inference(x, bias)):
            return super().linear(x, weight, bias)  # a graph cannot measure candidates
        tokens = x.numel() // x.shape[-1]
        task = (weight.shape, weight.scheme, x.dtype, x.device, (tokens - 1).bit_length())
        return self._fastest(task, self.candidates(x, weight, bias))

    def candidates(self, x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Mapping[str, Callable[[], Tensor]]:
        """Return the candidate kernels for x [..., in] times the transposed weight plus the bias, by name.

        The first dequantizes the weight; the others need Triton and a weight and dtype that the fused kernel supports.
        """
        candidates: dict[str, Callable[[], Tensor]] = {"expand": partial(super().linear, x, weight, bias)}
        fused = _fused()
        if fused is not None and x.dtype in fused.DTYPES and fused.supports(weight):
            rows, shape = x.reshape(-1, x.shape[-1]), (*x.shape[:-1], weight.shape[0])
            for tile in fused.TILES:
                candidates[f"fused {tile}"] = lambda tile=tile: fused.multiply(rows, weight, bias, tile).view(shape)
        return candidates


@cache
def _fused() -> ModuleType | None:
    try:
        from qvggt.backends import fused
    except ImportError:  # Triton comes only with CUDA builds of torch on Linux
        return None
    return fused
