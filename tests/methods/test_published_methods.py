"""What AWQ, GPTQ, SmoothQuant and QuaRot say in their papers."""

import copy
from dataclasses import replace

import pytest
import torch

from quantizing import context_of, scenes, small_model, with_options
from qvggt.api.quantize import quantize as quantize_model
from qvggt.calibration.statistics import pooled
from qvggt.methods.awq import Awq
from qvggt.methods.gptq import Gptq
from qvggt.methods.scale_search import SearchOptions, search_scales
from qvggt.methods.smoothquant import ALPHA, QuaRot, SmoothQuant, smoothing_scale
from qvggt.model.producers import scale_paths
from qvggt.quant.affine import dequantize, fit_grid, quantize
from qvggt.quant.hadamard import rotate_weight
from qvggt.quant.scheme import Scheme

SCHEME = Scheme(3, 16)
UNITS = ("patch_embed/0", "frame/1", "global/0", "camera")


def weight_of(context, layer):
    return context.model.get_parameter(f"{layer}.weight").detach()


def output_error(weight, rounded, gram):
    difference = (rounded - weight).double()
    return float(((difference @ gram.double()) * difference).sum())


def method_on(kind, context, **changes):
    with torch.no_grad():
        return kind(with_options(**changes)).quantize_unit(context)


@pytest.mark.parametrize("unit", UNITS)
def test_awq__only_clips_layers_that_no_producer_scales(small, unit):
    context = context_of(small, [scenes()], unit, SCHEME)
    found = method_on(Awq, context)
    consumers = {path.consumer for path in scale_paths(small.get_submodule(context.unit.module), context.unit.module)}
    with torch.no_grad():
        clipped = search_scales(context, SearchOptions(grid_points=1))
    moved = {name.removesuffix(".weight") for name in found.parameters}
    producers = {path.producer for path in scale_paths(small.get_submodule(context.unit.module), context.unit.module)}
    plain = set(context.schemes) - consumers - producers - moved
    assert plain
    for layer in plain:
        ready = clipped.layers[layer]
        assert found.notes[layer]["exponent"] == 0
        assert torch.equal(found.weights[layer].codes, quantize(ready.weight, ready.scheme, ready.grid).codes)


def test_search_scales__one_exponent_is_clipping_alone(small):
    context = context_of(small, [scenes()], "global/1", SCHEME)
    with torch.no_grad():
        found = search_scales(context, SearchOptions(grid_points=1))
    assert found.parameters == {}
    for layer, ready in found.layers.items():
        gram = pooled(context.statistics[layer]).gram
        clipped = fit_grid(weight_of(context, layer), replace(SCHEME, scale_rule="mse"), gram=gram)
        assert torch.equal(ready.weight, weight_of(context, layer))
        assert torch.equal(ready.grid.scale, clipped.scale)


def test_awq__uses_the_token_classes_asked_for(small):
    context = context_of(small, [scenes()], "frame/0", SCHEME)
    everything, patch = method_on(Awq, context), method_on(Awq, context, tokens="patch")
    assert any(everything.notes[layer] != patch.notes[layer] for layer in context.schemes)
    assert Awq(with_options()).token_classes == ("camera", "register", "patch")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("scheme", [SCHEME, Scheme(4, 32, symmetric=False)])
def test_gptq__loses_less_of_a_layers_output_than_rounding_to_nearest(small, unit, scheme):
    context = context_of(small, [scenes(), scenes(1)], unit, scheme)
    found = method_on(Gptq, context)
    assert set(found.weights) == set(context.schemes)
    assert found.parameters == {}
    ours = nearest = 0.0
    for layer, one in context.schemes.items():
        weight, gram = weight_of(context, layer), pooled(context.statistics[layer]).gram
        size = output_error(weight, torch.zeros_like(weight), gram)
        ours += output_error(weight, dequantize(found.weights[layer]), gram) / size
        nearest += output_error(weight, dequantize(quantize(weight, one)), gram) / size
        assert torch.equal(found.weights[layer].grid.scale, fit_grid(weight, one).scale)
    assert ours < nearest


def test_smoothing_scale__balances_weights_and_activations():
    largest, weight = torch.tensor([4.0, 1.0, 0.0]), torch.tensor([[1.0, -4.0, 2.0], [-0.5, 1.0, 0.0]])
    scale = smoothing_scale(largest, weight)
    assert scale[:2].tolist() == pytest.approx([(4 / 1) ** ALPHA, (1 / 4) ** ALPHA])
    assert (largest / scale)[:2].tolist() == pytest.approx((weight * scale).abs().amax(0)[:2].tolist())
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()


def test_smoothquant__smoothing_leaves_the_float_function_unchanged(small):
    for unit in ("frame/1", "camera"):
        context = context_of(small, [scenes()], unit, Scheme(8, 1))
        found = method_on(SmoothQuant, context)
        paths = [p for p in scale_paths(small.get_submodule(context.unit.module), context.unit.module) if not p.values]
        assert set(found.parameters) == {f"{path.producer}.{leaf}" for path in paths for leaf in ("weight", "bias")}
        model = copy.deepcopy(small)
        for name, value in found.parameters.items():
            model.get_parameter(name).data = value
        for layer, weight in found.weights.items():
            model.get_parameter(f"{layer}.weight").data = dequantize(weight)
        images = scenes(3).images
        with torch.inference_mode():
            expected, outputs = small(images), model(images)
        for name, value in expected.items():
            assert (outputs[name] - value).norm() <= 0.03 * value.norm(), name


@pytest.mark.parametrize(
    ("method", "asked", "expected", "rotation"),
    [
        ("smoothquant", None, 8, False),
        ("smoothquant", 4, 4, False),
        ("quarot", None, None, True),
        ("quarot", 8, 8, True),
    ],
)
def test_smoothquant_quarot__set_activation_bits_and_rotation(method, asked, expected, rotation, small):
    recipe = quantize_model(small_model(), method, with_options(activation_bits=asked)).recipe
    for name, scheme in recipe.quantized.items():
        if small.get_parameter(f"{name}.weight").ndim == 2:
            width = small.get_parameter(f"{name}.weight").shape[1]
            assert scheme.activation_bits == expected
            assert scheme.rotation == (rotation and width % 2 == 0)
        else:
            assert scheme.weights_only


def test_quarot__codes_are_those_of_the_rotated_weight(small):
    context = context_of(small, [scenes()], "global/0", Scheme(4, 16, rotation=True))
    found = method_on(QuaRot, context)
    fc2 = next(layer for layer in context.schemes if layer.endswith("mlp.fc2"))  # nothing is smoothed into it
    expected = quantize(rotate_weight(weight_of(context, fc2)), Scheme(4, 16))
    assert torch.equal(found.weights[fc2].codes, expected.codes)


def test_smoothquant__loss_includes_rounded_activations():
    coarse, fine = (
        quantize_model(
            small_model(), "smoothquant", with_options(scheme=Scheme(8, 16), activation_bits=bits)
        ).recipe.provenance.stages["held_out_loss"]["quantized"]
        for bits in (4, 8)
    )
    assert coarse != fine


@pytest.mark.parametrize("kind", [Awq, Gptq, SmoothQuant, QuaRot])
def test_quantize_unit__leaves_the_model_unchanged(kind, small):
    model = copy.deepcopy(small)
    method_on(kind, context_of(model, [scenes()], "frame/1", SCHEME))
    assert all(torch.equal(model.get_parameter(name), value) for name, value in small.named_parameters())
