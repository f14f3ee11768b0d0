"""The backend protocol. A backend is chosen once per model and stored in its packed layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.dense import Own, is_half, working_dtype
from qvggt.options import Compute
from qvggt.quant.packing import PackedWeight


@dataclass(frozen=True)
class ConvGeometry:
    """Shape and geometry of a 2-D convolution.

    Attributes:
        shape: (out, in / groups, height, width) of the kernel; its matrix is [out, in / groups * height * width].
        stride: vertical and horizontal, as are padding and dilation.
        padding: zeros added on each side.
        dilation: distance between taps, in pixels.
        groups: number of independent channel groups.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    def convolve(self, x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve x [B, in, H, W] with a float matrix; returns [B, out, H', W'] in x's type.

        Half-precision maps are channels-last, in which every library is fastest; others keep their layout.
        """
        dtype = working_dtype(x)
        bias = None if bias is None else bias.to(dtype)
        kernel = matrix.to(x.dtype).to(dtype).view(self.shape)
        is_last = is_half(x.dtype) or x.is_contiguous(memory_format=torch.channels_last)
        maps = channels_last(x) if is_last else x
        out = F.conv2d(maps.to(dtype), kernel, bias, self.stride, self.padding, self.dilation, self.groups)
        return out.to(x.dtype)


def channels_last(x: Tensor) -> Tensor:
    """Return maps [B, C, H, W] with their channels side by side, copied if they are not.

    The strides of a single map are made those of many: by them torch tells the layout, and would copy it otherwise.
    """
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1)
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


class Backend(Protocol):
    """Multiplies activations with packed weights.

    One object serves all layers of a model and holds no state of any layer; the layer owns what ``prepare`` returns.
    """

    name: str
    compute: Compute
    dtype: torch.dtype | None
    """Half-precision type in which a model's layers compute; None for the type of its activations."""
    cache_dtype: torch.dtype | None
    """Storage dtype of intermediates that are kept between chunks (queries, keys and values of a long sequence, feature
    maps of a dense head); None keeps the model's dtype."""

    @property
    def precise(self) -> Backend:
        """The backend of the same device for layers that compute in float32 in every compute mode."""
        ...

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return why this backend cannot run on a device, as a message for the user, or None if it can."""
        ...

    def expand(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """Dequantize a weight to [out, in] in a floating-point dtype."""
        ...

    def prepare(self, weight: PackedWeight, tokens: int) -> Any:
        """Convert a weight to the form that ``linear`` takes, for inputs of about ``tokens`` tokens."""
        ...

    def linear(self, x: Tensor, weight: Any, bias: Tensor | None) -> Tensor:
        """Compute x Wᵀ + bias for x [..., in] and a prepared weight; returns [..., out] in x's dtype."""
        ...

    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
        """Convolve x [B, in, H, W] with a packed weight; returns [B, out, H', W'] in x's dtype."""
        ...

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, own: Own | None = None) -> Tensor:
        """Compute softmax(q kᵀ / √C + bias) v.

        Args:
            q: [B, heads, N, C].
            k: [B, heads, M, C].
            v: [B, heads, M, C].
            bias: [..., M] added to the scores of every query, or None.
            own: of each query one more score, which is neither scaled nor biased, and its value; None for no more.

        Returns:
            [B, heads, N, C] in q's dtype or a more precise one.
        """
        ...
