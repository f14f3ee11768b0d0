r"""Layout of integer weights on disk and in memory: ``pack-quantized`` of compressed-tensors.

A code c of b bits is stored as the unsigned number u = c + 2^(b-1). The numbers of a row form a bit stream without
gaps, least significant bit first, which is cut into 32-bit little-endian words; the last word of a row is padded with
zeros. Number i of a row occupies bits i·b .. i·b + b - 1, and a row of n numbers takes ceil(n·b / 32) words.

    b = 4                 byte 0          byte 1          byte 2          byte 3
                      +-------+-------+-------+-------+-------+-------+-------+-------+
    word 0 of a row   |  u1   |  u0   |  u3   |  u2   |  u5   |  u4   |  u7   |  u6   |
                      +-------+-------+-------+-------+-------+-------+-------+-------+
                       7     4 3     0   (bits of a byte, most significant first)

    b = 3                 byte 0          byte 1          byte 2          byte 3
                      +---+-----+-----+-+-----+-----+---+-----+-----+-----+---+-----+ - -
    word 0 of a row   |u2'| u1  | u0  |u5'| u4  | u3 |u2"| u7 | u6  |u5" | ...
                      +---+-----+-----+-+-----+-----+---+-----+-----+-----+---+-----+ - -
                      u2' is the low part of u2, u2" its high bit: a number may straddle bytes and words.

Eight numbers always fill exactly b bytes; packing and unpacking work in these units.

Beside the words [out, ceil(in·b / 32)] int32 of ``weight_packed`` a layer stores ``weight_scale`` [out, groups],
``weight_shape`` = (out, in) int64, and, where its scheme has zero points, ``weight_zero_point``: the zero points
[out, groups] packed by the same rule down the columns, [ceil(out·b / 32), groups] int32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.quant.affine import Grid, QuantizedTensor
from qvggt.quant.scheme import Scheme


@dataclass(frozen=True)
class PackedWeight:
    """A weight matrix in the layout of this module.

    Attributes:
        packed: [out, ceil(in * bits / 32)] int32.
        scale: [out, groups], floating.
        zero_point: [ceil(out * bits / 32), groups] int32, or None.
        shape: (out, in).
        scheme: with a group size that divides ``in``.
    """

    packed: Tensor
    scale: Tensor
    zero_point: Tensor | None
    shape: tuple[int, int]
    scheme: Scheme

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint stores, by their names within the layer."""
        shape = torch.tensor(self.shape, dtype=torch.int64, device=self.packed.device)
        named = {"weight_packed": self.packed, "weight_scale": self.scale, "weight_shape": shape}
        if self.zero_point is not None:
            named["weight_zero_point"] = self.zero_point
        return named


