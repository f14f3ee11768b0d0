"""Packed weights to test products with."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.packing import PackedWeight, pack
from qvggt.quant.scheme import Scheme

schemes = st.builds(Scheme, st.integers(2, 8), st.sampled_from((-1, 8, 32, 128)), st.booleans())


def weight_of(
    rows: int, width: int, scheme: Scheme, scale_dtype: torch.dtype = torch.float16
) -> tuple[Tensor, PackedWeight]:
    """Return seeded weights [rows, width] as they are after rounding, and packed."""
    generator = torch.Generator().manual_seed(rows * 1000 + width)
    quantized = quantize(torch.randn(rows, width, generator=generator) + 0.1, scheme, scale_dtype=scale_dtype)
    return dequantize(quantized), pack(quantized)
