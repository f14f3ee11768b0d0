import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.quant.activations import fake_quantize_tokens, layer_input
from qvggt.quant.hadamard import rotate
from qvggt.quant.scheme import Scheme

BITS = [4, 5, 6, 7, 8]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def straight(x, bits):
    """Token by token, value by value."""
    result = torch.zeros_like(x)
    for index, token in enumerate(x):
        step = token.abs().max() * 2 / (2**bits - 1)
        for position, value in enumerate(token):
            if step > 0:
                code = min(max(torch.round(value / step), -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)
                result[index, position] = code * step
    return result


@pytest.mark.parametrize("bits", BITS)
def test_tokens_are_rounded_as_in_a_straight_loop(bits):
    x = random(6, 33) * torch.logspace(-3, 3, 6)[:, None]
    # The largest magnitude lies half a step beyond the last code; which side the loop rounds it to is its last bit.
    inside = x.abs() < x.abs().amax(-1, keepdim=True)
    assert torch.allclose(fake_quantize_tokens(x, bits)[inside], straight(x, bits)[inside], rtol=1e-5)


@given(st.sampled_from(BITS), st.integers(0, 1000), st.floats(-30, 30))
@settings(deadline=None, max_examples=50)
def test_no_error_exceeds_half_a_step_and_signs_stay(bits, seed, exponent):
    x = random(4, 3, 20, seed=seed) * 2**exponent
    rounded = fake_quantize_tokens(x, bits)
    largest = x.abs().amax(-1, keepdim=True)
    step = 2 * largest / (2**bits - 1)
    assert bool(((rounded - x).abs() <= 0.5 * step + 1e-6 * largest).all())  # and what float32 itself rounds
    assert bool((rounded * x >= 0).all())


def test_every_token_has_its_own_scale():
    x = random(5, 16)
    together = fake_quantize_tokens(x, 4)
    assert all(torch.equal(together[i], fake_quantize_tokens(x[i], 4)) for i in range(5))
    x[0] *= 1000
    assert torch.equal(fake_quantize_tokens(x, 4)[1:], together[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_types_are_kept_and_zeros_stay_zeros(dtype):
    x = random(3, 64).to(dtype)
    x[1] = 0
    rounded = fake_quantize_tokens(x, 8)
    assert rounded.dtype == dtype
    assert torch.equal(rounded[1], x[1])
    assert torch.equal(rounded, fake_quantize_tokens(x.float(), 8).to(dtype))
    assert len(rounded[0].unique()) <= 256


@pytest.mark.parametrize("value", [1e-45, 1e-40])
def test_the_smallest_numbers_do_no_harm(value):
    x = torch.full((1, 8), value)
    assert bool(torch.isfinite(fake_quantize_tokens(x, 8)).all())
    assert float(fake_quantize_tokens(x, 8).abs().max()) <= 1.01 * value


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_none_are_not_hidden(value):
    x = random(2, 8)
    x[0, 3] = value
    rounded = fake_quantize_tokens(x, 8)
    assert bool(rounded[0].isnan().any())
    assert not bool(rounded[1].isnan().any())


def test_the_error_falls_as_bits_rise():
    x = random(50, 128)
    errors = [float((fake_quantize_tokens(x, bits) - x).norm() / x.norm()) for bits in BITS]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


def test_a_layers_input_is_rotated_and_then_rounded():
    x = random(3, 64)
    assert layer_input(x, Scheme()) is x
    assert torch.equal(layer_input(x, Scheme(rotation=True)), rotate(x))
    assert torch.equal(layer_input(x, Scheme(activation_bits=8)), fake_quantize_tokens(x, 8))
    both = layer_input(x, Scheme(activation_bits=4, rotation=True))
    assert torch.equal(both, fake_quantize_tokens(rotate(x), 4))
    half = layer_input(x.bfloat16(), Scheme(activation_bits=4, rotation=True))
    assert torch.equal(half, fake_quantize_tokens(rotate(x.bfloat16().float()), 4).bfloat16())


def test_the_ecosystems_library_rounds_the_same():
    library = pytest.importorskip("compressed_tensors.quantization")
    forward = pytest.importorskip("compressed_tensors.quantization.lifecycle.forward")
    helpers = pytest.importorskip("compressed_tensors.quantization.utils.helpers")
    x = random(2, 7, 96)
    inside = x.abs() < x.abs().amax(-1, keepdim=True)  # the largest magnitude is half-way between two codes
    for bits in BITS:
        args = library.QuantizationArgs(num_bits=bits, symmetric=True, strategy="token", dynamic=True)
        scale, zero_point = helpers.compute_dynamic_scales_and_zp(x, args, torch.nn.Linear(96, 1))
        theirs = forward.fake_quantize(x, scale, zero_point, args)
        assert torch.allclose(fake_quantize_tokens(x, bits)[inside], theirs[inside], rtol=1e-5)
