"""Convolutions with packed weights, or with weights in a smaller float type than the activations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from qvggt.backends import Backend, ConvGeometry
from qvggt.nn.linear import PackedLayer
from qvggt.quant.scheme import Scheme, check_kind
from qvggt.types import QvggtError


class QuantConv2d(PackedLayer):
    """A 2-D convolution with packed weights: the matrix [out, in / groups * kernel height * kernel width].

    Transposed convolutions, whose weights have their output channels second, stay floating (two per dense head).
    """

    geometry: ConvGeometry

    @classmethod
    def like(cls, layer: nn.Conv2d, scheme: Scheme, scale_dtype: torch.dtype, backend: Backend) -> QuantConv2d:
        """Return an empty layer in place of a float one, with its bias, on its device.

        Raises:
            QvggtError: its padding is not a fixed number of zeros, or the scheme rounds or rotates its input.
        """
        check_kind("conv2d", scheme)
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise QvggtError(
                "only convolutions padded by a fixed number of zeros can be quantized: keep this one floating"
            )
        shape = tuple(layer.weight.shape)
        with layer.weight.device:
            new = cls((shape[0], math.prod(shape[1:])), scheme, layer.bias, scale_dtype, backend=backend)
        new.geometry = ConvGeometry(
            shape, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups
        )
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H', W']."""
        return self.backend.convolve(x, self.packed_weight, self.bias, self.geometry)


class CastConv2d(nn.Conv2d):
    """A 2-D convolution whose weights have a smaller type than the activations (see ``CastLinear``)."""

    @classmethod
    def like(cls, layer: nn.Conv2d, dtype: torch.dtype) -> CastConv2d:
        """Return a layer with a float layer's bias and its weights in ``dtype``."""
        size = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        with torch.device("meta"):
            new = cls(*size, layer.groups, layer.bias is not None, layer.padding_mode)  # pyright: ignore[reportArgumentType]
        new.weight = nn.Parameter(layer.weight.detach().to(dtype), requires_grad=False)
        new.bias = layer.bias
        return new.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H', W']."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return self._conv_forward(input, self.weight.to(input.dtype), bias)
