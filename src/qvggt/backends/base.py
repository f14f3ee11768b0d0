"""What a backend is: an object that is chosen once per model and kept by its packed layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.quant.packing import PackedWeight

Compute = Literal["float", "int8"]
"""How products are computed: "float" expands packed weights, layer by layer, to the type of the activations; "int8"
multiplies integers: linear layers' activations are rounded to 8 bits, token by token. Where a backend also has integer
convolutions and attention, it computes them with 10 bits or more."""


@dataclass(frozen=True)
class Window:
    """What a convolution's kernel is slid over.

    Attributes:
        shape: (out, in / groups, height, width) of the kernel; its matrix is [out, in / groups * height * width].
        stride: down and across, as are all others.
        padding: with zeros, on either side.
        dilation: pixels from one of the kernel's to the next.
        groups: of channels that see only their own.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    def convolve(self, x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve maps with floating-point weights of their type."""
        bias = None if bias is None else bias.to(x.dtype)
        kernel = matrix.view(self.shape)
        return F.conv2d(x, kernel, bias, self.stride, self.padding, self.dilation, self.groups)


class Backend(Protocol):
    """Multiplies activations with packed weights.

    One object serves every layer of a model, so it keeps nothing of any layer. What it makes of a weight before it
    multiplies (``prepare``) is the layer's to keep or to throw away.
    """

    name: str
    compute: Compute
    held_dtype: torch.dtype | None
    """In which type a long sequence's queries, keys and values, and maps that dense heads have begun, wait; None for
    their own."""

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Return why this backend cannot work on a device, as words for the user, or None if it can."""
        ...

    def expand(self, weight: PackedWeight, dtype: torch.dtype) -> Tensor:
        """Return the weights [out, in] in a floating-point type."""
        ...

    def prepare(self, weight: PackedWeight, tokens: int) -> Any:
        """Return a weight in the form in which ``linear`` takes it, for inputs of about so many tokens."""
        ...

    def linear(self, x: Tensor, weight: Any, bias: Tensor | None) -> Tensor:
        """Return x [..., in] times the transposed prepared weights plus the bias, [..., out] in x's type."""
        ...

    def convolve(self, x: Tensor, weight: PackedWeight, bias: Tensor | None, window: Window) -> Tensor:
        """Return maps x [B, in, H, W] convolved with packed weights, [B, out, H', W'] in x's type."""
        ...

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Return softmax(q kᵀ / √C + bias) v [B, heads, N, C], of M keys and values and a bias [..., M] or None.

        The result is of the queries' type, or more precise.
        """
        ...
