import copy

import pytest
import torch
from torch import nn

from qvggt.backends import BACKENDS
from qvggt.nn.conv import CastConv2d, QuantConv2d
from qvggt.nn.linear import CastLinear, QuantLinear
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

CPU = BACKENDS["cpu"]
SCHEMES = [Scheme(4, 32), Scheme(3, -1), Scheme(8, 128, symmetric=False)]


def quantized_linear(layer, scheme, backend=CPU):
    new = QuantLinear.like(layer, scheme, torch.float16, backend)
    new.assign_weight(pack(quantize(layer.weight, scheme)))
    return new


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_the_float_layer_with_dequantized_weights(scheme, bias):
    layer = nn.Linear(72, 20, bias)
    new = quantized_linear(layer, scheme)
    layer.weight.data = dequantize(quantize(layer.weight, scheme))
    x = torch.randn(2, 7, 72)
    assert torch.allclose(new(x), layer(x), atol=1e-5)
    assert (new.in_features, new.out_features) == (72, 20)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 8, 1),
        nn.Conv2d(16, 8, 3, padding=1, bias=False),
        nn.Conv2d(16, 8, 3, stride=2, padding=1),
        nn.Conv2d(16, 8, (3, 5), padding=(0, 2), dilation=2, groups=4),
    ],
    ids=["1x1", "3x3", "strided", "grouped"],
)
def test_conv_equals_the_float_layer_with_dequantized_weights(layer, scheme):
    layer = copy.deepcopy(layer)
    new = QuantConv2d.like(layer, scheme, torch.float16, CPU)
    new.assign_weight(pack(quantize(layer.weight, scheme)))
    layer.weight.data = dequantize(quantize(layer.weight, scheme)).view(layer.weight.shape)
    x = torch.randn(2, 16, 11, 9)
    assert torch.allclose(new(x), layer(x), atol=1e-5)


def test_tensors_have_the_names_of_the_checkpoint():
    symmetric = QuantLinear.like(nn.Linear(32, 8), Scheme(), torch.float16, CPU)
    assert list(symmetric.state_dict()) == ["bias", "weight_packed", "weight_scale", "weight_shape"]
    with_zero_points = QuantLinear.like(nn.Linear(32, 8, False), Scheme(symmetric=False), torch.float16, CPU)
    assert list(with_zero_points.state_dict()) == [
        "weight_packed", "weight_scale", "weight_shape", "weight_zero_point",
    ]  # fmt: skip


def test_a_change_of_the_models_type_leaves_scales_alone():
    layer = quantized_linear(nn.Linear(64, 8), Scheme())
    before = layer.expanded()
    layer = layer.bfloat16()
    assert (layer.bias.dtype, layer.weight_scale.dtype) == (torch.bfloat16, torch.float16)
    assert torch.equal(layer.expanded(), before)


def test_a_weight_of_another_scheme_is_refused():
    layer = nn.Linear(64, 8)
    with pytest.raises(ValueError, match="expected a weight"):
        QuantLinear.like(layer, Scheme(4), torch.float16, CPU).assign_weight(pack(quantize(layer.weight, Scheme(3))))


def test_padding_that_is_not_zeros_is_refused():
    for layer in (nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")):
        with pytest.raises(QvggtError, match="keep this one floating"):
            QuantConv2d.like(layer, Scheme(), torch.float16, CPU)


def test_shells_take_their_float_layers_device():
    with torch.device("meta"):
        layer = nn.Linear(64, 8)
    assert all(tensor.is_meta for tensor in QuantLinear.like(layer, Scheme(), torch.float16, CPU).state_dict().values())


@pytest.mark.parametrize("resting", [torch.float16, torch.bfloat16])
def test_cast_layers_compute_in_the_activations_type(resting):
    linear, conv = nn.Linear(16, 8), nn.Conv2d(16, 8, 3, padding=1)
    cast_linear, cast_conv = CastLinear.like(linear, resting), CastConv2d.like(conv, resting)
    for layer, new, x in ((linear, cast_linear, torch.randn(3, 16)), (conv, cast_conv, torch.randn(1, 16, 5, 5))):
        layer.weight.data = layer.weight.data.to(resting).float()
        assert new.weight.dtype == resting
        assert torch.equal(new(x), layer(x))


def test_descriptions_name_the_scheme():
    assert "64 -> 8, 4 bits per 32, cpu" in repr(quantized_linear(nn.Linear(64, 8), Scheme(4, 32)))
