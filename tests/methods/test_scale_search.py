import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.calibration.run import UnitContext, quantize_units
from qvggt.calibration.statistics import observe, pooled
from qvggt.calibration.task import make_task
from qvggt.calibration.unit_store import UnitResult
from qvggt.calibration.units import advance, model_units, start
from qvggt.methods.scale_search import SearchOptions, _scale, search_scales
from qvggt.model.producers import scale_paths
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.recipe import Recipe
from qvggt.quant.scheme import Scheme
from reference import relative_error

SCHEME = Scheme(3, 16)
RECONSTRUCTION = SearchOptions(grid_points=6)


def context_of(model, batches, unit_id, scheme=SCHEME, task=None):
    """Return the context of a unit whose linear layers all have one scheme."""
    states = [start(batch.images) for batch in batches]
    with torch.no_grad():
        for index, unit in enumerate(model_units(model)):
            if unit.id == unit_id:
                statistics = observe(model, unit, states)
                return UnitContext(model, unit, index, states, statistics, dict.fromkeys(unit.linear, scheme), task)
            states = [advance(model, unit, state) for state in states]
    raise AssertionError(unit_id)


def search(context, options=RECONSTRUCTION):
    with torch.no_grad():
        return search_scales(context, options)


def scaled(model, found):
    """Return a copy of a model with the scales applied but nothing rounded."""
    model = copy.deepcopy(model)
    for name, value in found.parameters.items():
        model.get_parameter(name).data = value
    for layer, part in found.layers.items():
        model.get_parameter(f"{layer}.weight").data = part.weight
    return model


def relative_loss(weight, rounded, gram):
    difference = (rounded - weight).double()
    return float(((difference @ gram.double()) * difference).sum() / ((weight.double() @ gram.double()) * weight).sum())


@pytest.mark.parametrize("unit", ["patch_embed/0", "frame/1", "global/2", "camera"])
def test_search_scales__scaling_leaves_the_float_function_unchanged(micro, batches, unit):
    found = search(context_of(micro, batches, unit))
    assert any(note["exponent"] > 0 for note in found.notes.values())
    changed = scaled(micro, found)
    with torch.inference_mode():
        for batch in batches:
            expected, outputs = micro(batch.images), changed(batch.images)
            for name, value in expected.items():
                assert relative_error(outputs[name], value) < 2e-5, name


@pytest.mark.parametrize("unit", ["global/0", "camera"])
def test_search_scales__gram_is_that_of_the_scaled_inputs(micro, batches, unit):
    context = context_of(micro, batches, unit)
    found = search(context)
    with torch.no_grad():
        statistics = observe(scaled(micro, found), context.unit, context.states)
    for layer, part in found.layers.items():
        expected = pooled(statistics[layer]).gram
        assert relative_error(part.gram, expected) < 1e-4, layer


@pytest.mark.parametrize("unit", ["frame/1", "camera"])
def test_search_scales__no_layer_loses_more_than_without_scales(micro, batches, unit):
    context = context_of(micro, batches, unit)
    found, plain = search(context), search(context, SearchOptions(grid_points=1))
    for layer, note in found.notes.items():
        assert note["reconstruction"] <= plain.notes[layer]["reconstruction"]
        assert plain.notes[layer]["exponent"] == 0
    assert plain.parameters == {}


def test_search_scales__notes_hold_the_layers_output_error(micro, batches):
    context = context_of(micro, batches, "frame/1")
    found = search(context)
    for layer, part in found.layers.items():
        if layer.endswith("qkv") and found.notes[layer.replace("qkv", "proj")]["exponent"]:
            continue  # its rows have moved for proj since
        rounded = dequantize(quantize(part.weight, part.scheme, part.grid))
        assert found.notes[layer]["reconstruction"] == pytest.approx(
            relative_loss(part.weight, rounded, part.gram), rel=1e-2
        )


def test_search_scales__only_layers_whose_producer_absorbs_scales_get_any(micro, batches):
    for unit in ("frame/1", "camera"):
        context = context_of(micro, batches, unit)
        module = micro.get_submodule(context.unit.module)
        consumers = {path.consumer for path in scale_paths(module, context.unit.module)}
        found = search(context)
        assert {layer for layer, note in found.notes.items() if note["exponent"]} <= consumers
        assert {layer for layer in found.layers if layer not in consumers}
        for name in found.parameters:
            assert name.endswith((".weight", ".bias"))
            assert name.removesuffix(".weight") not in found.layers  # integers carry those


