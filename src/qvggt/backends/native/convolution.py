"""Convolutions in C: on 16-bit integers (direct and Winograd) and on floats (Winograd)."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.backends.base import ConvGeometry
from qvggt.backends.native.buffers import allocate
from qvggt.backends.native.jobs import Job, run

_MAP_LEVELS, _KERNEL_LEVELS = 8191, 1023
"""Largest codes of a feature map and a kernel: sums of 256 products fit into 32 bits."""
_TRANSFORMED_LEVELS = (1 << 16) - 256
"""Largest sum of absolute codes of a transformed kernel over 128 channels: times 4 * _MAP_LEVELS, the largest value of
a transformed input, it fits into 32 bits."""
_POSITIONS = 16
"""Elements of a Winograd-transformed 4x4 tile."""
_PANEL, _SLACK = 16, 6
"""Outputs per panel, and pixels that the kernels may read beyond the end of a map."""


class Convolution(Job):
    """Arguments of ``qvggt_convolve``: direct convolution on 16-bit integers."""

    function = "qvggt_convolve"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "w", "scale", "x_scale", "bias", "out")),
        *(
            (name, ctypes.c_int32)
            for name in (
                "batch", "height", "width", "channels", "outputs", "out_height", "out_width", "kernel_height",
                "kernel_width", "down", "across",
            )
        ),
    )  # fmt: skip


class WinogradConvolution(Convolution):
    """Arguments of ``qvggt_convolve_winograd``: Winograd convolution on 16-bit integers."""

    function = "qvggt_convolve_winograd"


class WinogradFloatConvolution(Convolution):
    """Arguments of ``qvggt_convolve_winograd_floats``: Winograd convolution in float32."""

    function = "qvggt_convolve_winograd_floats"


class RoundedMap(Job):
    """Arguments of ``qvggt_round_map``: quantization and zero padding of a feature map."""

    function = "qvggt_round_map"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "to")),
        *((name, ctypes.c_int64) for name in ("lines", "width", "top", "left")),
        ("factor", ctypes.c_float),
    )


class RoundedKernels(Job):
    """Arguments of ``qvggt_round_kernels``: quantization of kernels."""

    function = "qvggt_round_kernels"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "to", "scale")),
        *((name, ctypes.c_int32) for name in ("outputs", "channels", "taps")),
        ("levels", ctypes.c_float),
    )


class TransformedKernels(RoundedKernels):
    """Arguments of ``qvggt_transform_kernels``: Winograd transform and quantization of 3x3 kernels."""

    function = "qvggt_transform_kernels"


class TransformedFloats(RoundedKernels):
    """Arguments of ``qvggt_transform_floats``: Winograd transform of 3x3 kernels."""

    function = "qvggt_transform_floats"


@dataclass(frozen=True)
class Kernel:
    """Quantized weights of a convolution.

    Attributes:
        codes: [panels, taps, in / 2, 16, 2] int16; Winograd [panels, 16, in / 2, 16, 2].
        scale: [panels, 16] float32, padded to whole panels; Winograd [panels, 16, 16].
    """

    codes: Tensor
    scale: Tensor


def can_convolve(geometry: ConvGeometry) -> bool:
    """Return whether the kernels support a convolution: even channels, one group, no dilation."""
    outputs, channels = geometry.shape[:2]
    return channels % 2 == 0 and outputs >= _PANEL and geometry.groups == 1 and set(geometry.dilation) == {1}


def uses_winograd(geometry: ConvGeometry) -> bool:
    """Return whether a convolution is computed by Winograd's F(2x2, 3x3), with fewer multiplications."""
    return geometry.shape[2:] == (3, 3) and set(geometry.stride) == {1} and geometry.shape[1] % _PANEL == 0


