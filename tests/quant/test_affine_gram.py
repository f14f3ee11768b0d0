"""Grids that are fitted to what a layer's inputs make of its errors."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.quant.affine import dequantize, fit_grid, quantize
from qvggt.quant.scheme import Scheme

mse_schemes = st.builds(Scheme, st.integers(2, 8), st.sampled_from((-1, 4, 16, 128)), st.booleans(), st.just("mse"))


def drawn(rows, width, seed, outliers=True):
    """Return a weight [rows, width] and the Gram matrix of inputs some of whose channels stand out."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, width, generator=generator)
    inputs = torch.randn(3 * width, width, generator=generator) @ torch.randn(width, width, generator=generator)
    if outliers:
        inputs[:, :: max(1, width // 3)] *= 30
    return weight, inputs.T @ inputs


def group_errors(weight, scheme, grid, gram):
    """Return e G e of every group [out, groups], in float64."""
    difference = (dequantize(quantize(weight, scheme, grid)) - weight).double()
    size = weight.shape[1] // grid.scale.shape[1]
    columns = []
    for at in range(0, weight.shape[1], size):
        part = difference[:, at : at + size]
        columns.append(((part @ gram[at : at + size, at : at + size].double()) * part).sum(1))
    return torch.stack(columns, 1)


@given(st.integers(1, 6), st.sampled_from((1, 4, 16, 30, 64)), mse_schemes, st.integers(0, 2**31))
@settings(deadline=None, max_examples=80)
def test_no_group_has_a_larger_output_error_than_on_the_full_range(rows, width, scheme, seed):
    weight, gram = drawn(rows, width, seed)
    weighted = group_errors(weight, scheme, fit_grid(weight, scheme, gram=gram), gram)
    full = group_errors(weight, scheme, fit_grid(weight, replace(scheme, scale_rule="absmax")), gram)
    unweighted = group_errors(weight, scheme, fit_grid(weight, scheme), gram)
    for other in (full, unweighted):
        assert (weighted <= other * (1 + 1e-4) + 1e-5 * gram.abs().max()).all()


@given(st.integers(1, 6), st.sampled_from((4, 16, 64)), mse_schemes, st.integers(0, 2**31), st.floats(0.01, 100))
@settings(deadline=None, max_examples=40)
def test_inputs_that_are_all_alike_weigh_nothing(rows, width, scheme, seed, power):
    weight, _ = drawn(rows, width, seed)
    found, expected = fit_grid(weight, scheme, gram=torch.eye(width) * power), fit_grid(weight, scheme)
    identity = torch.eye(width)
    assert torch.allclose(
        group_errors(weight, scheme, found, identity), group_errors(weight, scheme, expected, identity), rtol=1e-4
    )


def test_the_absmax_rule_takes_no_notice():
    weight, gram = drawn(4, 32, 0)
    scheme = Scheme(4, 16)
    assert torch.equal(fit_grid(weight, scheme, gram=gram).scale, fit_grid(weight, scheme).scale)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_large_weight_on_an_input_that_never_comes_is_clipped(symmetric):
    weight, _ = drawn(1, 16, 1)
    weight[0, 3] = 3 * weight.abs().max()
    gram = torch.eye(16)
    gram[3, 3] = 0
    scheme = Scheme(4, -1, symmetric, "mse")
    found = fit_grid(weight, scheme, gram=gram)
    assert found.scale < fit_grid(weight, scheme).scale
    assert found.scale < (0.6 if symmetric else 1) * fit_grid(weight, replace(scheme, scale_rule="absmax")).scale


def test_inputs_that_never_come_leave_the_full_range():
    weight, _ = drawn(3, 32, 2)
    scheme = Scheme(4, 16, scale_rule="mse")
    found = fit_grid(weight, scheme, gram=torch.zeros(32, 32))
    assert torch.equal(found.scale, fit_grid(weight, replace(scheme, scale_rule="absmax")).scale)


def test_groups_do_not_see_each_others_inputs():
    weight, gram = drawn(3, 32, 3)
    blocks = torch.zeros_like(gram)
    blocks[:16, :16], blocks[16:, 16:] = gram[:16, :16], gram[16:, 16:]
    scheme = Scheme(3, 16, scale_rule="mse")
    assert torch.equal(fit_grid(weight, scheme, gram=gram).scale, fit_grid(weight, scheme, gram=blocks).scale)
