"""Convolutions in compiled code: on integers of 16 bits, and by squares on floats."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.backends.base import Window
from qvggt.backends.native.jobs import Job, is_compiled, pointer, run

_MAP_LEVELS, _KERNEL_LEVELS = 8191, 1023
"""Largest integers: 256 products of them, and of two signs, fit into 32 bits."""
_TRANSFORMED_LEVELS = (1 << 16) - 256
"""The largest sum of a transformed kernel's integers, signs apart, over 128 channels: times four times a map's integer,
as transformed maps may be, it fits into 32 bits too."""
_POSITIONS = 16
"""Of a transformed kernel."""
_PANEL, _SLACK = 16, 6
"""Outputs that are computed together, and pixels of a row that may be read beyond it."""


class Convolution(Job):
    """A convolution of rounded maps with rounded kernels."""

    does = "qvggt_convolve"
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


class ConvolutionBySquares(Convolution):
    """A convolution of rounded maps with transformed kernels."""

    does = "qvggt_convolve_squares"


class ConvolutionOfFloats(Convolution):
    """A convolution of maps with transformed kernels, none of them rounded."""

    does = "qvggt_convolve_floats"


class RoundedMap(Job):
    """The rounding of a map."""

    does = "qvggt_round_map"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "to")),
        *((name, ctypes.c_int64) for name in ("lines", "width", "top", "left")),
        ("factor", ctypes.c_float),
    )


class RoundedKernels(Job):
    """The rounding of kernels."""

    does = "qvggt_round_kernels"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "to", "scale")),
        *((name, ctypes.c_int32) for name in ("outputs", "channels", "taps")),
        ("levels", ctypes.c_float),
    )


class TransformedKernels(RoundedKernels):
    """The transformation and rounding of 3x3 kernels."""

    does = "qvggt_transform_kernels"


class TransformedFloats(RoundedKernels):
    """The transformation of 3x3 kernels without rounding."""

    does = "qvggt_transform_floats"


@dataclass(frozen=True)
class Kernel:
    """A convolution's weights, rounded.

    Attributes:
        codes: [panels, taps, in / 2, 16, 2] int16; of transformed kernels [panels, 16, in / 2, 16, 2].
        scale: [panels, 16] float32 of the outputs, and of none beyond them; of transformed kernels [panels, 16, 16].
    """

    codes: Tensor
    scale: Tensor


def can_convolve(window: Window) -> bool:
    """Return whether there is a compiled convolution: channels by pairs, all of them in every output."""
    outputs, channels = window.shape[:2]
    whole = channels % 2 == 0 and outputs >= _PANEL and window.groups == 1 and set(window.dilation) == {1}
    return whole and is_compiled(Convolution)


def goes_by_squares(window: Window) -> bool:
    """Return whether it takes fewer products to transform maps and kernels first (Winograd's F(2x2, 3x3))."""
    return window.shape[2:] == (3, 3) and set(window.stride) == {1} and window.shape[1] % _PANEL == 0


def round_kernel(matrix: Tensor, window: Window) -> Kernel:
    """Round a convolution's weights [out, in * height * width] float32."""
    outputs, channels, height, width = window.shape
    panels = -(-outputs // _PANEL)
    transformed = goes_by_squares(window)
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


def convolve(x: Tensor, kernel: Kernel, bias: Tensor | None, window: Window) -> Tensor:
    """Convolve maps [B, in, H, W] float32; the result [B, out, H', W'] has its channels last in memory.

    Maps that are not finite become NaN.
    """
    top, left = window.padding
    codes, x_scale = _rounded(x, top, left, _SLACK * window.stride[1])
    work = ConvolutionBySquares if goes_by_squares(window) else Convolution
    return _convolved(work, x, codes, x_scale, kernel.codes, kernel.scale, bias, window)


def convolve_floats(x: Tensor, matrix: Tensor, bias: Tensor | None, window: Window) -> Tensor:
    """Convolve maps [B, in, H, W] with weights [out, in * 3 * 3], float32 all of them, by squares.

    The result [B, out, H', W'] has its channels last in memory.
    """
    (outputs, channels), (top, left) = window.shape[:2], window.padding
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
    return _convolved(ConvolutionOfFloats, x, maps, None, kernels, None, bias, window)


def _convolved(
    work: type[Convolution],
    x: Tensor,
    maps: Tensor,
    x_scale: Tensor | None,
    kernels: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    window: Window,
) -> Tensor:
    (outputs, channels, *sides), (top, left) = window.shape, window.padding
    batch, _, height, width = x.shape
    sizes = [
        (size + 2 * pad - side) // stride + 1
        for size, pad, side, stride in zip((height, width), window.padding, sides, window.stride, strict=True)
    ]
    out = x.new_empty(batch, *sizes, outputs)
    bias = F.pad(x.new_zeros(outputs) if bias is None else bias.float(), (0, -outputs % _PANEL))
    tensors = {"x": maps, "w": kernels, "scale": scale, "x_scale": x_scale, "bias": bias, "out": out}
    job = work(
        **{name: pointer(tensor) for name, tensor in tensors.items()},
        batch=batch, height=height + 2 * top, width=width + 2 * left, channels=channels, outputs=outputs,
        out_height=sizes[0], out_width=sizes[1], kernel_height=sides[0], kernel_width=sides[1],
        down=window.stride[0], across=window.stride[1],
    )  # fmt: skip
    run(job, out.numel() * channels * math.prod(sides))
    return out.permute(0, 3, 1, 2)


def _rounded(x: Tensor, top: int, left: int, slack: int) -> tuple[Tensor, Tensor]:
    """Return maps with zeros around them and ``slack`` pixels after them, as integers, and the maps' scales."""
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
