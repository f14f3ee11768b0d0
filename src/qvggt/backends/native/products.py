"""Calls of the compiled products on tensors, on as many threads as torch uses."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.backends.native.library import library
from qvggt.backends.native.threads import bounds, on_threads, threads_for
from qvggt.quant.packing import PackedWeight, unpack_zero_point


class Product(ctypes.Structure):
    """What the C code calls ``Product``; its fields are described there."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "codes", "a_scale", "packed", "w_scale", "w_zero", "bias", "out")),
        *((name, ctypes.c_int64) for name in ("row_bytes", "rows")),
        *((name, ctypes.c_int32) for name in ("channels", "outputs", "groups", "bits", "threads", "next")),
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
    parts = bounds(rows, threads := threads_for(x.numel()))

    def work(index: int) -> None:
        library().qvggt_round(
            x.data_ptr(), parts[index], parts[index + 1], channels, codes.data_ptr(), scale.data_ptr()
        )

    on_threads(work, threads)
    return Codes(codes, scale)


def expand(weight: PackedWeight) -> Tensor:
    """Return a packed weight [out, in] in float32, to the bit as the reference does."""
    outputs, width = weight.shape
    out, scale, zero = torch.empty(outputs, width), weight.scale.float().contiguous(), unpack_zero_point(weight)
    zero = None if zero is None else zero.contiguous()
    packed = weight.packed.contiguous()
    parts = bounds(outputs, threads := threads_for(outputs * width))

    def work(index: int) -> int:
        return library().qvggt_expand(
            packed.data_ptr(), packed.shape[1] * packed.element_size(), weight.scheme.bits, scale.data_ptr(),
            None if zero is None else zero.data_ptr(), width, scale.shape[1], parts[index], parts[index + 1],
            out.data_ptr(),
        )  # fmt: skip

    on_threads(work, threads)
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
    threads = threads_for(rows * outputs * width)
    product = Product(
        **{name: None if tensor is None else tensor.data_ptr() for name, tensor in tensors.items()},
        row_bytes=weight.packed.shape[1] * weight.packed.element_size(),
        rows=rows, channels=width, outputs=outputs, groups=weight.scale.shape[1], bits=weight.scheme.bits,
        threads=threads,
    )  # fmt: skip

    on_threads(lambda index: library().qvggt_multiply(ctypes.byref(product)), threads)
    return out