def test_search_scales__a_float_producer_takes_its_scales_as_a_parameter(micro, batches):
    context = context_of(micro, batches, "global/2")
    proj = next(layer for layer in context.schemes if layer.endswith("attn.proj"))
    context = UnitContext(micro, context.unit, context.index, context.states, context.statistics, {proj: SCHEME}, None)
    found = search(context, SearchOptions(grid_points=4))
    assert found.notes[proj]["exponent"] > 0
    qkv = proj.replace("proj", "qkv")
    assert set(found.parameters) == {f"{qkv}.weight", f"{qkv}.bias"}
    changed, images = scaled(micro, found), batches[0].images
    with torch.inference_mode():
        assert relative_error(changed(images)["depth"], micro(images)["depth"]) < 2e-5


def test_search_scales__leaves_the_model_unchanged(micro, batches):
    model = copy.deepcopy(micro)
    task = make_task(model, batches, "teacher")
    context = context_of(model, batches, "frame/1", task=task)
    places = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    search(context, SearchOptions(grid_points=3, shortlist=2))
    for name, parameter in micro.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name
        assert model.get_parameter(name).data_ptr() == places[name]


def test_search_scales__restores_the_model_after_an_error(micro, batches, monkeypatch):
    model = copy.deepcopy(micro)
    context = context_of(model, batches, "frame/1", task=make_task(model, batches, "teacher"))
    calls, score = [], UnitContext.task_loss

    def failing(self, scenes):
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(self, scenes)

    monkeypatch.setattr(UnitContext, "task_loss", failing)
    with pytest.raises(KeyboardInterrupt):
        search(context, SearchOptions(grid_points=3, shortlist=1))
    assert all(torch.equal(model.get_parameter(name), parameter) for name, parameter in micro.named_parameters())


def test_search_scales__shortlist_is_decided_by_reconstruction_and_task(micro, batches):
    model = copy.deepcopy(micro)
    task = make_task(model, batches, "teacher")
    context = context_of(model, batches, "global/3", task=task)
    first = next(iter(context.schemes))
    chosen = search(context, SearchOptions(grid_points=5, shortlist=9)).notes[first]
    plain = search(context, SearchOptions(grid_points=1, shortlist=1)).notes[first]
    assert chosen["reconstruction"] + chosen["task"] <= plain["reconstruction"] + plain["task"] + 1e-9
    assert chosen["task"] > 0


def test_search_scales__uses_the_token_classes_asked_for(micro, batches):
    context = context_of(micro, batches, "global/1")
    patch, everything = (search(context, SearchOptions(tokens=t, grid_points=4)) for t in (("patch",), ("camera",)))
    layer = next(iter(context.schemes))
    assert not torch.allclose(patch.layers[layer].gram, everything.layers[layer].gram)
    exponent = patch.notes[layer]["exponent"]
    gram = context.statistics[layer]["patch"].gram
    if exponent:
        scale = _scale(context.statistics[layer]["patch"].mean_abs, exponent)
        gram = gram / scale / scale[:, None]
    assert torch.allclose(patch.layers[layer].gram, gram)


@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=8), st.floats(0.01, 0.99))
@settings(deadline=None, max_examples=50)
def test_scale__is_positive_finite_and_balanced(mean_abs, exponent):
    scale = _scale(torch.tensor(mean_abs), exponent)
    assert scale is not None
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()
    assert float(scale.max() * scale.min()) == pytest.approx(1, rel=1e-3)


class Nearest:
    propagate = "quantized"

    def quantize_unit(self, context):
        return UnitResult(
            {k: quantize(context.model.get_parameter(f"{k}.weight"), v) for k, v in context.schemes.items()}
        )


class Searching:
    propagate = "quantized"

    def __init__(self, options):
        self.options = options

    def quantize_unit(self, context):
        return search_scales(context, self.options).rounded()


def test_search_scales__brings_the_model_nearer_to_the_float_model_than_rounding(micro, batches):
    task, losses = make_task(micro, batches, "teacher"), []
    for method in (Nearest(), Searching(SearchOptions(grid_points=5))):
        model = copy.deepcopy(micro)
        schemes = {layer: Scheme(3, 32) for unit in model_units(model) for layer in unit.linear}
        result = quantize_units(model, method, Recipe(schemes), task)
        assert set(result.weights) == set(schemes)
        for layer, weight in result.weights.items():
            assert torch.equal(model.get_parameter(f"{layer}.weight"), dequantize(weight))
        losses.append(task.loss(model))
    assert losses[1].depth + losses[1].point < losses[0].depth + losses[0].point
