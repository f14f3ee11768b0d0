"""Layers that rotate and round their input, packed and fake."""

import copy

import pytest
import torch
from torch import nn

from qvggt.backends import BACKENDS
from qvggt.nn.conv import QuantConv2d
from qvggt.nn.convert import convert, quantizable_layers, quantize_layer
from qvggt.nn.fake import fake_quantized
from qvggt.nn.linear import QuantLinear
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.hadamard import rotate_weight
from qvggt.quant.recipe import Recipe, build_recipe
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError


@pytest.fixture(autouse=True)
def dense_products(monkeypatch):
    """What is compared bit for bit must add up in one order: compiled products of few tokens have their own."""
    monkeypatch.setenv("QVGGT_NATIVE", "0")


SCHEMES = [
    Scheme(4, 32, rotation=True),
    Scheme(8, -1, activation_bits=8),
    Scheme(4, 32, symmetric=False, activation_bits=8),
    Scheme(4, 32, scale_rule="mse", activation_bits=4, rotation=True),
]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(width, rows, bias=True):
    layer = nn.Linear(width, rows, bias).requires_grad_(False)
    layer.weight.copy_(random(rows, width))
    return layer


def packed(layer, scheme, backend="cpu"):
    new = QuantLinear.like(layer, scheme, torch.float32, BACKENDS[backend])
    new.assign_weight(quantize_layer("x", layer.weight, scheme, torch.float32))
    return new


def error(layer, scheme, x):
    expected = layer(x)
    return float((packed(layer, scheme)(x) - expected).norm() / expected.norm())


@pytest.mark.parametrize("width", [96, 64, 588, 9])
def test_a_rotated_layer_is_the_float_one_up_to_its_weights_rounding(width):
    layer, x = linear(width, 20), random(2, 7, width, seed=1)
    assert error(layer, Scheme(8, 32, rotation=True), x) < 0.01
    assert error(layer, Scheme(8, 32, activation_bits=8, rotation=True), x) < 0.02


def test_w8a8_is_near_float_on_gaussian_data():
    assert error(linear(256, 64), Scheme(8, -1, activation_bits=8), random(100, 256, seed=1)) < 0.02


@pytest.mark.parametrize("scheme", [Scheme(8, -1, activation_bits=8), Scheme(8, -1, activation_bits=4)])
def test_rotation_lowers_the_error_where_input_channels_are_outliers(scheme):
    layer, x = linear(256, 64), random(100, 256, seed=1)
    x[:, [3, 100, 200]] *= 60
    rotated = Scheme(scheme.bits, -1, activation_bits=scheme.activation_bits, rotation=True)
    assert error(layer, rotated, x) < 0.5 * error(layer, scheme, x)


def test_rotation_lowers_the_error_where_weight_columns_are_outliers():
    layer, x = linear(256, 64), random(100, 256, seed=1)
    layer.weight[:, [3, 100, 200]] *= 30
    assert error(layer, Scheme(4, -1, rotation=True), x) < 0.5 * error(layer, Scheme(4, -1), x)


def test_what_is_stored_is_the_rotated_weight():
    layer, scheme = linear(96, 8), Scheme(4, 32, rotation=True)
    stored = packed(layer, scheme).expanded()
    assert torch.equal(stored, dequantize(quantize(rotate_weight(layer.weight), scheme, scale_dtype=torch.float32)))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_backends_agree(scheme):
    layer, x = linear(96, 20), random(2, 7, 96, seed=1)
    assert torch.allclose(packed(layer, scheme)(x), packed(layer, scheme, "reference")(x), atol=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes(scheme, dtype):
    layer, x = linear(96, 20), random(2, 7, 96, seed=1)
    new = packed(layer, scheme)
    expected = new(x)
    result = new.to(dtype)(x.to(dtype))
    assert result.dtype == dtype
    assert (result.float() - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_the_fake_of_a_layer_is_the_packed_one_bit_for_bit(scheme):
    layer, x = linear(96, 20), random(2, 7, 96, seed=1)
    expected = packed(layer, scheme)(x)
    with fake_quantized(layer, scheme, torch.float32):
        assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_the_fake_of_a_model_is_the_packed_model(model, images, scheme):
    shapes = quantizable_layers(model)
    schemes = {name: scheme if shape.kind == "linear" else Scheme(8, 64) for name, shape in shapes.items()}
    with fake_quantized(model, schemes, scale_dtype=torch.float32):
        fake = model(images)
    convert(model, build_recipe(shapes, schemes, "float32"))
    for name, value in model(images).items():
        # A value that lies between two levels may be rounded to the other one after sums of another order.
        assert (value - fake[name]).norm() < 1e-2 * fake[name].norm(), name


def test_hooks_and_weights_are_undone_after_an_exception_too():
    layer, x = linear(64, 8), random(3, 64, seed=1)
    before, expected = layer.weight.clone(), layer(x)
    with fake_quantized(layer, SCHEMES[3]):
        assert not torch.equal(layer(x), expected)
    with pytest.raises(KeyboardInterrupt), fake_quantized(layer, SCHEMES[3]):
        raise KeyboardInterrupt
    assert torch.equal(layer.weight, before)
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_convolutions_refuse_what_concerns_their_input(scheme):
    conv = nn.Conv2d(16, 8, 1).requires_grad_(False)
    before = copy.deepcopy(conv.state_dict())
    shapes = quantizable_layers(nn.ModuleDict({"c": conv}))
    message = "a convolution"
    with pytest.raises(QvggtError, match=f"c is {message}"):
        build_recipe(shapes, {"c": scheme})
    with pytest.raises(QvggtError, match=f"c is {message}"):
        convert(nn.ModuleDict({"c": conv}), Recipe({"c": scheme}))
    with pytest.raises(QvggtError, match=message):
        QuantConv2d.like(conv, scheme, torch.float16, BACKENDS["cpu"])
    for module, name in ((conv, "the layer"), (nn.ModuleDict({"c": conv}), "c")):
        with pytest.raises(QvggtError, match=f"{name} is {message}"), fake_quantized(module, scheme):
            pass
    assert all(torch.equal(tensor, before[name]) for name, tensor in conv.state_dict().items())


def test_a_weight_that_is_no_number_is_refused_before_its_rotation_spreads_it():
    layer = linear(64, 8)
    layer.weight[2, 3] = torch.nan
    with pytest.raises(QvggtError, match="x: 1 of 512 weights are NaN"):
        packed(layer, SCHEMES[0])


def test_descriptions_name_what_happens_to_the_input():
    assert "4 bits per 32, input rotated, input of 4 bits, cpu" in repr(packed(linear(64, 8), SCHEMES[3]))
