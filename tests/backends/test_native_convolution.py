"""Convolutions in compiled code against those in double precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.backends import ConvGeometry
from qvggt.backends.cpu import CpuBackend
from qvggt.backends.cpu_native import CpuNativeBackend
from qvggt.backends.native.convolution import (
    Convolution,
    can_convolve,
    convolve,
    convolve_floats,
    round_kernel,
    uses_winograd,
)
from qvggt.backends.native.jobs import is_compiled
from qvggt.backends.native.library import unavailable_reason
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme

COMPILED = unavailable_reason() is None and is_compiled(Convolution)
pytestmark = pytest.mark.skipif(not COMPILED, reason="no compiled convolutions on this machine")


def pairs(least, most):
    return st.tuples(st.integers(least, most), st.integers(least, most))


def both(x, weight, bias, geometry):
    """What the compiled code says, and what is right."""
    found = convolve(x, round_kernel(weight.flatten(1), geometry), bias, geometry)
    return found, geometry.convolve(x.double(), weight.double(), None if bias is None else bias.double())


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


@given(
    st.integers(1, 2), st.integers(1, 40).map(lambda n: 2 * n), pairs(3, 30), st.integers(16, 70), pairs(1, 3),
    pairs(1, 2), pairs(0, 2), st.booleans(), st.booleans(), st.integers(1, 3),
)  # fmt: skip
@settings(deadline=None, max_examples=100)
def test_it_is_that_of_the_numbers(batch, channels, size, outputs, sides, stride, padding, has_bias, last, threads):
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(batch, channels, *size, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    weight = torch.randn(outputs, channels, *sides, generator=generator)
    bias = torch.randn(outputs, generator=generator) if has_bias else None
    found, exact = both(x, weight, bias, ConvGeometry(tuple(weight.shape), stride, padding))
    assert found.shape == exact.shape
    assert error(found, exact) < 2e-3


@given(st.integers(1, 2), st.integers(1, 20), pairs(1, 17), st.integers(16, 50), pairs(0, 2), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_squares_of_maps_that_are_transformed_give_the_same(batch, panels, size, outputs, padding, threads):
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(panels)
    x = torch.randn(batch, 16 * panels, *(side + 2 for side in size), generator=generator)
    weight, bias = torch.randn(outputs, 16 * panels, 3, 3, generator=generator), torch.randn(outputs)
    geometry = ConvGeometry(tuple(weight.shape), padding=padding)
    assert uses_winograd(geometry)
    found, exact = both(x, weight, bias, geometry)
    assert found.shape == exact.shape
    assert error(found, exact) < 2e-3
    floats = convolve_floats(x, weight.flatten(1), bias, geometry)
    assert floats.shape == exact.shape
    assert error(floats, exact) < 2e-6


@pytest.mark.parametrize("channels", [16, 128, 272])
def test_the_largest_numbers_of_transformed_maps_and_kernels_do_not_overflow(channels):
    signs = torch.tensor([1.0, 1, -1, -1]).repeat(3)
    x = torch.outer(signs, signs).expand(1, channels, 12, 12)  # four times as large at a position, once transformed
    weight = torch.zeros(16, channels, 3, 3)
    weight[:, :, 0, 0] = 1
    for sign in (1, -1):
        found, exact = both(sign * x, weight, None, ConvGeometry(tuple(weight.shape), padding=(1, 1)))
        assert error(found, exact) < 1e-3


@pytest.mark.parametrize(("channels", "sides"), [(700, (1, 1)), (300, (3, 3)), (304, (3, 3))])
def test_many_channels_do_not_overflow(channels, sides):
    x, weight = torch.ones(1, channels, 9, 9), torch.ones(16, channels, *sides)
    most = 1e-3 if uses_winograd(ConvGeometry(tuple(weight.shape))) else 1e-6
    found, exact = both(x, weight, None, ConvGeometry(tuple(weight.shape), padding=(1, 1)))
    assert error(found, exact) < most
    found, exact = both(-x, weight, None, ConvGeometry(tuple(weight.shape)))
    assert error(found, exact) < most


def test_threads_do_not_change_a_bit():
    x, weight = torch.randn(2, 32, 40, 33), torch.randn(48, 32, 3, 3)
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(both(x, weight, None, ConvGeometry(tuple(weight.shape), padding=(1, 1)))[0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_map_that_is_not_finite_shows_and_spoils_no_other(value):
    x, weight = torch.randn(2, 16, 12, 12), torch.randn(16, 16, 3, 3)
    x[1, 3, 4, 5] = value
    found, exact = both(x, weight, None, ConvGeometry(tuple(weight.shape), padding=(1, 1)))
    assert found[1].isnan().all()
    assert error(found[0], exact[0]) < 2e-3


def test_maps_and_outputs_of_zeros_stay_so():
    x, weight = torch.randn(2, 16, 8, 8), torch.randn(20, 16, 3, 3)
    x[0], weight[7] = 0, 0
    found, _ = both(x, weight, None, ConvGeometry(tuple(weight.shape)))
    assert not found[0].any()
    assert not found[:, 7].any()


def test_the_backend_takes_packed_weights_and_leaves_what_it_cannot_do_to_torch():
    backend = CpuNativeBackend()
    for outputs, channels, groups, dilation in (
        (40, 32, 1, 1),
        (8, 32, 1, 1),
        (32, 3, 1, 1),
        (32, 32, 2, 1),
        (32, 32, 1, 2),
    ):
        geometry = ConvGeometry((outputs, channels // groups, 3, 3), (1, 1), (1, 1), (dilation, dilation), groups)
        assert can_convolve(geometry) == ((outputs, channels, groups, dilation) == (40, 32, 1, 1))
        quantized = quantize(
            torch.randn(outputs, channels // groups * 9), Scheme(8, 128).for_width(channels // groups * 9)
        )
        x, bias = torch.randn(1, channels, 14, 14), torch.randn(outputs)
        found = backend.convolve(x, pack(quantized), bias, geometry)
        exact = geometry.convolve(x.double(), dequantize(quantized).double(), bias.double())
        assert error(found, exact) < 2e-3
        assert can_convolve(geometry) or torch.equal(found, CpuBackend().convolve(x, pack(quantized), bias, geometry))


@pytest.mark.parametrize(("side", "by_squares"), [(30, True), (10, False)])
def test_floats_go_by_squares_on_large_maps(side, by_squares):
    geometry = ConvGeometry((32, 16, 3, 3), padding=(1, 1))
    quantized = quantize(torch.randn(32, 144), Scheme(8, -1))
    x, bias = torch.randn(2, 16, side, side), torch.randn(32)
    found = CpuBackend().convolve(x, pack(quantized), bias, geometry)
    assert error(found, geometry.convolve(x.double(), dequantize(quantized).double(), bias.double())) < 2e-6
    assert found.is_contiguous(memory_format=torch.channels_last) == by_squares
    x.requires_grad_()
    assert CpuBackend().convolve(x, pack(quantized), bias, geometry).requires_grad
