"""Integer products: exact but for the rounding of activations and the second rounding of weights."""

import logging

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_weights import schemes, weight_of

from qvggt.backends import pick
from qvggt.backends.cpu_int8 import CpuInt8Backend, largest_weight
from qvggt.backends.plain import FEW_TOKENS
from qvggt.backends.rounding import ZERO, per_channel, per_token
from qvggt.quant.affine import quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme

BACKEND = CpuInt8Backend()
needs_kernel = pytest.mark.skipif(
    BACKEND.unsupported_reason(torch.device("cpu")) is not None, reason="no integer products on this machine"
)


@needs_kernel
@given(schemes, st.integers(1, 70), st.integers(1, 300), st.integers(1, 40), st.booleans())
@settings(deadline=None, max_examples=40)
def test_products_are_those_of_the_integers(scheme, rows, width, tokens, has_bias):
    _, weight = weight_of(rows, width, scheme)
    x = torch.randn(2, tokens, width, generator=torch.Generator().manual_seed(tokens))
    bias = torch.randn(rows) if has_bias else None
    integers, scale = per_channel(weight, largest_weight())
    codes, x_scale = per_token(x.flatten(0, 1))
    sums = (codes.double() - ZERO) @ integers.double().T
    expected = sums * scale * x_scale + (0 if bias is None else bias)
    found = BACKEND.linear(x, BACKEND.prepare(weight, FEW_TOKENS), bias)
    assert found.shape == (2, tokens, rows)
    torch.testing.assert_close(found.flatten(0, 1).double(), expected, rtol=1e-4, atol=1e-4)


def test_few_tokens_are_multiplied_in_float():
    exact, weight = weight_of(24, 96, Scheme(4, 32))
    x = torch.randn(FEW_TOKENS - 1, 96)
    found = BACKEND.linear(x, BACKEND.prepare(weight, len(x)), None)
    torch.testing.assert_close(found, F.linear(x, exact))


@needs_kernel
def test_sums_never_overflow():
    weight = pack(quantize(torch.ones(32, 4096), Scheme(8, -1)))
    x = torch.ones(4, 4096)
    found = BACKEND.linear(x, BACKEND.prepare(weight, FEW_TOKENS), None)
    torch.testing.assert_close(found, torch.full((4, 32), 4096.0), rtol=0.01, atol=0)
    found = BACKEND.linear(-x, BACKEND.prepare(weight, FEW_TOKENS), None)
    torch.testing.assert_close(found, torch.full((4, 32), -4096.0), rtol=0.01, atol=0)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_error_is_that_of_8_bits(dtype):
    exact, weight = weight_of(256, 512, Scheme(4, 128))
    x = torch.randn(300, 512)
    expected = F.linear(x, exact)
    found = BACKEND.linear(x.to(dtype), BACKEND.prepare(weight, FEW_TOKENS), None)
    assert found.dtype == dtype
    assert float((found.float() - expected).norm() / expected.norm()) < (0.012 if largest_weight() == 127 else 0.02)


@pytest.mark.parametrize(
    ("lacks", "words"), [("_is_avx2_supported", "no fast integer products"), ("", "cannot run on cuda")]
)
def test_what_cannot_multiply_integers_says_so(monkeypatch, lacks, words):
    if lacks:
        monkeypatch.setattr(torch.cpu, lacks, lambda: False)
    assert words in (BACKEND.unsupported_reason(torch.device("cpu" if lacks else "cuda")) or "")


def test_where_integers_cannot_be_multiplied_floats_are(monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert pick("cpu", "int8").name == "cpu"
    assert "no fast integer products (AVX2 or later on x86); computing in float" in caplog.text
