"""Products of activations with packed weights, in C (products.c, rounding.c)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.backends.native.jobs import Job, pointer, run
from qvggt.quant.packing import PackedWeight, unpack_zero_point


class Product(Job):
    """Arguments of ``qvggt_multiply``."""

    function = "qvggt_multiply"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "codes", "a_scale", "packed", "w_scale", "w_zero", "bias", "out")),
        *((name, ctypes.c_int64) for name in ("row_bytes", "rows")),
        *((name, ctypes.c_int32) for name in ("channels", "outputs", "groups", "bits")),
    )


class Expansion(Job):
    """Arguments of ``qvggt_expand``: dequantization of a packed weight."""

    function = "qvggt_expand"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("packed", "scale", "zero", "out")),
        *((name, ctypes.c_int64) for name in ("row_bytes", "rows")),
        *((name, ctypes.c_int32) for name in ("width", "groups", "bits")),
    )


class Rounding(Job):
    """Arguments of ``qvggt_round``: quantization of activations to 8 bits."""

    function = "qvggt_round"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "codes", "scale")),
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int32),
    )


@dataclass(frozen=True)
class Codes:
    """Activations quantized to 8 bits per row.

    Attributes:
        codes: [rows, channels] uint8, zero point 128.
        scale: [rows] float32; NaN for a row that is not finite.
    """

    codes: Tensor
    scale: Tensor


def supports(weight: PackedWeight) -> bool:
    """Return whether the kernels support a weight: equal groups whose size is a multiple of four."""
    return weight.shape[1] % weight.scale.shape[1] == 0 and weight.shape[1] // weight.scale.shape[1] % 4 == 0


def round_rows(x: Tensor) -> Codes:
    """Quantize activations [rows, channels] float32."""
    x = x.contiguous()
    rows, channels = x.shape
    codes, scale = torch.empty(rows, channels, dtype=torch.uint8), torch.empty(rows)
    job = Rounding(x=pointer(x), codes=pointer(codes), scale=pointer(scale), rows=rows, channels=channels)
    run(job, x.numel())
    return Codes(codes, scale)


def expand(weight: PackedWeight) -> Tensor:
    """Dequantize a packed weight to [out, in] float32; bit-identical to the reference."""
    outputs, width = weight.shape
    out, scale, zero = torch.empty(outputs, width), weight.scale.float().contiguous(), unpack_zero_point(weight)
    zero = None if zero is None else zero.contiguous()
    packed = weight.packed.contiguous()
    tensors = {"packed": packed, "scale": scale, "zero": zero, "out": out}
    job = Expansion(
        **{name: pointer(tensor) for name, tensor in tensors.items()},
        row_bytes=packed.shape[1] * packed.element_size(), rows=outputs, width=width, groups=scale.shape[1],
        bits=weight.scheme.bits,
    )  # fmt: skip
    run(job, out.numel())
    return out


def multiply(x: Tensor | Codes, weight: PackedWeight, bias: Tensor | None) -> Tensor:
    """Multiply activations with a packed weight.

    Args:
        x: quantized activations, or [rows, in] float32, which is meant for few rows.
        weight: one that ``supports`` accepts.
        bias: [out], or None.

    Returns:
        [rows, out] float32.
    """
    rounded, values = (x, None) if isinstance(x, Codes) else (None, x.contiguous())
    rows, (outputs, width) = len(x.scale if isinstance(x, Codes) else x), weight.shape
    out = torch.empty(rows, outputs)
    zero = unpack_zero_point(weight)
    tensors = {
        "x": values,
        "codes": None if rounded is None else rounded.codes,
        "a_scale": None if rounded is None else rounded.scale,
        "packed": weight.packed.contiguous(),
        "w_scale": weight.scale.float().contiguous(),
        "w_zero": None if zero is None else zero.contiguous(),
        "bias": None if bias is None else bias.float().contiguous(),
        "out": out,
    }
    product = Product(
        **{name: pointer(tensor) for name, tensor in tensors.items()},
        row_bytes=weight.packed.shape[1] * weight.packed.element_size(), rows=rows, channels=width, outputs=outputs,
        groups=weight.scale.shape[1], bits=weight.scheme.bits,
    )  # fmt: skip
    run(product, rows * outputs * width)
    return out
