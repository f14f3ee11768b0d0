import copy

import pytest
import torch

from qvggt.methods.reorder import best_order, reorder_hidden_units
from qvggt.model.layers import Mlp
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.scheme import Scheme

SCHEME = Scheme(4, 32)


def error(weight):
    return float((dequantize(quantize(weight, SCHEME)) - weight).square().sum())


def test_the_model_says_the_same(micro, batches):
    model = copy.deepcopy(micro)
    reorder_hidden_units(model, SCHEME)
    assert not torch.equal(
        model.aggregator.frame_blocks[0].mlp.fc2.weight, micro.aggregator.frame_blocks[0].mlp.fc2.weight
    )
    images = batches[0].images[:1]
    with torch.inference_mode():
        before, after = micro(images), model(images)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-3, atol=1e-4)


def test_weights_that_another_model_shares_are_left_alone(micro):
    twin = copy.copy(micro)
    kept = {name: value.clone() for name, value in micro.state_dict().items()}
    shared = {name: parameter.data for name, parameter in micro.named_parameters()}
    model = copy.deepcopy(micro)
    for name, parameter in model.named_parameters():
        parameter.data = shared[name]
    reorder_hidden_units(model, SCHEME)
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in kept.items())


def test_no_mlp_rounds_worse_than_before(micro):
    model = copy.deepcopy(micro)
    reorder_hidden_units(model, SCHEME)
    pairs = [
        (old.fc2.weight, new.fc2.weight)
        for old, new in zip(micro.modules(), model.modules(), strict=True)
        if isinstance(old, Mlp)
    ]
    assert pairs
    assert all(error(new) <= error(old) for old, new in pairs)


def test_outliers_end_in_one_group():
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(16, 128, generator=generator) + 0.5
    outliers = [5, 40, 77, 100]  # one in every group of 32
    weight[:, outliers] *= 50
    order = best_order(weight, SCHEME)
    assert sorted(order.tolist()) == list(range(128))
    assert sorted(order[:4].tolist()) == outliers
    small = weight.amax(0).argsort()[:28]
    assert sorted(order[4:32].tolist()) == sorted(small.tolist())


@pytest.mark.parametrize("width", [32, 8, 48])
def test_where_one_scale_serves_a_whole_row_or_nothing_helps_units_stay(width):
    weight = torch.ones(4, width)
    assert torch.equal(best_order(weight, SCHEME), torch.arange(width))
