"""Products of bfloat16 activations with packed weights, in C (half_products.c): AVX-512 BF16 or AMX."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from qvggt.backends.native.buffers import allocate
from qvggt.backends.native.jobs import Job, run
from qvggt.backends.native.library import has_function
from qvggt.quant.packing import PackedWeight, unpack_zero_point, words

MIN_ROWS = 64
"""With fewer rows, reading the weights dominates."""
MAX_WIDTH = 2048
"""With more inputs, rows of activations leave the caches near a core, and oneDNN is as fast."""
_STEP = 32
"""Outputs, and inputs of a group, come in multiples of this."""


class HalfProduct(Job):
    """Arguments of ``qvggt_multiply_bfloat16``."""

    function = "qvggt_multiply_bfloat16"
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "packed", "scale", "zero", "bias", "out")),
        *((name, ctypes.c_int64) for name in ("row_bytes", "rows")),
        *((name, ctypes.c_int32) for name in ("channels", "outputs", "groups", "bits")),
    )


def supports(x: Tensor, weight: PackedWeight) -> bool:
    """Return whether the kernel runs here and multiplies x [..., in] by a weight."""
    outputs, width = weight.shape
    fits = x.is_cpu and x.dtype == torch.bfloat16 and x.numel() >= MIN_ROWS * width and width <= MAX_WIDTH
    even = outputs % _STEP == 0 and width % weight.scale.shape[1] == 0 and width // weight.scale.shape[1] % _STEP == 0
    return fits and even and has_function(HalfProduct.function)


def multiply(x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
    """Multiply activations [rows, in] bfloat16 by a weight that ``supports`` accepts; returns [rows, out] bfloat16."""
    rows, (outputs, width) = len(x), weight.shape
    out = allocate(rows, outputs, dtype=torch.bfloat16)
    groups, row_words, zero = weight.scale.shape[1], words(width, weight.scheme.bits), unpack_zero_point(weight)
    job = HalfProduct(
        rows=rows, channels=width, outputs=outputs, groups=groups, bits=weight.scheme.bits, row_bytes=4 * row_words
    )
    job.bind("x", x.contiguous(), torch.bfloat16, rows, width)
    job.bind("packed", weight.packed.contiguous(), torch.int32, outputs, row_words)
    job.bind("scale", weight.scale.float().contiguous(), torch.float32, outputs, groups)
    job.bind("zero", None if zero is None else zero.contiguous(), torch.int8, outputs, groups)
    job.bind("bias", None if bias is None else bias.float().contiguous(), torch.float32, outputs)
    job.bind("out", out, torch.bfloat16, rows, outputs)
    run(job, rows * outputs * width)
    return out
