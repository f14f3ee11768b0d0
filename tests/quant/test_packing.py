import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.quant.affine import quantize
from qvggt.quant.packing import pack, pack_rows, packed_layout, unpack, unpack_rows, words
from qvggt.quant.scheme import Scheme


def random_codes(rows, count, bits, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(1 << (bits - 1)), 1 << (bits - 1), (rows, count), generator=generator).to(torch.int8)


def pack_slowly(row, bits):
    """The layout's definition, with Python's unlimited integers as the stream of bits."""
    stream = sum((code + (1 << (bits - 1))) << (i * bits) for i, code in enumerate(row))
    return [(stream >> (32 * i)) & 0xFFFFFFFF for i in range(-(-len(row) * bits // 32))]


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_unpack_rows__a_transposed_column_of_one_word(bits):
    zeros = torch.arange(3, dtype=torch.int8)[None].repeat(5, 1)  # zero points [groups, out] of 3 output channels
    stored = pack_rows(zeros, bits).T.contiguous()  # [1, 5]
    assert torch.equal(unpack_rows(stored.T, bits, 3), zeros)


@given(st.integers(2, 8), st.integers(1, 4), st.integers(1, 200), st.integers(0, 1000))
@settings(deadline=None, max_examples=150)
def test_unpack_undoes_pack_and_pack_is_the_defined_stream(bits, rows, count, seed):
    codes = random_codes(rows, count, bits, seed)
    packed = pack_rows(codes, bits)
    assert packed.shape == (rows, words(count, bits))
    assert torch.equal(unpack_rows(packed, bits, count), codes)
    assert [[word & 0xFFFFFFFF for word in row] for row in packed.tolist()] == [
        pack_slowly(row, bits) for row in codes.tolist()
    ]


def test_golden_words():
    assert pack_rows(torch.arange(-8, 8, dtype=torch.int8)[None], 4).tolist() == [[0x76543210, 0xFEDCBA98 - (1 << 32)]]
    assert pack_rows(torch.tensor([[-4, -3, -2, -1, 0, 1, 2, 3]], dtype=torch.int8), 3).tolist() == [[0xFAC688]]


@given(st.integers(2, 8), st.integers(1, 70), st.integers(1, 70))
@settings(deadline=None, max_examples=60)
def test_packing_equals_the_library_and_reads_it(bits, rows, count):
    library = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    codes = random_codes(rows, count, bits)
    theirs = library.pack_to_int32(codes, bits)
    assert torch.equal(pack_rows(codes, bits), theirs)
    assert torch.equal(unpack_rows(theirs, bits, count), codes)
    assert torch.equal(library.unpack_from_int32(pack_rows(codes, bits), bits, codes.shape), codes)


@pytest.mark.parametrize("bits", range(2, 9))
def test_zero_points_go_down_the_columns_as_the_library_packs_them(bits):
    library = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    quantized = quantize(torch.randn(37, 64) + 0.5, Scheme(bits, 32, symmetric=False))
    packed = pack(quantized)
    assert quantized.grid.zero_point is not None
    assert torch.equal(packed.zero_point, library.pack_to_int32(quantized.grid.zero_point, bits, packed_dim=0))


@pytest.mark.parametrize("symmetric", [True, False])
def test_unpack_undoes_pack_for_whole_weights(symmetric):
    quantized = quantize(torch.randn(10, 96), Scheme(5, 32, symmetric))
    again = unpack(pack(quantized))
    assert torch.equal(again.codes, quantized.codes)
    assert torch.equal(again.grid.scale, quantized.grid.scale)
    if not symmetric:
        assert torch.equal(again.grid.zero_point, quantized.grid.zero_point)


@pytest.mark.parametrize("symmetric", [True, False])
def test_layout_is_what_packing_gives(symmetric):
    scheme = Scheme(3, 128, symmetric)
    packed = pack(quantize(torch.randn(20, 588), scheme))
    layout = packed_layout((20, 588), scheme, torch.float16)
    assert {name: (t.dtype, tuple(t.shape)) for name, t in packed.tensors().items()} == dict(layout)


def test_wrong_types_and_sizes_are_refused():
    with pytest.raises(ValueError, match="int8"):
        pack_rows(torch.zeros(2, 8), 4)
    with pytest.raises(ValueError, match=r"\[rows, 2\] for 9 codes of 4 bits"):
        unpack_rows(torch.zeros(2, 1, dtype=torch.int32), 4, 9)


def test_rows_that_are_a_view_of_something_larger_pack_the_same():
    codes = random_codes(6, 40, 4)
    assert torch.equal(pack_rows(codes.T.contiguous().T, 4), pack_rows(codes, 4))
