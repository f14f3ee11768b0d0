"""The fused kernel, interpreted on the CPU, against the reference; ``test_fused`` runs this with TRITON_INTERPRET=1."""

import pytest
import torch
from packed_weights import weight_of

from qvggt.backends.cuda import CudaBackend
from qvggt.backends.fused import TILES, multiply, supports
from qvggt.backends.reference import ReferenceBackend
from qvggt.quant.scheme import Scheme

REFERENCE = ReferenceBackend()
TOLERANCES = {torch.float32: 2e-6, torch.float16: 1e-3}
"""Not bfloat16, which the interpreter multiplies as if it were an integer; ``fused_compiled`` has it."""


def check(weight, rows, dtype=torch.float32, bias=None, tiles=TILES):
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, weight.shape[1], generator=generator).to(dtype)
    expected = REFERENCE.linear(x.double(), weight, bias).double()
    for tile in tiles:
        found = multiply(x, weight, bias, tile)
        assert found.dtype == dtype
        assert (found.double() - expected).abs().max() <= TOLERANCES[dtype] * expected.abs().max(), tile


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("group", [16, 32, 64, 128, -1])
def test_multiply__equals_the_reference(bits, group):
    symmetric = (bits == 4) == (group in (32, 128))  # either with every width and with every group
    _, weight = weight_of(41, 256, Scheme(bits, group, symmetric))
    check(weight, 19, bias=torch.randn(41))


SHAPES = [(1, 16, -1), (33, 100, -1), (130, 384, 128), (64, 96, 32)]


@pytest.mark.parametrize(
    ("rows", "shape"),
    [(rows, SHAPES[i]) for i, rows in enumerate((1, 16, 17, 130))] + [(17, SHAPES[1]), (130, SHAPES[2])],
)
def test_multiply__of_blocks_that_are_not_full(rows, shape):
    outputs, inputs, group = shape
    _, weight = weight_of(outputs, inputs, Scheme(4, group, symmetric=False))
    check(weight, rows)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_types(dtype, scale_dtype):
    _, weight = weight_of(48, 128, Scheme(4, 64), scale_dtype)
    check(weight, 20, dtype, torch.randn(48).to(dtype))


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_codes_that_words_cut_in_two_are_not_taken(bits):
    _, weight = weight_of(8, 32, Scheme(bits, 32))
    assert not supports(weight)
    with pytest.raises(ValueError, match="is not supported"):
        multiply(torch.randn(2, 32), weight, None, TILES[0])


def test_groups_that_steps_cannot_be_cut_from_are_not_taken():
    assert not supports(weight_of(8, 588, Scheme(4, 98))[1])
    assert not supports(weight_of(8, 32, Scheme(4, 8))[1])


@pytest.mark.parametrize("x", [torch.randn(2, 16), torch.randn(32), torch.randn(0, 32), torch.randn(2, 32).double()])
def test_other_shapes_and_types_are_refused(x):
    with pytest.raises(ValueError, match=r"expected x \[rows, 32\]"):
        multiply(x, weight_of(8, 32, Scheme())[1], None, TILES[0])


def test_every_way_of_the_backend_computes_the_same():
    _, weight = weight_of(24, 96, Scheme(4, 32))
    x, bias = torch.randn(2, 5, 96), torch.randn(24)
    ways = CudaBackend().candidates(x, weight, bias)
    assert list(ways) == ["expand", "fused 16 x 32", "fused 64 x 64", "fused 128 x 128"]
    for run in ways.values():
        torch.testing.assert_close(run(), REFERENCE.linear(x, weight, bias))


def test_other_bits_and_types_are_expanded():
    assert list(CudaBackend().candidates(torch.randn(2, 32), weight_of(8, 32, Scheme(3))[1], None)) == ["expand"]
    assert list(CudaBackend().candidates(torch.randn(2, 32).double(), weight_of(8, 32, Scheme(4))[1], None)) == [
        "expand"
    ]
