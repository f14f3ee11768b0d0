import doctest

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag, hadamard

from qvggt.quant import hadamard as hadamard_module
from qvggt.quant.hadamard import hadamard_size, rotate, rotate_weight


def dense(width):
    size = hadamard_size(width)
    return torch.from_numpy(block_diag(*[hadamard(size) / size**0.5] * (width // size))).float()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_examples_in_docstrings():
    assert doctest.testmod(hadamard_module).failed == 0


@given(st.integers(1, 10_000))
def test_blocks_are_the_largest_power_of_two_that_divides(width):
    size = hadamard_size(width)
    assert size.bit_count() == 1
    assert width % size == 0
    assert width // size % 2 == 1


def test_a_width_that_is_none_is_refused():
    with pytest.raises(ValueError, match="got 0"):
        hadamard_size(0)


@pytest.mark.parametrize("width", [1, 2, 4, 6, 8, 32, 64, 96, 588, 1024])
def test_rotation_is_the_product_with_sylvesters_blocks(width):
    x = random(3, width)
    assert torch.allclose(rotate(x), x @ dense(width), atol=1e-5)


@given(st.integers(1, 200), st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_rotation_is_its_own_inverse_and_keeps_lengths_and_products(width, seed):
    x, y = random(2, 5, width, seed=seed)
    assert torch.allclose(rotate(rotate(x)), x, atol=1e-5)
    assert torch.allclose(rotate(x).norm(dim=-1), x.norm(dim=-1), rtol=1e-5)
    assert torch.allclose(rotate(x) @ rotate(y).T, x @ y.T, atol=1e-4)


@pytest.mark.parametrize("width", [9, 1031])
def test_odd_widths_stay_as_they_are(width):
    x = random(2, width)
    assert torch.equal(rotate(x), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_rounded_once(dtype):
    x = random(2, 3, 96).to(dtype)
    assert rotate(x).dtype == dtype
    assert torch.allclose(rotate(x), rotate(x.double()).to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_one_channel_is_spread_evenly_over_its_block():
    x = torch.zeros(1, 128)
    x[0, 77] = 8 * 128**0.5
    assert torch.allclose(rotate(x).abs(), torch.full((1, 128), 8.0))


def test_weights_are_rotated_as_float32_matrices():
    weight = random(8, 96).half()
    rotated = rotate_weight(weight)
    assert (rotated.dtype, rotated.shape) == (torch.float32, weight.shape)
    x = random(5, 96)
    assert torch.allclose(rotate(x) @ rotated.T, x @ weight.float().T, atol=1e-5)
