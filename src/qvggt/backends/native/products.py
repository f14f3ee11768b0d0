"""Calls of the compiled products on tensors, on as many threads as torch uses."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.backends.native.jobs import Job, pointer, run
from qvggt.quant.packing import PackedWeight, unpack_zero_point


class Product(Job):
    """A product of activations with a packed weight."""

    does = "qvggt_multiply"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "codes", "a_scale", "packed", "w_scale", "w_zero", "bias", "out")),
        *((name, ctypes.c_int64) for name in ("row_bytes", "rows")),
        *((name, ctypes.c_int32) for name in ("channels", "outputs", "groups", "bits")),
    )


class Expansion(Job):
    """The expansion of a packed weight to floats."""

    does = "qvggt_expand"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("packed", "scale", "zero", "out")),
        *((name, ctypes.c_int64) for name in ("row_bytes", "rows")),
        *((name, ctypes.c_int32) for name in ("width", "groups", "bits")),
    )


class Rounding(Job):
    """The rounding of activations to 8 bits."""

    does = "qvggt_round"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "codes", "scale")),
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int32),
    )


@dataclass(frozen=True)
class Codes:
    """Activations rounded to 8 bits, row by row.

    Attributes:
        codes: [rows, channels] uint8, around 128.
        scale: [rows] float32; NaN for a row that is not finite.
    """

    codes: Tensor
    scale: Tensor


def supports(weight: PackedWeight) -> bool:
    """Return whether a weight can be multiplied: its groups are of whole steps of four."""
    return weight.shape[1] % weight.scale.shape[1] == 0 and weight.shape[1] // weight.scale.shape[1] % 4 == 0


def round_rows(x: Tensor) -> Codes:
    """Round activations [rows, channels] float32."""
    x = x.contiguous()
    rows, channels = x.shape
    codes, scale = torch.empty(rows, channels, dtype=torch.uint8), torch.empty(rows)
    job = Rounding(x=pointer(x), codes=pointer(codes), scale=pointer(scale), rows=rows, channels=channels)
    run(job, x.numel())
    return Codes(codes, scale)


def expand(weight: PackedWeight) -> Tensor:
    """Return a packed weight [out, in] in float32, to the bit as the reference does."""
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
        x: rounded ones, or floats [rows, in] float32 as they are, which is for few rows.
        weight: any that ``supports`` says.
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