def round_kernel(matrix: Tensor, geometry: ConvGeometry) -> Kernel:
    """Quantize a convolution's weights [out, in * height * width] float32."""
    outputs, channels, height, width = geometry.shape
    panels = -(-outputs // _PANEL)
    if uses_winograd(geometry):
        kind, levels, places, scale_shape = TransformedKernels, _TRANSFORMED_LEVELS, _POSITIONS, (panels, _POSITIONS)
    else:
        kind, levels, places, scale_shape = RoundedKernels, _KERNEL_LEVELS, height * width, (panels,)
    codes_shape, scale_shape = (panels, places, channels // 2, _PANEL, 2), (*scale_shape, _PANEL)
    codes, scale = allocate(*codes_shape, dtype=torch.int16), allocate(*scale_shape)
    job = kind(outputs=outputs, channels=channels, taps=height * width, levels=levels)
    job.bind("x", matrix.contiguous(), torch.float32, outputs, channels * height * width)
    job.bind("to", codes, torch.int16, *codes_shape)
    job.bind("scale", scale, torch.float32, *scale_shape)
    run(job, matrix.numel())
    return Kernel(codes, scale)


def convolve(x: Tensor, kernel: Kernel, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """Convolve maps [B, in, H, W] float32; returns [B, out, H', W'] in channels-last memory.

    The outputs of an image that is not finite are NaN.
    """
    winograd, (outputs, channels, *sides) = uses_winograd(geometry), geometry.shape
    panels, taps = -(-outputs // _PANEL), math.prod(sides)
    maps, x_scale = _rounded(x, geometry)
    job = WinogradConvolution() if winograd else Convolution()
    job.bind("x_scale", x_scale, torch.float32, len(x))
    job.bind("w", kernel.codes, torch.int16, panels, _POSITIONS if winograd else taps, channels // 2, _PANEL, 2)
    job.bind("scale", kernel.scale, torch.float32, panels, *([_POSITIONS] if winograd else []), _PANEL)
    return _convolved(job, x, maps, bias, geometry=geometry)


def convolve_floats(x: Tensor, matrix: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """Convolve maps [B, in, H, W] with weights [out, in * 3 * 3], all float32, by Winograd's algorithm.

    Returns [B, out, H', W'] in channels-last memory.
    """
    (outputs, channels), (top, left) = geometry.shape[:2], geometry.padding
    panels = -(-outputs // _PANEL)
    kernels = allocate(panels, _POSITIONS, channels, _PANEL)
    transform = TransformedFloats(outputs=outputs, channels=channels, taps=9)
    transform.bind("x", matrix.contiguous(), torch.float32, outputs, channels * 9)
    transform.bind("to", kernels, torch.float32, panels, _POSITIONS, channels, _PANEL)
    run(transform, matrix.numel())
    height, width = x.shape[2:]
    padded = _padded_shape(x, geometry)
    maps = allocate(_map_values(x, geometry)).zero_()
    inside = maps[: math.prod(padded)].view(padded)
    inside[:, top : top + height, left : left + width] = x.permute(0, 2, 3, 1)
    job = WinogradFloatConvolution()
    job.bind("w", kernels, torch.float32, panels, _POSITIONS, channels, _PANEL)
    return _convolved(job, x, maps, bias, geometry=geometry)


def output_size(x: Tensor, geometry: ConvGeometry) -> tuple[int, int]:
    """Return height and width of a convolution's output."""
    height, width = (
        (size + 2 * padding - side) // stride + 1
        for size, padding, side, stride in zip(
            x.shape[2:], geometry.padding, geometry.shape[2:], geometry.stride, strict=True
        )
    )
    return height, width


def _padded_shape(x: Tensor, geometry: ConvGeometry) -> tuple[int, int, int, int]:
    """Return the shape [B, H, W, in] of zero-padded maps."""
    (batch, channels, height, width), (top, left) = x.shape, geometry.padding
    return batch, height + 2 * top, width + 2 * left, channels


def _map_values(x: Tensor, geometry: ConvGeometry) -> int:
    """Return how many values zero-padded maps take, with those that the kernels may read beyond the end."""
    return math.prod(_padded_shape(x, geometry)) + _SLACK * geometry.stride[1] * x.shape[1]


def _convolved(job: Convolution, x: Tensor, maps: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """Run a convolution of padded maps whose kernels are bound."""
    outputs, channels, kernel_height, kernel_width = geometry.shape
    out_height, out_width = output_size(x, geometry)
    if x.shape[1] != channels or min(out_height, out_width) < 1:
        raise ValueError(f"maps {list(x.shape)} cannot be convolved with kernels {list(geometry.shape)}")
    out = allocate(len(x), out_height, out_width, outputs)
    padded_bias = allocate(-(-outputs // _PANEL) * _PANEL).zero_()
    if bias is not None:
        padded_bias[:outputs] = bias
    job.bind("x", maps, maps.dtype, _map_values(x, geometry))
    job.bind("bias", padded_bias, torch.float32, len(padded_bias))
    job.bind("out", out, torch.float32, len(x), out_height, out_width, outputs)
    job.batch, job.height, job.width, job.channels = _padded_shape(x, geometry)
    job.outputs, job.out_height, job.out_width = outputs, out_height, out_width
    job.kernel_height, job.kernel_width = kernel_height, kernel_width
    job.down, job.across = geometry.stride
    run(job, out.numel() * channels * kernel_height * kernel_width)
    return out.permute(0, 3, 1, 2)


def _rounded(x: Tensor, geometry: ConvGeometry) -> tuple[Tensor, Tensor]:
    """Return quantized, zero-padded maps in one row, and the scale of each image [B]."""
    batch, channels, height, width = x.shape
    size, (top, left) = math.prod(_padded_shape(x, geometry)[1:]), geometry.padding
    codes, scales = allocate(_map_values(x, geometry), dtype=torch.int16), allocate(batch)
    for index, image in enumerate(x.permute(0, 2, 3, 1).contiguous()):
        low, high = (float(extreme) for extreme in torch.aminmax(image))
        largest = max(-low, high, 1e-30)
        finite = math.isfinite(largest)
        scales[index] = largest / _MAP_LEVELS if finite else math.nan
        job = RoundedMap(
            lines=height, width=width * channels, top=top, left=left * channels,
            factor=_MAP_LEVELS / largest if finite else 0.0,
        )  # fmt: skip
        job.bind("x", image, torch.float32, height, width, channels)
        job.bind("to", codes[index * size : (index + 1) * size], torch.int16, size)
        run(job, image.numel())
    return codes, scales
