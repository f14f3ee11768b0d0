"""Integer products for CUDA, on the CPU, where torch has the same product without its limits on shapes."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_weights import schemes, weight_of

from qvggt.backends import pick
from qvggt.backends.cuda_int8 import CudaInt8Backend
from qvggt.backends.plain import FEW_TOKENS
from qvggt.backends.rounding import per_channel, per_token
from qvggt.quant.scheme import Scheme

BACKEND = CudaInt8Backend()


@given(schemes, st.integers(1, 70), st.integers(1, 300), st.integers(1, 40), st.booleans())
@settings(deadline=None, max_examples=40)
def test_products_are_those_of_the_integers(scheme, rows, width, tokens, has_bias):
    _, weight = weight_of(rows, width, scheme)
    x = torch.randn(2, tokens, width, generator=torch.Generator().manual_seed(tokens))
    bias = torch.randn(rows) if has_bias else None
    integers, scale = per_channel(weight, 127)
    codes, x_scale = per_token(x.flatten(0, 1), signed=True)
    expected = codes.double() @ integers.double().T * scale * x_scale + (0 if bias is None else bias)
    found = BACKEND.linear(x, BACKEND.prepare(weight, FEW_TOKENS), bias)
    assert found.shape == (2, tokens, rows)
    torch.testing.assert_close(found.flatten(0, 1).double(), expected, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 70), st.integers(1, 300), st.integers(1, 40))
@settings(deadline=None, max_examples=40)
def test_shapes_are_those_that_cublas_takes(rows, width, tokens):
    _, weight = weight_of(rows, width, Scheme(4, 32))
    product, seen = torch._int_mm, []

    def watched(a, b):
        seen.append((a.shape, b.shape))
        return product(a, b)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "_int_mm", watched)
        BACKEND.linear(torch.randn(tokens, width), BACKEND.prepare(weight, FEW_TOKENS), None)
    ((a, b),) = seen
    assert a[0] > 16
    assert a[1] == b[0]
    assert a[1] % 8 == b[1] % 8 == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_error_is_that_of_8_bits(dtype):
    exact, weight = weight_of(256, 512, Scheme(4, 128))
    x = torch.randn(300, 512)
    expected = F.linear(x, exact)
    found = BACKEND.linear(x.to(dtype), BACKEND.prepare(weight, len(x)), None)
    assert found.dtype == dtype
    assert float((found.float() - expected).norm() / expected.norm()) < 0.012


def test_few_tokens_are_multiplied_in_float():
    exact, weight = weight_of(24, 96, Scheme(4, 32))
    x = torch.randn(FEW_TOKENS - 1, 96)
    torch.testing.assert_close(BACKEND.linear(x, BACKEND.prepare(weight, len(x)), None), F.linear(x, exact))


@pytest.mark.parametrize(("capability", "name"), [((7, 0), "cuda"), ((7, 5), "cuda-int8"), ((9, 0), "cuda-int8")])
def test_a_gpu_without_integer_units_gets_floats(monkeypatch, capability, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick("cuda", "int8").name == name
