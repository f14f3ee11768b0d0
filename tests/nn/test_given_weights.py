"""Conversion with integers that a method has rounded already, and with a compensation token."""

import pytest
import torch
from torch import nn

from qvggt.backends import BACKENDS
from qvggt.nn.convert import convert, fill, quantizable_layers, shell, stored_tensors
from qvggt.quant.affine import Grid, QuantizedTensor, dequantize, quantize
from qvggt.quant.recipe import Recipe, build_recipe
from qvggt.quant.scheme import Scheme
from qvggt.types import LayerId

LAYER = LayerId("aggregator.frame_blocks.0.mlp.fc1")


@pytest.fixture
def recipe(model):
    return build_recipe(quantizable_layers(model), dict.fromkeys(quantizable_layers(model), Scheme(4, 16)))


def odd_weight(model, scheme):
    """Return integers that rounding to nearest would not give."""
    given = quantize(model.get_parameter(f"{LAYER}.weight"), scheme)
    grid = Grid(given.grid.scale * 2, given.grid.zero_point)
    return QuantizedTensor(given.codes.roll(1, 0), grid, given.scheme)


def test_given_integers_are_taken_as_they_are_and_all_others_rounded(model, recipe):
    given = odd_weight(model, recipe.quantized[LAYER])
    nearest = {name: quantize(model.get_parameter(f"{name}.weight"), s) for name, s in recipe.quantized.items()}
    convert(model, recipe, weights={LAYER: given})
    for name, weight in nearest.items():
        expected = given if name == LAYER else weight
        assert torch.equal(model.get_submodule(name).expanded(), dequantize(expected).flatten(1)), name


def test_integers_of_another_scheme_are_refused(model, recipe):
    with pytest.raises(ValueError, match="expected a weight"):
        convert(model, recipe, weights={LAYER: odd_weight(model, Scheme(3, 16))})


def test_a_token_goes_through_storage_and_back(model, recipe, config, images, monkeypatch):
    monkeypatch.setenv("QVGGT_NATIVE", "0")  # compiled products of few tokens add up in another order
    token = torch.randn(1, 1, 2 * config.embed_dim)
    model.camera_head.compensation = nn.Parameter(token, requires_grad=False)
    recipe = Recipe(recipe.layers, compensation=True)
    convert(model, recipe)
    stored = dict(stored_tensors(model))
    assert torch.equal(stored["camera_head.compensation"], token.half())
    loaded = fill(shell(config, recipe, BACKENDS["reference"]), stored.items()).eval()
    with torch.inference_mode():
        assert torch.equal(loaded(images)["pose_enc"], model.eval()(images)["pose_enc"])


def test_a_token_that_the_recipe_does_not_tell_of_has_no_place(model, recipe, config):
    convert(model, recipe)
    stored = {**dict(stored_tensors(model)), "camera_head.compensation": torch.zeros(1, 1, 2 * config.embed_dim)}
    with pytest.raises((RuntimeError, KeyError)):
        fill(shell(config, recipe, BACKENDS["reference"]), stored.items())


def test_the_recipe_tells_of_a_token_only_where_there_is_one(recipe):
    assert "compensation" not in recipe.to_json()
    with_one = Recipe(recipe.layers, compensation=True)
    assert Recipe.from_json(with_one.to_json()) == with_one
    assert Recipe.from_json(recipe.to_json()).compensation is False
