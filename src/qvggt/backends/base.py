"""What a backend is: an object that is chosen once per model and kept by its packed layers."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from qvggt.quant.packing import PackedWeight

Compute = Literal["float", "int8"]
"""How products are computed: "float" expands packed weights, layer by layer, to the type of the activations; "int8"
rounds activations to 8 bits, token by token, and multiplies integers."""


class Backend(Protocol):
    """Multiplies activations with packed weights.

    One object serves every layer of a model, so it keeps nothing of any layer. What it makes of a weight before it
    multiplies (``prepare``) is the layer's to keep or to throw away.
    """

    name: str
    compute: Compute

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
