"""Linear layers with packed weights, or with weights in a smaller float type than the activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from qvggt.backends import Backend, dense
from qvggt.quant.activations import layer_input
from qvggt.quant.packing import PackedWeight, packed_layout
from qvggt.quant.scheme import Scheme


class PackedLayer(nn.Module):
    """A packed weight matrix [out, in]; its buffers have the names of a checkpoint's tensors.

    Args:
        shape: (out, in) of the matrix.
        scheme: its group size is reduced to one that divides ``in``.
        bias: a parameter [out], or None.
        scale_dtype: the type of the stored scales.
        backend: computes the products; chosen once per model.
    """

    weight_packed: Tensor
    weight_scale: Tensor
    weight_shape: Tensor
    dtype: torch.dtype | None = None
    """The type to which the input is converted, and of the result; None leaves the input's."""

    def __init__(
        self,
        shape: tuple[int, int],
        scheme: Scheme,
        bias: Tensor | None,
        scale_dtype: torch.dtype,
        backend: Backend,
    ) -> None:
        super().__init__()
        self.matrix_shape = shape
        self.scheme = scheme.for_width(shape[1])
        self.backend = backend
        for name, (dtype, size) in packed_layout(shape, self.scheme, scale_dtype).items():
            self.register_buffer(name, torch.empty(size, dtype=dtype))
        self.bias = bias

    @property
    def packed_weight(self) -> PackedWeight:
        """The buffers as one value, which is what a backend takes."""
        zero_point = getattr(self, "weight_zero_point", None)
        return PackedWeight(
            self.weight_packed,
            scale=self.weight_scale,
            zero_point=zero_point,
            shape=self.matrix_shape,
            scheme=self.scheme,
        )

    def assign_weight(self, weight: PackedWeight) -> None:
        """Replace the buffers by a packed weight of the same shape and scheme.

        Raises:
            ValueError: the weight has another shape or scheme.
        """
        if (weight.shape, weight.scheme) != (self.matrix_shape, self.scheme):
            raise ValueError(
                f"expected a weight {self.matrix_shape} of {self.scheme}, got {weight.shape} of {weight.scheme}"
            )
        for name, tensor in weight.tensors().items():
            setattr(self, name, tensor)

    def expanded(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the stored matrix [out, in] in a floating-point type: W, or W·H of a layer with a rotated input."""
        return self.backend.expand(self.packed_weight, dtype)

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        rows, width = self.matrix_shape
        group = "channel" if self.scheme.group_size < 0 else self.scheme.group_size
        rotated = ", input rotated" if self.scheme.rotation else ""
        rounded = f", input of {self.scheme.activation_bits} bits" if self.scheme.activation_bits else ""
        return f"{width} -> {rows}, {self.scheme.bits} bits per {group}{rotated}{rounded}, {self.backend.name}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # A change of the model's type must not round the scales.
        scale = self.weight_scale
        super()._apply(fn, recurse)
        if self.weight_scale.dtype != scale.dtype:
            self.weight_scale = scale.to(self.weight_scale.device)
        return self


class QuantLinear(PackedLayer):
    """A linear layer with packed weights; its input is rotated and rounded if the scheme says so."""

    @classmethod
    def like(cls, layer: nn.Linear, scheme: Scheme, scale_dtype: torch.dtype, backend: Backend) -> QuantLinear:
        """Return an empty layer in place of a float one, with its bias, on its device."""
        with layer.weight.device:
            return cls((layer.out_features, layer.in_features), scheme, layer.bias, scale_dtype, backend=backend)

    @property
    def in_features(self) -> int:
        """Input channels."""
        return self.matrix_shape[1]

    @property
    def out_features(self) -> int:
        """Output channels."""
        return self.matrix_shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        x = x if self.dtype is None else x.to(self.dtype)
        weight = self.backend.prepare(self.packed_weight, x.numel() // x.shape[-1])
        return self.backend.linear(layer_input(x, self.scheme), weight, self.bias)


class CastLinear(nn.Linear):
    """A linear layer whose weights are stored in one floating-point type and converted to another for each product.

    A recipe may keep whole blocks in 16 bits; widening them at load would double their memory.
    """

    dtype: torch.dtype | None

    @classmethod
    def like(cls, layer: nn.Linear, stored: torch.dtype, dtype: torch.dtype | None = None) -> CastLinear:
        """Return a layer with a float layer's bias and its weights in the type ``stored``.

        It computes in ``dtype``, or in its input's type if None.
        """
        with torch.device("meta"):
            new = cls(layer.in_features, layer.out_features, layer.bias is not None)
        new.weight = nn.Parameter(layer.weight.detach().to(stored), requires_grad=False)
        new.bias, new.dtype = layer.bias, dtype
        return new.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        return dense.linear(input if self.dtype is None else input.to(self.dtype), self.weight, self.bias)
