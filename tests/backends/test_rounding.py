"""Rounding for integer products moves nothing by more than half a step."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_weights import schemes, weight_of

from qvggt.backends.rounding import ZERO, per_channel, per_token
from qvggt.quant.affine import quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme


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


def test_signed_codes_mean_the_same():
    x = torch.randn(50, 64) * torch.logspace(-6, 6, 50)[:, None]
    codes, scale = per_token(x, signed=True)
    assert codes.dtype == torch.int8
    assert ((codes * scale - x).abs() <= 0.5001 * scale).all()


def test_tokens_of_zeros_stay_zero():
    codes, scale = per_token(torch.zeros(2, 8))
    assert (codes == ZERO).all()
    assert torch.isfinite(scale).all()
