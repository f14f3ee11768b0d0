"""Products in compiled code: exact but for the rounding of activations, on any number of threads."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.backends import pick
from qvggt.backends.cpu import CpuBackend
from qvggt.backends.cpu_native import CpuNativeBackend
from qvggt.backends.native import library as native
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.native.processors import X86, processor
from qvggt.backends.native.products import multiply, round_rows, supports
from qvggt.backends.plain import FEW_TOKENS
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme

BACKEND = CpuNativeBackend()
KIND = processor() or X86
needs_library = pytest.mark.skipif(unavailable_reason() is not None, reason="no native library on this machine")
schemes = st.builds(Scheme, st.integers(2, 8), st.sampled_from((-1, 4, 8, 32, 128)), st.booleans())


def weight_of(rows, width, scheme, scale_dtype=torch.float16):
    generator = torch.Generator().manual_seed(rows * 1000 + width)
    quantized = quantize(torch.randn(rows, width, generator=generator) + 0.1, scheme, scale_dtype=scale_dtype)
    return dequantize(quantized).double(), pack(quantized)


def close(found, expected):
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()


@needs_library
@given(
    schemes, st.integers(1, 70), st.integers(1, 80).map(lambda n: 4 * n), st.integers(1, 150), st.booleans(),
    st.integers(1, 3),
)  # fmt: skip
@settings(deadline=None, max_examples=100)
def test_products_are_those_of_the_numbers(scheme, rows, width, tokens, has_bias, threads):
    exact, weight = weight_of(rows, width, scheme)
    if not supports(weight):
        return
    torch.set_num_threads(threads)
    x = torch.randn(tokens, width, generator=torch.Generator().manual_seed(tokens))
    bias = torch.randn(rows) if has_bias else None
    shift = 0 if bias is None else bias
    rounded = round_rows(x)
    values = (rounded.codes.double() - 128) * rounded.scale[:, None]
    close(multiply(rounded, weight, bias), values @ exact.T + shift)
    close(multiply(x, weight, bias), x.double() @ exact.T + shift)


@needs_library
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_large_products_are_shared_out(threads):
    torch.set_num_threads(threads)
    exact, weight = weight_of(300, 1280, Scheme(4, 128))
    x = torch.randn(2500, 1280)
    rounded = round_rows(x)
    values = (rounded.codes.double() - 128) * rounded.scale[:, None]
    close(multiply(rounded, weight, None), values @ exact.T)


@needs_library
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("sign", [-1, 1])
def test_sums_never_overflow(bits, symmetric, sign):
    """All activations and all weights as large as they can be."""
    scheme = Scheme(bits, -1, symmetric)
    matrix = torch.full((3, 4096), float(sign))
    matrix[:, 0] = 0 if not symmetric else float(sign)
    quantized = quantize(matrix, scheme)
    x = torch.ones(70, 4096)
    for values in (x, -x):
        found = multiply(round_rows(values), pack(quantized), None)
        torch.testing.assert_close(
            found.double(), values.double() @ dequantize(quantized).double().T, rtol=1e-5, atol=0
        )


@needs_library
def test_activations_move_by_half_a_step_of_their_row_at_most():
    x = torch.randn(50, 70) * torch.logspace(-6, 6, 50)[:, None]
    rounded = round_rows(x)
    codes, scale = rounded.codes, rounded.scale[:, None]
    assert (((codes.float() - 128) * scale - x).abs() <= 0.5001 * scale).all()


@needs_library
def test_rows_of_zeros_stay_zero_and_rows_that_are_not_finite_answer_nan():
    _, weight = weight_of(8, 64, Scheme(4, 32))
    x = torch.randn(FEW_TOKENS + 6, 64)
    x[0], x[3, 5], x[4, 63] = 0, float("nan"), float("inf")
    found = BACKEND.linear(x, weight, None)
    assert (found[0] == 0).all()
    assert torch.isnan(found[3:5]).all()
    assert torch.isfinite(found[5:]).all()


@needs_library
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_error_is_that_of_8_bits(dtype):
    exact, weight = weight_of(256, 512, Scheme(4, 128))
    x = torch.randn(3, 100, 512)
    expected = F.linear(x.double(), exact)
    found = BACKEND.linear(x.to(dtype), weight, None)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert float((found - expected).norm() / expected.norm()) < 0.012


@needs_library
def test_few_tokens_are_multiplied_in_float_in_either_mode():
    exact, weight = weight_of(24, 96, Scheme(4, 32))
    x = torch.randn(2, 3, 96)
    for backend in (BACKEND, CpuBackend()):
        close(backend.linear(x, weight, None), F.linear(x.double(), exact))


def test_a_weight_whose_groups_are_no_steps_of_four_is_multiplied_in_float():
    exact, weight = weight_of(24, 9, Scheme(4, -1))
    assert not supports(weight)
    x = torch.randn(FEW_TOKENS, 9)
    close(BACKEND.linear(x, weight, None), F.linear(x.double(), exact))


def test_without_it_other_products_serve(monkeypatch):
    monkeypatch.setenv("QVGGT_NATIVE", "0")
    assert pick("cpu", "int8").name in ("cpu-int8", "cpu")
    exact, weight = weight_of(24, 96, Scheme(4, 32))
    x = torch.randn(5, 96)
    close(CpuBackend().linear(x, weight, None), F.linear(x.double(), exact))


@needs_library
@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_it_works_in_a_forked_process():
    code = (
        "import os, sys, torch; torch.set_num_threads(2)\n"
        "from qvggt.backends.native.products import round_rows\n"
        "x = torch.randn(3000, 1000); round_rows(x)\n"
        "child = os.fork()\n"
        "if not child: round_rows(x); os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


@needs_library
@given(schemes, st.integers(1, 70), st.integers(1, 300), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_expansion_equals_that_without_compiled_code_to_the_bit(scheme, rows, width, threads):
    _, weight = weight_of(rows, width, scheme)
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        found = CpuBackend().expand(weight, torch.float32)
        patch.setenv("QVGGT_NATIVE", "0")
        assert torch.equal(found, CpuBackend().expand(weight, torch.float32))


def products_of_every_kind():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(21, 256, generator=generator)
    schemes = [
        Scheme(bits, group, symmetric) for bits in range(2, 9) for group in (-1, 8, 32) for symmetric in (True, False)
    ]
    return [multiply(given, weight_of(35, 256, scheme)[1], None) for scheme in schemes for given in (x, round_rows(x))]


@pytest.fixture(params=[("-DEMULATE_VNNI",), ("-DEMULATE_VNNI", "-DEMULATE_WIDE")], ids=["256 bits", "512 bits"])
def emulated_vnni(request, monkeypatch):
    """Make the library anew as for a CPU with VNNI, whose instructions are put together from others."""
    usual = products_of_every_kind()
    monkeypatch.setattr(native, "special_flags", lambda _: request.param)
    native._outcome.cache_clear()
    yield usual
    native._outcome.cache_clear()


@needs_library
@pytest.mark.native
def test_fours_of_products_are_added_to_the_same_bits(emulated_vnni):
    assert native.library() is not None
    assert all(map(torch.equal, emulated_vnni, products_of_every_kind()))
