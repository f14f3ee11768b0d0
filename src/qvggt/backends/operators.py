"""The native kernels as PyTorch operators ``qvggt::...``, so that ``torch.compile`` and ``torch.export`` see them.

They are registered with ``torch.library.define`` and ``impl``, whose dispatch takes 2 µs per call; that of
``custom_op`` takes 4 to 8, which shows in small models. None is differentiable: backends call them for inference only.
Weights are passed as the tensors of a ``PackedWeight`` and the width of its codes in bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.base import ConvGeometry
from qvggt.backends.native import attention, convolution, half_products, halves, passes, products
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.plain import PlainBackend
from qvggt.quant.packing import PackedWeight
from qvggt.quant.scheme import Scheme

_WEIGHT = "Tensor packed, Tensor scale, Tensor? zero_point, int bits"
_GEOMETRY = "int[] shape, int[] stride, int[] padding"


Kernel = Callable[..., Any]


def _operator(signature: str, fake: Kernel, result: str = "Tensor") -> Callable[[Kernel], Kernel]:
    """Return a decorator that registers a CPU kernel as an operator and returns the operator.

    Args:
        signature: name and arguments in torch's schema language.
        fake: takes the same arguments and returns an uninitialized result of the same shape, dtype and strides.
        result: in the same language.
    """
    name = signature.partition("(")[0]
    torch.library.define(f"qvggt::{name}", f"{signature.removeprefix(name)} -> {result}")
    torch.library.register_fake(f"qvggt::{name}", fake)

    def register(kernel: Kernel) -> Kernel:
        torch.library.impl(f"qvggt::{name}", "CPU", kernel)
        return getattr(torch.ops.qvggt, name).default

    return register


def weight_arguments(weight: PackedWeight) -> tuple[Tensor, Tensor, Tensor | None, int]:
    """Return a weight as operators take it."""
    return weight.packed, weight.scale, weight.zero_point, weight.scheme.bits


def _weight(width: int, packed: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int) -> PackedWeight:
    scheme = _scheme(bits, width // scale.shape[1], zero_point is None)
    return PackedWeight(packed, scale, zero_point, (packed.shape[0], width), scheme=scheme)


_scheme = functools.cache(Scheme)


def _is_compiled(weight: PackedWeight) -> bool:
    return products.supports(weight) and unavailable_reason() is None


def _fake_matrix(width: int, packed: Tensor, *others: Any) -> Tensor:
    dtype = others[-1]
    return packed.new_empty(packed.shape[0], width, dtype=dtype)


@_operator(f"dequantize(int width, {_WEIGHT}, ScalarType dtype)", _fake_matrix)
def dequantize(width: int, *arguments: Any) -> Tensor:
    """Dequantize a packed weight to [out, in] float32, bfloat16 or float16; bit-identical to the reference."""
    *weight, dtype = arguments
    packed = _weight(width, *weight)
    return products.expand(packed, dtype) if _is_compiled(packed) else PlainBackend().expand(packed, dtype)


def _fake_linear(x: Tensor, packed: Tensor, *_: object) -> Tensor:
    return x.new_empty(*x.shape[:-1], packed.shape[0])


@_operator(f"linear(Tensor x, {_WEIGHT}, Tensor? bias)", _fake_linear)
def linear(
    x: Tensor, packed: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int, bias: Tensor | None
) -> Tensor:
    """Multiply x [..., in] float32 with a packed weight, without rounding; meant for few rows."""
    weight = _weight(x.shape[-1], packed, scale, zero_point, bits=bits)
    if not _is_compiled(weight):
        return F.linear(x, PlainBackend().expand(weight, x.dtype), None if bias is None else bias.to(x.dtype))
    return products.multiply(_rows(x), weight, bias).view(*x.shape[:-1], len(packed))


@_operator(f"linear_int8(Tensor x, {_WEIGHT}, Tensor? bias)", _fake_linear)
def linear_int8(
    x: Tensor, packed: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int, bias: Tensor | None
) -> Tensor:
    """Multiply x [..., in], quantized to 8 bits per token, with a packed weight."""
    weight = _weight(x.shape[-1], packed, scale, zero_point, bits=bits)
    out = products.multiply(products.round_rows(_rows(x).float()), weight, bias)
    return out.view(*x.shape[:-1], len(packed)).to(x.dtype)


@_operator(f"linear_bfloat16(Tensor x, {_WEIGHT}, Tensor? bias)", _fake_linear)
def linear_bfloat16(
    x: Tensor, packed: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int, bias: Tensor | None
) -> Tensor:
    """Multiply x [..., in] bfloat16 with a packed weight expanded to bfloat16 (``native.half_products``)."""
    weight = _weight(x.shape[-1], packed, scale, zero_point, bits=bits)
    return half_products.multiply(_rows(x), weight, bias).view(*x.shape[:-1], len(packed))


def _rows(x: Tensor) -> Tensor:
    return x.reshape(x.numel() // x.shape[-1], x.shape[-1])


def _fake_attention(q: Tensor, *_: object) -> Tensor:
    batch, heads, queries, channels = q.shape
    return q.new_empty(batch, queries, heads, channels, dtype=torch.float32).transpose(1, 2)


_ATTENTION = "Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor? own_score=None, Tensor? own_value=None"


@_operator(f"attention_int16({_ATTENTION})", _fake_attention)
def attention_int16(q: Tensor, k: Tensor, v: Tensor, *others: Tensor | None) -> Tensor:
    """Attend on integers of 11 to 15 bits (``native.attention.attend``)."""
    return attention.attend(q, k, v, *others)


def _fake_half_attention(q: Tensor, *_: object) -> Tensor:
    batch, heads, queries, channels = q.shape
    return q.new_empty(batch, queries, heads, channels).transpose(1, 2)


@_operator(f"attention_bfloat16({_ATTENTION})", _fake_half_attention)
def attention_bfloat16(q: Tensor, k: Tensor, v: Tensor, *others: Tensor | None) -> Tensor:
    """Attend in bfloat16 (``native.halves.attend``)."""
    return halves.attend(q, k, v, *others)


def _fake_rotation(x: Tensor, *_: object) -> Tensor:
    return x.new_empty(x.shape)


@_operator("rotate_bfloat16(Tensor x, Tensor? weight, Tensor? bias, float eps, Tensor cos, Tensor sin)", _fake_rotation)
def rotate_bfloat16(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, cos: Tensor, sin: Tensor
) -> Tensor:
    """Normalize and rotate queries or keys in bfloat16 (``native.halves.rotate``)."""
    return halves.rotate(x, weight, bias, eps, rope=(cos, sin))


def _fake_nothing(*_: object) -> None:
    return None


@_operator("gelu_bfloat16_(Tensor(a!) x)", _fake_nothing, result="()")
def gelu_bfloat16_(x: Tensor) -> None:
    """Replace x by its GELU (``native.passes.gelu_``)."""
    passes.gelu_(x)


@_operator("add_scaled_bfloat16(Tensor x, Tensor branch, Tensor gain, Tensor(a!) out)", _fake_nothing, result="()")
def add_scaled_bfloat16(x: Tensor, branch: Tensor, gain: Tensor, out: Tensor) -> None:
    """Write x + branch · gain to out (``native.passes.add_scaled``)."""
    passes.add_scaled(x, branch, gain, out)


def _fake_norm(x: Tensor, *_: object) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.bfloat16)


@_operator("normalize_bfloat16(Tensor x, Tensor weight, Tensor bias, float eps)", _fake_norm)
def normalize_bfloat16(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return the layer norm of x in bfloat16 (``native.passes.normalize``)."""
    return passes.normalize(x, weight, bias, eps)


