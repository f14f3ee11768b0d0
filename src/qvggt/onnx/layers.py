"""Packed layers as operators of a graph: ``MatMulNBits`` of ONNX Runtime, and ONNX's ``DequantizeLinear``.

``MatMulNBits`` (domain com.microsoft) multiplies by weights of 4 or 8 bits in groups of a power of two, at least 16.
It stores a code c as the unsigned number c + 2^(bits-1), as our packed rows do, so packing at 4 bits keeps every bit.
Codes of 2 and 3 bits are stored in 4, codes of 5 to 7 bits in 8. Layers whose groups do not fit, and convolutions, hold
int8 codes that ``DequantizeLinear`` expands.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.nn.conv import QuantConv2d
from qvggt.nn.linear import CastLinear, PackedLayer, QuantLinear
from qvggt.quant.activations import layer_input
from qvggt.quant.packing import unpack
from qvggt.quant.scheme import Scheme

_SMALLEST_BLOCK = 16
INT8_SUMS = 4
"""``MatMulNBits``'s accuracy level at which it rounds activations to int8; 0 leaves them floating."""


class BlockedLinear(nn.Module):
    """A packed linear layer as one ``MatMulNBits``.

    Args:
        layer: to replace; its group size must pass ``block_size``.
        accuracy_level: 0, or ``INT8_SUMS``.
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None

    def __init__(self, layer: QuantLinear, accuracy_level: int) -> None:
        super().__init__()
        (rows, width), scheme = layer.matrix_shape, layer.scheme
        block = cast(int, block_size(layer))
        bits = 4 if scheme.bits <= 4 else 8
        weight = unpack(layer.packed_weight)
        repeats = width // block // weight.grid.scale.shape[1]
        self.register_buffer("codes", _unsigned(weight.codes, bits).reshape(rows, width // block, -1))
        self.register_buffer("scale", weight.grid.scale.float().repeat_interleave(repeats, 1))
        zero_point = weight.grid.zero_point
        zeros = None if zero_point is None else _unsigned(zero_point.repeat_interleave(repeats, 1), bits)
        self.register_buffer("zero_point", zeros)
        self.bias, self.scheme = layer.bias, scheme
        self.attributes: dict[str, Any] = {
            "K": width, "N": rows, "bits": bits, "block_size": block, "accuracy_level": accuracy_level
        }  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        inputs = (layer_input(x, self.scheme), self.codes, self.scale, self.zero_point, None, self.bias)
        shape = (*x.shape[:-1], self.attributes["N"])
        return torch.onnx.ops.symbolic(
            "com.microsoft::MatMulNBits", inputs, self.attributes, dtype=x.dtype, shape=shape, version=1
        )


class ExpandedWeight(nn.Module):
    """A packed matrix [out, in] as int8 codes that ``DequantizeLinear`` expands."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None

    def __init__(self, layer: PackedLayer) -> None:
        super().__init__()
        weight = unpack(layer.packed_weight)
        self.register_buffer("codes", weight.codes.contiguous())
        self.register_buffer("scale", weight.grid.scale.float())
        self.register_buffer("zero_point", weight.grid.zero_point)

    def forward(self) -> Tensor:
        """Return the matrix in float32."""
        size = self.codes.shape[1] // self.scale.shape[1]
        inputs = (self.codes, self.scale, self.zero_point)
        attributes: dict[str, Any] = {"axis": 1, "block_size": size}
        return torch.onnx.ops.symbolic(
            "DequantizeLinear", inputs, attributes, dtype=torch.float32, shape=tuple(self.codes.shape)
        )


class ExpandedLinear(nn.Module):
    """A packed linear layer whose groups ``MatMulNBits`` does not take."""

    def __init__(self, layer: QuantLinear) -> None:
        super().__init__()
        self.weight, self.bias, self.scheme = ExpandedWeight(layer), layer.bias, layer.scheme

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        return F.linear(layer_input(x, self.scheme), self.weight(), self.bias)


class ExpandedConv2d(nn.Module):
    """A packed convolution."""

    def __init__(self, layer: QuantConv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.geometry = ExpandedWeight(layer), layer.bias, layer.geometry

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H', W']."""
        geometry = self.geometry
        weight = self.weight().reshape(geometry.shape)
        return F.conv2d(
            x, weight, self.bias, geometry.stride, geometry.padding, geometry.dilation, groups=geometry.groups
        )


class WidenedLinear(nn.Module):
    """A linear layer whose 16-bit weights are widened for each product."""

    def __init__(self, layer: CastLinear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        return F.linear(x, self.weight.to(x.dtype), self.bias)


def block_size(layer: QuantLinear) -> int | None:
    """Return the largest block that ``MatMulNBits`` takes and that divides the layer's groups, or None."""
    group = _group(layer.scheme, layer.in_features)
    block = group & -group  # its largest power of two
    return block if block >= _SMALLEST_BLOCK else None


def use_operators(model: nn.Module, accuracy_level: int = 0) -> None:
    """Replace a model's layers that only qvggt computes, in place, by layers that a graph can hold."""
    for name, layer in [*model.named_modules()]:
        new: nn.Module
        if isinstance(layer, QuantLinear):
            new = ExpandedLinear(layer) if block_size(layer) is None else BlockedLinear(layer, accuracy_level)
        elif isinstance(layer, QuantConv2d):
            new = ExpandedConv2d(layer)
        elif isinstance(layer, CastLinear):
            new = WidenedLinear(layer)
        else:
            continue
        model.set_submodule(name, new)


def _group(scheme: Scheme, width: int) -> int:
    return width // scheme.groups(width)


def _unsigned(codes: Tensor, bits: int) -> Tensor:
    """Pack codes [rows, n] as unsigned numbers of 4 or 8 bits: [rows, ceil(n * bits / 8)] uint8, low nibbles first."""
    numbers = (codes.to(torch.int16) + (1 << bits - 1)).to(torch.uint8)
    if bits == 8:
        return numbers.contiguous()
    low, high = F.pad(numbers, (0, numbers.shape[1] % 2)).unflatten(1, (-1, 2)).unbind(-1)
    return low | high << 4
