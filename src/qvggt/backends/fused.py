"""Fused dequantization and product on a GPU: a Triton kernel that unpacks blocks of weights as it multiplies them.

No layer is dequantized in memory. Each word is read once per block of tokens and unpacked to integer levels, which
every floating-point dtype represents exactly; the scale of a group is applied to the sum over that group, so no weight
is rounded. Sums are float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from qvggt.quant.packing import PackedWeight

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_LEAST_INPUTS = 16
"""Smallest inner dimension of a tensor core product."""


@dataclass(frozen=True)
class Tile:
    """Block sizes of one program of the kernel.

    Attributes:
        tokens: rows of the result, a power of two from 16.
        outputs: columns of the result, a power of two from 16.
        inputs: largest number of channels per step, a power of two from 16; a step never crosses a group boundary.
        warps: per program.
        stages: depth of the software pipeline.
    """

    tokens: int
    outputs: int
    inputs: int
    warps: int
    stages: int

    def __str__(self) -> str:
        return f"{self.tokens} x {self.outputs}"


TILES = (
    Tile(16, outputs=32, inputs=128, warps=4, stages=4),
    Tile(64, outputs=64, inputs=64, warps=4, stages=3),
    Tile(128, outputs=128, inputs=32, warps=8, stages=3),
)
"""For few, medium and many tokens; the fastest is measured."""


def supports(weight: PackedWeight) -> bool:
    """Return whether the kernel supports a weight: no code straddles words, and groups are whole steps."""
    return weight.scheme.bits in (2, 4, 8) and _inputs_a_step(weight, _LEAST_INPUTS) == _LEAST_INPUTS


def multiply(x: Tensor, weight: PackedWeight, bias: Tensor | None, tile: Tile) -> Tensor:
    """Return x times the transposed weights plus the bias, [rows, out] in x's dtype.

    A float32 x is split into two TF32 numbers, which keeps 22 of its 24 bits.

    Args:
        x: [rows, in] in one of ``DTYPES``, with at least one row.
        weight: supported, on x's device.
        bias: [out], floating, or None.
        tile: block sizes.

    Raises:
        ValueError: x has an unexpected shape or dtype, or the weight is not supported.
    """
    outputs, inputs = weight.shape
    if x.ndim != 2 or x.shape[1] != inputs or not len(x) or x.dtype not in DTYPES:
        raise ValueError(f"expected x [rows, {inputs}] of 16 or 32 bits, got {x.dtype} {tuple(x.shape)}")
    if not supports(weight):
        raise ValueError(f"a weight of {weight.scheme} is not supported")
    x, rows, groups = x.contiguous(), len(x), weight.scale.shape[1]
    out = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    kernel: Any = _multiply  # whose launch syntax has no types
    kernel[triton.cdiv(rows, tile.tokens), triton.cdiv(outputs, tile.outputs)](
        x, weight.packed, weight.scale, weight.zero_point, bias, out,
        rows, outputs, inputs, weight.packed.shape[1], groups, inputs // groups,
        BITS=weight.scheme.bits, TOKENS=tile.tokens, OUTPUTS=tile.outputs,
        INPUTS=_inputs_a_step(weight, tile.inputs), num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


def _inputs_a_step(weight: PackedWeight, most: int) -> int:
    """Return the largest power of two up to ``most`` that divides the group size."""
    groups = weight.scale.shape[1]
    size = weight.shape[1] // groups
    return most if groups == 1 else min(most, size & -size)


@triton.jit
def _multiply(
    x_at, packed_at, scale_at, zero_at, bias_at, out_at,
    rows, outputs, inputs, row_words, groups, group_size,
    BITS: tl.constexpr, TOKENS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    # Consecutive programs share weights and differ in tokens.
    row = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    is_row, is_output = row < rows, output < outputs
    PER_WORD: tl.constexpr = 32 // BITS
    MASK: tl.constexpr = (1 << BITS) - 1  # pyrefly: ignore[bad-assignment, unsupported-operation]
    step = tl.arange(0, INPUTS)
    step_word = tl.arange(0, INPUTS // PER_WORD)
    shift = tl.arange(0, PER_WORD) * BITS
    sums = tl.zeros((TOKENS, OUTPUTS), tl.float32)
    for first in range(0, inputs, INPUTS):
        is_input = first + step < inputs
        x = tl.load(
            x_at + row[:, None] * inputs + (first + step)[None, :], is_row[:, None] & is_input[None, :], other=0.0
        )  # [TOKENS, INPUTS]
        place = first // PER_WORD + step_word
        words = tl.load(
            packed_at + output[:, None] * row_words + place[None, :],
            is_output[:, None] & (place < row_words)[None, :],
            other=0,
        )
        codes = (words[:, :, None] >> shift[None, None, :]) & MASK  # [OUTPUTS, words, PER_WORD]
        levels = tl.reshape(codes, (OUTPUTS, INPUTS))
        group = first // group_size
        if zero_at is None:
            levels -= 1 << (BITS - 1)  # pyrefly: ignore[unsupported-operation]
        else:
            zeros = tl.load(zero_at + (output // PER_WORD) * groups + group, is_output, other=0)
            levels -= ((zeros >> (output % PER_WORD * BITS)) & MASK)[:, None]
        scale = tl.load(scale_at + output * groups + group, is_output, other=0.0).to(tl.float32)
        sums += tl.dot(x, tl.trans(levels.to(x.dtype)), input_precision="tf32x3") * scale[None, :]
    if bias_at is not None:
        sums += tl.load(bias_at + output, is_output, other=0.0).to(tl.float32)[None, :]
    place = row[:, None] * outputs + output[None, :]
    tl.store(out_at + place, sums.to(out_at.dtype.element_ty), is_row[:, None] & is_output[None, :])
