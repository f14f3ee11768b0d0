"""Products straight from packed words on a GPU: a Triton kernel that unpacks a block of weights as it multiplies it.

No layer is expanded in memory. A word is read once for each block of tokens and becomes the levels of its codes, which
every floating-point type holds exactly; a group's scale is applied to the sums over that group, so that no weight is
rounded. Sums are float32.
"""

# A kernel's language looks like Python and is not: pyright knows neither its launches nor its constants.
# pyright: reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from qvggt.quant.packing import PackedWeight

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_LEAST_INPUTS = 16
"""The matrix units take at least so many inputs at a time."""


@dataclass(frozen=True)
class Tile:
    """What one program of the kernel computes.

    Attributes:
        tokens: rows of the result, a power of two from 16.
        outputs: columns of the result, a power of two from 16.
        inputs: channels a step at most, a power of two from 16; a step never crosses the border of a group.
        warps: of 32 threads, that share the work.
        stages: steps whose operands are on their way at a time.
    """

    tokens: int
    outputs: int
    inputs: int
    warps: int
    stages: int

    def __str__(self) -> str:
        return f"{self.tokens} x {self.outputs}"


TILES = (Tile(16, 32, 128, 4, 4), Tile(64, 64, 64, 4, 3), Tile(128, 128, 32, 8, 3))
"""For few tokens, for some, and for many; which is the fastest is measured, not guessed."""


def supports(weight: PackedWeight) -> bool:
    """Return whether the kernel takes a weight: codes that no word cuts in two, groups that steps can be cut from."""
    return weight.scheme.bits in (2, 4, 8) and _inputs_a_step(weight, _LEAST_INPUTS) == _LEAST_INPUTS


def multiply(x: Tensor, weight: PackedWeight, bias: Tensor | None, tile: Tile) -> Tensor:
    """Return x times the transposed weights plus the bias, [rows, out] in x's type.

    A float32 x is multiplied as the sum of two TF32 numbers: 22 of its 24 bits count.

    Args:
        x: [rows, in] in one of ``DTYPES``, with at least one row.
        weight: one that is supported, on x's device.
        bias: [out], floating, or None.
        tile: how the result is cut up.

    Raises:
        ValueError: a shape or a type is another, or the weight is not supported.
    """
    outputs, inputs = weight.shape
    if x.ndim != 2 or x.shape[1] != inputs or not len(x) or x.dtype not in DTYPES:
        raise ValueError(f"expected x [rows, {inputs}] of 16 or 32 bits, got {x.dtype} {tuple(x.shape)}")
    if not supports(weight):
        raise ValueError(f"a weight of {weight.scheme} is not supported")
    x, rows, groups = x.contiguous(), len(x), weight.scale.shape[1]
    out = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    _multiply[triton.cdiv(rows, tile.tokens), triton.cdiv(outputs, tile.outputs)](
        x, weight.packed, weight.scale, weight.zero_point, bias, out,
        rows, outputs, inputs, weight.packed.shape[1], groups, inputs // groups,
        BITS=weight.scheme.bits, TOKENS=tile.tokens, OUTPUTS=tile.outputs,
        INPUTS=_inputs_a_step(weight, tile.inputs), num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


def _inputs_a_step(weight: PackedWeight, most: int) -> int:
    """Return the largest number of inputs up to a power of two that does not cross the border of a group."""
    groups = weight.scale.shape[1]
    size = weight.shape[1] // groups
    return most if groups == 1 else min(most, size & -size)


@triton.jit
def _multiply(
    x_at, packed_at, scale_at, zero_at, bias_at, out_at,
    rows, outputs, inputs, row_words, groups, group_size,
    BITS: tl.constexpr, TOKENS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    # Neighbouring programs have the same weights and different tokens.
    row = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    is_row, is_output = row < rows, output < outputs
    PER_WORD: tl.constexpr = 32 // BITS
    MASK: tl.constexpr = (1 << BITS) - 1
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
            levels -= 1 << (BITS - 1)
        else:
            zeros = tl.load(zero_at + (output // PER_WORD) * groups + group, is_output, other=0)
            levels -= ((zeros >> (output % PER_WORD * BITS)) & MASK)[:, None]
        scale = tl.load(scale_at + output * groups + group, is_output, other=0.0).to(tl.float32)
        sums += tl.dot(x, tl.trans(levels.to(x.dtype)), input_precision="tf32x3") * scale[None, :]
    if bias_at is not None:
        sums += tl.load(bias_at + output, is_output, other=0.0).to(tl.float32)[None, :]
    place = row[:, None] * outputs + output[None, :]
    tl.store(out_at + place, sums.to(out_at.dtype.element_ty), is_row[:, None] & is_output[None, :])
