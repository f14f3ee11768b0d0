"""Convolutions with packed weights, or with weights in a smaller float type than the activations."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qvggt.backends import Backend, ConvGeometry
from qvggt.backends.dense import is_half, working_dtype
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
        new.geometry = _geometry(layer)
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H', W']."""
        x = x if self.dtype is None else x.to(self.dtype)
        return self.backend.convolve(x, self.packed_weight, self.bias, self.geometry)


class CastConv2d(nn.Conv2d):
    """A 2-D convolution whose weights are converted for each product (see ``CastLinear``)."""

    dtype: torch.dtype | None

    @classmethod
    def like(cls, layer: nn.Conv2d, stored: torch.dtype, dtype: torch.dtype | None = None) -> CastConv2d:
        """Return a layer with a float layer's bias and its weights in the type ``stored`` (see ``CastLinear``)."""
        size = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        with torch.device("meta"):
            new = cls(*size, layer.groups, layer.bias is not None, layer.padding_mode)  # pyrefly: ignore[bad-argument-type]
        new.weight = nn.Parameter(layer.weight.detach().to(stored), requires_grad=False)
        new.bias, new.dtype = layer.bias, dtype
        return new.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, in, H, W] to [B, out, H', W']."""
        x = input if self.dtype is None else input.to(self.dtype)
        if is_half(x.dtype) and self.padding_mode == "zeros":
            return _geometry(self).convolve(x, self.weight, self.bias)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, self.weight.to(x.dtype), bias)


class CastConvTranspose2d(nn.ConvTranspose2d):
    """A transposed 2-D convolution whose weights are converted for each product (see ``CastLinear``)."""

    dtype: torch.dtype

    @classmethod
    def like(cls, layer: nn.ConvTranspose2d, stored: torch.dtype, dtype: torch.dtype) -> CastConvTranspose2d:
        """Return a layer with a float layer's bias and its weights in the type ``stored``, which computes in ``dtype``.

        Raises:
            QvggtError: it pads its output, or has groups.
        """
        if layer.groups != 1 or any(layer.output_padding):
            raise QvggtError("transposed convolutions with groups or padded outputs have no half-precision form")
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
        with torch.device("meta"):
            new = cls(*sizes, bias=layer.bias is not None)  # pyrefly: ignore[bad-argument-type]
        new.weight = nn.Parameter(layer.weight.detach().to(stored), requires_grad=False)
        new.bias, new.dtype = layer.bias, dtype
        return new.train(layer.training)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map [B, in, H, W] to [B, out, H', W']."""
        x = input.to(self.dtype)
        dtype = working_dtype(x)
        bias = None if self.bias is None else self.bias.to(dtype)
        return F.conv_transpose2d(
            x.to(dtype),
            self.weight.to(x.dtype).to(dtype),
            bias,
            self.stride,
            self.padding,  # pyrefly: ignore[bad-argument-type]
        ).to(x.dtype)


def _geometry(layer: nn.Conv2d) -> ConvGeometry:
    assert not isinstance(layer.padding, str)
    shape = tuple(layer.weight.shape)
    return ConvGeometry(shape, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups)
