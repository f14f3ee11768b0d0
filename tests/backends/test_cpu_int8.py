"""Integer products: exact but for the rounding of activations and the second rounding of weights."""

import logging

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.backends import pick
from qvggt.backends.cpu import FEW_TOKENS
from qvggt.backends.cpu_int8 import ZERO, CpuInt8Backend, largest_weight, per_channel, per_token
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme

BACKEND = CpuInt8Backend()
needs_kernel = pytest.mark.skipif(
    BACKEND.unsupported_reason(torch.device("cpu")) is not None, reason="no integer products on this machine"
)
schemes = st.builds(Scheme, st.integers(2, 8), st.sampled_from((-1, 8, 32, 128)), st.booleans())


def weight_of(rows, width, scheme, scale_dtype=torch.float16):
    generator = torch.Generator().manual_seed(rows * 1000 + width)
    quantized = quantize(torch.randn(rows, width, generator=generator) + 0.1, scheme, scale_dtype=scale_dtype)
    return dequantize(quantized), pack(quantized)


@given(schemes, st.integers(1, 40), st.integers(1, 200), st.sampled_from((63, 127)))
@settings(deadline=None, max_examples=60)
def test_weights_move_by_half_a_step_of_their_channel_at_most(scheme, rows, width, largest):
    exact, weight = weight_of(rows, width, scheme)
    integers, scale = per_channel(weight, largest)
    assert integers.dtype == torch.int8
    assert integers.abs().max() <= largest
    assert ((integers * scale[:, None] - exact).abs() <= scale[:, None] * 0.5001).all()


def test_the_largest_weight_of_a_channel_takes_the_largest_integer():
    exact, weight = weight_of(16, 64, Scheme(4, 16, symmetric=False))
    integers, _ = per_channel(weight, 127)
    assert (integers.abs().amax(1) == 127).all()
    assert (integers.abs().argmax(1) == exact.abs().argmax(1)).all()


def test_channels_of_zeros_stay_zero():
    weight = pack(quantize(torch.zeros(3, 32), Scheme(4, 16)))
    integers, scale = per_channel(weight, 127)
    assert not integers.any()
    assert (scale > 0).all()


def test_activations_move_by_half_a_step_of_their_token_at_most():
    x = torch.randn(50, 64) * torch.logspace(-6, 6, 50)[:, None]
    codes, scale = per_token(x)
    assert codes.dtype == torch.uint8
    assert (((codes.float() - ZERO) * scale - x).abs() <= 0.5001 * scale).all()


def test_tokens_of_zeros_stay_zero():
    codes, scale = per_token(torch.zeros(2, 8))
    assert (codes == ZERO).all()
    assert torch.isfinite(scale).all()


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


@pytest.mark.parametrize(("lacks", "words"), [("_is_avx2_supported", "no fast integer products"), ("", "not for cuda")])
def test_what_cannot_multiply_integers_says_so(monkeypatch, lacks, words):
    if lacks:
        monkeypatch.setattr(torch.cpu, lacks, lambda: False)
    assert words in (BACKEND.unsupported_reason(torch.device("cpu" if lacks else "cuda")) or "")


def test_where_integers_cannot_be_multiplied_floats_are(monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert pick("cpu", "int8").name == "cpu"
    assert "no fast integer products (AVX2 or later on x86); computing in float" in caplog.text
