"""Products of activations with packed weights, in C (products.c, few.c, rounding.c)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from qvggt.backends.native.buffers import allocate
from qvggt.backends.native.jobs import Job, run
from qvggt.quant.packing import PackedWeight, unpack_zero_point, words


class Product(Job):
    """Arguments of ``qvggt_multiply``."""

    function = "qvggt_multiply"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("codes", "a_scale", "packed", "w_scale", "w_zero", "bias", "out")),
        *((name, ctypes.c_int64) for name in ("row_bytes", "rows")),
        *((name, ctypes.c_int32) for name in ("channels", "outputs", "groups", "bits")),
    )


class FewRows(Job):
    """Arguments of ``qvggt_multiply_few``: a product of float activations."""

    function = "qvggt_multiply_few"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "packed", "w_scale", "w_zero", "bias", "out")),
        *((name, ctypes.c_int64) for name in ("row_bytes", "rows")),
        *((name, ctypes.c_int32) for name in ("channels", "outputs", "groups", "bits")),
    )


class Expansion(Job):
    """Arguments of ``qvggt_expand``: dequantization of a packed weight."""

    function = "qvggt_expand"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("packed", "scale", "zero", "out")),
        *((name, ctypes.c_int64) for name in ("row_bytes", "rows")),
        *((name, ctypes.c_int32) for name in ("width", "groups", "bits", "type")),
    )


EXPANDED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Types that ``qvggt_expand`` writes, in the order of its numbers."""


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
    rows, channels = x.shape
    codes, scale = allocate(rows, channels, dtype=torch.uint8), allocate(rows)
    job = Rounding(rows=rows, channels=channels)
    job.bind("x", x.contiguous(), torch.float32, rows, channels)
    job.bind("codes", codes, torch.uint8, rows, channels)
    job.bind("scale", scale, torch.float32, rows)
    run(job, x.numel())
    return Codes(codes, scale)


def expand(weight: PackedWeight, dtype: torch.dtype = torch.float32) -> Tensor:
    """Dequantize a packed weight to [out, in] in one of ``EXPANDED_DTYPES``; bit-identical to the reference."""
    outputs, width = weight.shape
    out = allocate(outputs, width, dtype=dtype)
    job = Expansion(rows=outputs, width=width, groups=weight.scale.shape[1], bits=weight.scheme.bits)
    job.type = EXPANDED_DTYPES.index(dtype)
    _bind_weight(job, weight, ("packed", "scale", "zero"))
    job.bind("out", out, dtype, outputs, width)
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
    rows, (outputs, width) = len(x.scale if isinstance(x, Codes) else x), weight.shape
    out = allocate(rows, outputs)
    if not out.numel():
        return out
    kind = Product if isinstance(x, Codes) else FewRows
    job = kind(rows=rows, channels=width, outputs=outputs, groups=weight.scale.shape[1], bits=weight.scheme.bits)
    if isinstance(x, Codes):
        job.bind("codes", x.codes, torch.uint8, rows, width)
        job.bind("a_scale", x.scale, torch.float32, rows)
    else:
        job.bind("x", x.contiguous(), torch.float32, rows, width)
    _bind_weight(job, weight, ("packed", "w_scale", "w_zero"))
    job.bind("bias", None if bias is None else bias.float().contiguous(), torch.float32, outputs)
    job.bind("out", out, torch.float32, rows, outputs)
    run(job, rows * outputs * width)
    return out


def _bind_weight(job: Product | FewRows | Expansion, weight: PackedWeight, names: tuple[str, str, str]) -> None:
    outputs, width = weight.shape
    row_words, groups, zero = words(width, weight.scheme.bits), weight.scale.shape[1], unpack_zero_point(weight)
    job.row_bytes = 4 * row_words
    job.bind(names[0], weight.packed.contiguous(), torch.int32, outputs, row_words)
    job.bind(names[1], weight.scale.float().contiguous(), torch.float32, outputs, groups)
    job.bind(names[2], None if zero is None else zero.contiguous(), torch.int8, outputs, groups)
