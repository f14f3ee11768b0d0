import copy

import pytest
import torch
from torch import nn

from qvggt.backends import BACKENDS
from qvggt.nn.conv import CastConv2d, QuantConv2d
from qvggt.nn.convert import convert, fill, quantizable_layers, shell, stored_layout, stored_tensors
from qvggt.nn.linear import CastLinear, QuantLinear
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.quant.recipe import Recipe, build_recipe
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import QvggtError


def recipe_for(model, scheme=None, float_type="float16", **others):
    shapes = quantizable_layers(model)
    return build_recipe(shapes, dict.fromkeys(shapes, scheme or Scheme(4, 32)) | others, float_type)


def test_every_linear_layer_and_convolution_can_be_quantized(model):
    layers = quantizable_layers(model)
    assert len(layers) == sum(isinstance(m, nn.Linear | nn.Conv2d) for m in model.modules())
    assert layers["camera_head.embed_pose"].shape == (128, 9)
    assert layers["depth_head.scratch.layer1_rn"].kind == "conv2d"


def test_convert_replaces_what_the_recipe_names_and_keeps_the_result_close(model, images):
    expected = model(images)
    converted = convert(model, recipe_for(model, Scheme(8, 32)))
    assert converted is model
    assert isinstance(model.aggregator.frame_blocks[0].attn.qkv, QuantLinear)
    assert isinstance(model.depth_head.projects[0], QuantConv2d)
    for name, value in model(images).items():
        assert (value - expected[name]).norm() < 0.05 * expected[name].norm(), name


def test_convert_equals_filling_a_shell(model, config, images):
    recipe = recipe_for(model, **{"camera_head.embed_pose": FloatScheme("float32")})
    convert(model, recipe)
    filled = shell(config, recipe, BACKENDS["cpu"])
    assert all(tensor.is_meta for tensor in filled.state_dict().values())
    fill(filled, stored_tensors(model))
    expected = model(images)
    assert all(torch.equal(value, expected[name]) for name, value in filled(images).items())


def test_layout_is_what_a_converted_model_stores(model, config):
    recipe = recipe_for(model, Scheme(3, 32, symmetric=False), "bfloat16")
    layout = stored_layout(config, recipe)
    convert(model, recipe)
    assert {name: (t.dtype, tuple(t.shape)) for name, t in stored_tensors(model)} == dict(layout)


def test_layers_that_stay_floating_rest_in_their_type_and_the_rest_is_widened(model, images):
    exact = model(images)
    convert(model, Recipe({"camera_head.embed_pose": FloatScheme("float32")}))
    assert isinstance(model.aggregator.frame_blocks[0].attn.qkv, CastLinear)
    assert isinstance(model.depth_head.projects[0], CastConv2d)
    assert type(model.camera_head.embed_pose) is nn.Linear
    assert model.aggregator.frame_blocks[0].attn.qkv.weight.dtype == torch.float16
    assert model.aggregator.camera_token.dtype == torch.float32
    for name, value in model(images).items():
        assert (value - exact[name]).norm() < 0.01 * exact[name].norm(), name


def test_float32_recipes_change_nothing(model, images):
    exact = model(images)
    convert(model, Recipe({}, "float32"))
    assert all(torch.equal(value, exact[name]) for name, value in model(images).items())


def test_the_recipe_travels_with_the_model(model):
    assert not isinstance(model, QuantizedVGGT)
    recipe = recipe_for(model)
    convert(model, recipe)
    twin = copy.deepcopy(model)
    assert isinstance(twin, QuantizedVGGT)
    assert twin.recipe == recipe


def test_layers_that_the_model_lacks_are_named(model):
    with pytest.raises(QvggtError, match=r"'track_head\.x'"):
        convert(model, Recipe({"track_head.x": Scheme()}))


def test_nan_is_refused_with_the_layers_name(model):
    model.aggregator.global_blocks[1].mlp.fc1.weight[3, 4] = torch.nan
    with pytest.raises(QvggtError, match=r"aggregator\.global_blocks\.1\.mlp\.fc1: 1 of"):
        convert(model, recipe_for(model))


def test_numbers_that_half_precision_cannot_hold_are_refused(model):
    model.aggregator.camera_token[0, 0, 0, 0] = 1e6
    with pytest.raises(QvggtError, match=r"aggregator\.camera_token has .* too large for float16"):
        convert(copy.deepcopy(model), recipe_for(model))
    convert(model, recipe_for(model, float_type="bfloat16"))


def test_half_precision_models_compute(model, images):
    expected = model(images)
    convert(model, recipe_for(model, Scheme(8, 32)), dtype=torch.bfloat16)
    result = model(images.bfloat16())
    assert result["pose_enc"].dtype == torch.bfloat16
    assert (result["pose_enc"].float() - expected["pose_enc"]).norm() < 0.2 * expected["pose_enc"].norm()


def test_a_missing_or_unknown_tensor_is_refused(model, config):
    recipe = recipe_for(model)
    convert(model, recipe)
    tensors = dict(stored_tensors(model))
    with pytest.raises(RuntimeError, match="camera_token"):
        fill(shell(config, recipe, BACKENDS["cpu"]), [(n, t) for n, t in tensors.items() if "camera_token" not in n])
    with pytest.raises(RuntimeError, match="stranger"):
        fill(shell(config, recipe, BACKENDS["cpu"]), [*tensors.items(), ("stranger", torch.zeros(1))])
