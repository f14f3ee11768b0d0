import logging

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.backends import BACKENDS, pick
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

EXACT = {name: backend for name, backend in BACKENDS.items() if backend.compute == "float32"}
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
schemes = st.builds(Scheme, st.integers(2, 8), st.sampled_from((-1, 8, 32, 128)), st.booleans())


def packed(rows, width, scheme, scale_dtype=torch.float16):
    generator = torch.Generator().manual_seed(rows * 1000 + width)
    quantized = quantize(torch.randn(rows, width, generator=generator) + 0.1, scheme, scale_dtype=scale_dtype)
    return quantized, pack(quantized)


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
@given(schemes, st.integers(1, 40), st.integers(1, 200), st.sampled_from(FLOATS), st.sampled_from(FLOATS))
@settings(deadline=None, max_examples=60)
def test_expansion_equals_the_reference_bit_for_bit(backend, scheme, rows, width, dtype, scale_dtype):
    quantized, weight = packed(rows, width, scheme, scale_dtype)
    expanded = backend.expand(weight, dtype)
    assert expanded.dtype == dtype
    assert torch.equal(expanded, dequantize(quantized).to(dtype))


@pytest.mark.parametrize("backend", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_equal_float64_within_the_types_precision(backend, dtype, tolerance, bias):
    quantized, weight = packed(24, 96, Scheme(4, 32))
    x = torch.randn(2, 5, 96).to(dtype)
    shift = torch.randn(24) if bias else None
    exact = F.linear(x.double(), dequantize(quantized).double(), None if shift is None else shift.double())
    result = backend.linear(x, backend.prepare(weight, len(x)), shift)
    assert result.dtype == dtype
    assert (result.double() - exact).abs().max() <= tolerance * exact.abs().max()


@pytest.mark.parametrize("backend", EXACT.values(), ids=EXACT)
def test_gradients_reach_the_activations(backend):
    quantized, weight = packed(8, 32, Scheme())
    x = torch.randn(3, 32, requires_grad=True)
    backend.linear(x, backend.prepare(weight, len(x)), None).sum().backward()
    assert torch.allclose(x.grad, dequantize(quantized).sum(0).expand(3, -1), atol=1e-6)


@pytest.mark.parametrize(
    ("device", "name"), [("cpu", "cpu"), ("cuda", "cuda"), ("cuda:1", "cuda"), ("mps", "plain"), ("meta", "plain")]
)
def test_a_device_gets_what_is_made_for_it(device, name):
    assert pick(device).name == name


@pytest.mark.parametrize(("name", "device"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda-int8", "mps")])
def test_what_is_made_for_another_device_says_so(name, device):
    assert f"the {name} backend cannot run on {device}" in (
        BACKENDS[name].unsupported_reason(torch.device(device)) or ""
    )


def test_devices_without_integer_products_get_floats(caplog):
    with caplog.at_level(logging.WARNING):
        assert pick("mps", "int8").name == "plain"
    assert "not on mps; computing in float32" in caplog.text


def test_an_unknown_compute_mode_is_refused():
    with pytest.raises(QvggtError, match=r"'int3'.*float32, bfloat16, float16, int8"):
        pick("cpu", "int3")