def _fake_convolution(x: Tensor, *arguments: Any) -> Tensor:
    geometry = _geometry(*arguments[-3:])
    return x.new_empty(len(x), *convolution.output_size(x, geometry), geometry.shape[0]).permute(0, 3, 1, 2)


def _geometry(shape: Iterable[int], stride: Iterable[int], padding: Iterable[int]) -> ConvGeometry:
    return ConvGeometry(tuple(shape), tuple(stride), tuple(padding))


@_operator(f"conv2d_int16(Tensor x, Tensor matrix, Tensor? bias, {_GEOMETRY})", _fake_convolution)
def conv2d_int16(x: Tensor, matrix: Tensor, bias: Tensor | None, *lists: Any) -> Tensor:
    """Convolve maps of 14 bits with kernels of 11 (``native.convolution.convolve``)."""
    geometry = _geometry(*lists)
    return convolution.convolve(x, convolution.round_kernel(matrix, geometry), bias, geometry)


@_operator(f"conv2d_winograd(Tensor x, Tensor matrix, Tensor? bias, {_GEOMETRY})", _fake_convolution)
def conv2d_winograd(x: Tensor, matrix: Tensor, bias: Tensor | None, *lists: Any) -> Tensor:
    """Convolve in float32 by Winograd's algorithm (``native.convolution.convolve_floats``)."""
    geometry = _geometry(*lists)
    if unavailable_reason() is None:
        return convolution.convolve_floats(x, matrix, bias, geometry)
    return geometry.convolve(x, matrix, bias).contiguous(memory_format=torch.channels_last)
