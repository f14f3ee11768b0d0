"""Packed layers as operators: the numbers that they store."""

import pytest
import torch
from torch import nn

from qvggt.backends import pick
from qvggt.nn.linear import QuantLinear
from qvggt.onnx.layers import BlockedLinear, ExpandedWeight, block_size
from qvggt.quant.affine import quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme

SCHEMES = [
    Scheme(bits, group, symmetric) for bits in (2, 3, 4, 5, 8) for group in (16, 48, -1) for symmetric in (True, False)
]


def packed(scheme, width=96, rows=6):
    torch.manual_seed(0)
    layer = nn.Linear(width, rows)
    new = QuantLinear.like(layer, scheme, torch.float16, pick("cpu"))
    new.assign_weight(pack(quantize(layer.weight.detach(), new.scheme)))
    return new


def nibbles(rows):
    """Return the numbers of 4 bits in bytes [..., n]: [..., 2n], low ones first."""
    return torch.stack((rows & 15, rows >> 4), -1).flatten(-2)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_blocked_linear__stores_the_matrix_as_the_operator_reads_it(scheme):
    layer = packed(scheme)
    new = BlockedLinear(layer, 0)
    size, bits = new.attributes["block_size"], new.attributes["bits"]
    assert (size & (size - 1), 96 % size, bits) == (0, 0, 4 if scheme.bits <= 4 else 8)
    codes, zeros = new.codes, new.zero_point
    if bits == 4:
        codes, zeros = nibbles(codes), None if zeros is None else nibbles(zeros)[:, : 96 // size]
    zero = 1 << bits - 1 if zeros is None else zeros.float()[..., None]
    found = (codes.float() - zero) * new.scale[..., None]
    torch.testing.assert_close(found.flatten(1), layer.expanded(), rtol=1e-6, atol=0)


def test_block_size__groups_that_no_power_of_two_divides():
    assert block_size(packed(Scheme(4, 24))) is None
    assert block_size(packed(Scheme(4, 48))) == 16
    assert block_size(packed(Scheme(4, 64), width=256)) == 64


def test_expanded_weight__holds_codes_and_zero_points_as_they_are():
    layer = packed(Scheme(4, 24, symmetric=False))
    new = ExpandedWeight(layer)
    codes, zeros = new.codes.unflatten(1, (-1, 24)).float(), new.zero_point.float()
    found = ((codes - zeros[..., None]) * new.scale[..., None]).flatten(1)
    torch.testing.assert_close(found, layer.expanded(), rtol=1e-6, atol=0)