def packed_layout(
    shape: tuple[int, int], scheme: Scheme, scale_dtype: torch.dtype
) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return the type and shape of every tensor that a packed weight [out, in] stores, by name."""
    rows, width = shape
    groups = scheme.groups(width)
    layout: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "weight_packed": (torch.int32, (rows, words(width, scheme.bits))),
        "weight_scale": (scale_dtype, (rows, groups)),
        "weight_shape": (torch.int64, (2,)),
    }
    if not scheme.symmetric:
        layout["weight_zero_point"] = (torch.int32, (words(rows, scheme.bits), groups))
    return layout


def words(count: int, bits: int) -> int:
    """Return the number of 32-bit words that ``count`` numbers of ``bits`` bits take."""
    return -(-count * bits // 32)


def pack(quantized: QuantizedTensor) -> PackedWeight:
    """Pack integer codes and zero points; the scale is not changed."""
    bits, grid = quantized.scheme.bits, quantized.grid
    zero_point = None
    if grid.zero_point is not None:
        zero_point = pack_rows(grid.zero_point.T, bits).T.contiguous()
    rows, width = quantized.codes.shape
    return PackedWeight(
        pack_rows(quantized.codes, bits),
        scale=grid.scale,
        zero_point=zero_point,
        shape=(rows, width),
        scheme=quantized.scheme,
    )


def unpack(weight: PackedWeight) -> QuantizedTensor:
    """Undo ``pack``."""
    codes = unpack_rows(weight.packed, weight.scheme.bits, weight.shape[1])
    return QuantizedTensor(codes, Grid(weight.scale, unpack_zero_point(weight)), weight.scheme)


def unpack_zero_point(weight: PackedWeight) -> Tensor | None:
    """Return the zero points [out, groups] int8 of a packed weight, or None if it is symmetric."""
    if weight.zero_point is None:
        return None
    return unpack_rows(weight.zero_point.T, weight.scheme.bits, weight.shape[0]).T


def pack_rows(codes: Tensor, bits: int) -> Tensor:
    """Pack codes [rows, n] int8 in [-2^(bits-1), 2^(bits-1) - 1] into words [rows, ceil(n * bits / 32)] int32.

    Raises:
        ValueError: the codes are not an int8 matrix.
    """
    if codes.dtype != torch.int8 or codes.ndim != 2:
        raise ValueError(f"expected int8 codes [rows, n], got {codes.dtype} {tuple(codes.shape)}")
    rows, count = codes.shape
    unsigned = codes.view(torch.uint8) if codes.is_contiguous() else codes.contiguous().view(torch.uint8)
    # Adding the offset in unsigned bytes wraps around for negative codes, as intended.
    unsigned = F.pad(unsigned + (1 << (bits - 1)), (0, -count % 32)).unflatten(1, (-1, 8))  # [rows, units, 8]
    if bits in (2, 4, 8):
        per_byte = 8 // bits
        numbers = unsigned.unflatten(2, (bits, per_byte))  # [rows, units, bytes, numbers of a byte]
        stream = numbers[..., 0].clone()
        for position in range(1, per_byte):
            stream |= numbers[..., position] << (position * bits)
    else:
        unit = unsigned[..., 0].to(torch.int64)
        for position in range(1, 8):
            unit |= unsigned[..., position].to(torch.int64) << (position * bits)
        stream = unit[..., None].view(torch.uint8)[..., :bits]  # [rows, units, bytes]
    return stream.reshape(rows, -1).view(torch.int32)[:, : words(count, bits)].contiguous()


def unpack_rows(packed: Tensor, bits: int, count: int) -> Tensor:
    """Unpack words [rows, ceil(count * bits / 32)] int32 into codes [rows, count] int8; the inverse of ``pack_rows``.

    Raises:
        ValueError: the words are not int32, or too few or too many for ``count``.
    """
    if packed.dtype != torch.int32 or packed.ndim != 2 or packed.shape[1] != words(count, bits):
        raise ValueError(
            f"expected int32 words [rows, {words(count, bits)}] for {count} codes of {bits} bits, "
            f"got {packed.dtype} {tuple(packed.shape)}"
        )
    offset = 1 << (bits - 1)
    # A column of one word counts as contiguous whatever its strides, which a view as bytes does not accept.
    stream = packed.flatten().view(torch.uint8).view(len(packed), 4 * packed.shape[1])
    if bits == 8:
        return (stream - offset).view(torch.int8)[:, :count]
    if bits == 4:
        # Both numbers of a byte at once: the high one moves to the next byte of a 16-bit pair.
        pairs = stream.to(torch.int16)
        pairs |= pairs << 4
        pairs &= 0x0F0F
        codes = pairs.view(torch.int8)
    else:
        codes = _spread(stream, bits)
    codes -= offset
    return codes[:, :count]


def _spread(stream: Tensor, bits: int) -> Tensor:
    """Return the numbers [rows, n] int8 of a stream of bytes [rows, bytes]."""
    rows = stream.shape[0]
    units = F.pad(stream, (0, -stream.shape[1] % bits)).unflatten(1, (-1, bits))  # [rows, units, bits] bytes
    unit = F.pad(units, (0, 8 - bits)).view(torch.int64)[..., 0]  # eight numbers in the low bits of one int64
    numbers = torch.empty(*unit.shape, 8, dtype=torch.int8, device=stream.device)
    mask = (1 << bits) - 1
    for position in range(8):
        numbers[..., position] = (unit >> (position * bits)) & mask
    return numbers.view(rows, -1)
