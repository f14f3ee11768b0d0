"""Convolutions in C: on 16-bit integers (direct and Winograd) and on floats (Winograd)."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.base import ConvGeometry
from qvggt.backends.native.jobs import Job, is_compiled, pointer, run

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
    supported = channels % 2 == 0 and outputs >= _PANEL and geometry.groups == 1 and set(geometry.dilation) == {1}
    return supported and is_compiled(Convolution)


def uses_winograd(geometry: ConvGeometry) -> bool:
    """Return whether a convolution is computed by Winograd's F(2x2, 3x3), with fewer multiplications."""
    return geometry.shape[2:] == (3, 3) and set(geometry.stride) == {1} and geometry.shape[1] % _PANEL == 0


def round_kernel(matrix: Tensor, geometry: ConvGeometry) -> Kernel:
    """Quantize a convolution's weights [out, in * height * width] float32."""
    outputs, channels, height, width = geometry.shape
    panels = -(-outputs // _PANEL)
    transformed = uses_winograd(geometry)
    work, levels = (TransformedKernels, _TRANSFORMED_LEVELS) if transformed else (RoundedKernels, _KERNEL_LEVELS)
    matrix = matrix.contiguous()
    places = _POSITIONS if transformed else height * width
    codes = torch.empty(panels, places, channels // 2, _PANEL, 2, dtype=torch.int16)
    scale = torch.empty(panels, _POSITIONS, _PANEL) if transformed else torch.empty(panels, _PANEL)
    job = work(
        x=pointer(matrix), to=pointer(codes), scale=pointer(scale), outputs=outputs, channels=channels,
        taps=height * width, levels=levels,
    )  # fmt: skip
    run(job, matrix.numel())
    return Kernel(codes, scale)


def convolve(x: Tensor, kernel: Kernel, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """Convolve maps [B, in, H, W] float32; returns [B, out, H', W'] in channels-last memory.

    The outputs of an image that is not finite are NaN.
    """
    top, left = geometry.padding
    codes, x_scale = _rounded(x, top, left, _SLACK * geometry.stride[1])
    work = WinogradConvolution if uses_winograd(geometry) else Convolution
    return _convolved(work, x, codes, x_scale, kernel.codes, kernel.scale, bias, geometry)


def convolve_floats(x: Tensor, matrix: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """Convolve maps [B, in, H, W] with weights [out, in * 3 * 3], all float32, by Winograd's algorithm.

    Returns [B, out, H', W'] in channels-last memory.
    """
    (outputs, channels), (top, left) = geometry.shape[:2], geometry.padding
    panels, matrix = -(-outputs // _PANEL), matrix.contiguous()
    kernels = torch.empty(panels, _POSITIONS, channels, _PANEL)
    run(
        TransformedFloats(x=pointer(matrix), to=pointer(kernels), outputs=outputs, channels=channels, taps=9),
        matrix.numel(),
    )
    batch, _, height, width = x.shape
    many = (height + 2 * top) * (width + 2 * left) * channels
    maps = x.new_zeros(batch * many + _SLACK * channels)
    inside = maps[: batch * many].view(batch, height + 2 * top, width + 2 * left, channels)
    inside[:, top : top + height, left : left + width] = x.permute(0, 2, 3, 1)
    return _convolved(WinogradFloatConvolution, x, maps, None, kernels, None, bias, geometry)


def _convolved(
    work: type[Convolution],
    x: Tensor,
    maps: Tensor,
    x_scale: Tensor | None,
    kernels: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    geometry: ConvGeometry,
) -> Tensor:
    (outputs, channels, *sides), (top, left) = geometry.shape, geometry.padding
    batch, _, height, width = x.shape
    sizes = [
        (size + 2 * pad - side) // stride + 1
        for size, pad, side, stride in zip((height, width), geometry.padding, sides, geometry.stride, strict=True)
    ]
    out = x.new_empty(batch, *sizes, outputs)
    bias = F.pad(x.new_zeros(outputs) if bias is None else bias.float(), (0, -outputs % _PANEL))
    tensors = {"x": maps, "w": kernels, "scale": scale, "x_scale": x_scale, "bias": bias, "out": out}
    job = work(
        **{name: pointer(tensor) for name, tensor in tensors.items()},
        batch=batch, height=height + 2 * top, width=width + 2 * left, channels=channels, outputs=outputs,
        out_height=sizes[0], out_width=sizes[1], kernel_height=sides[0], kernel_width=sides[1],
        down=geometry.stride[0], across=geometry.stride[1],
    )  # fmt: skip
    run(job, out.numel() * channels * math.prod(sides))
    return out.permute(0, 3, 1, 2)


def _rounded(x: Tensor, top: int, left: int, slack: int) -> tuple[Tensor, Tensor]:
    """Return quantized, zero-padded maps, followed by ``slack`` pixels, and the scale of each image [B]."""
    x = x.permute(0, 2, 3, 1).contiguous()
    batch, height, width, channels = x.shape
    many = (height + 2 * top) * (width + 2 * left) * channels
    codes = torch.empty(batch * many + slack * channels, dtype=torch.int16)
    scales = torch.empty(batch)
    for index, (image, to) in enumerate(zip(x, codes[: batch * many].view(batch, -1), strict=True)):
        low, high = (float(extreme) for extreme in torch.aminmax(image))
        largest = max(-low, high, 1e-30)
        finite = math.isfinite(largest)
        scales[index] = largest / _MAP_LEVELS if finite else math.nan
        job = RoundedMap(
            x=pointer(image), to=pointer(to), lines=height, width=width * channels, top=top, left=left * channels,
            factor=_MAP_LEVELS / largest if finite else 0.0,
        )  # fmt: skip
        run(job, image.numel())
    return codes, scales
