import copy
import gc
from dataclasses import replace

import pytest
import torch

from qvggt.calibration import run
from qvggt.calibration.activation_cache import ActivationCache
from qvggt.calibration.run import effective_weight, quantize_units
from qvggt.calibration.statistics import observe
from qvggt.calibration.task import make_task
from qvggt.calibration.unit_store import UnitResult, UnitStore
from qvggt.calibration.units import HEADS, advance, model_units, start
from qvggt.nn.convert import quantizable_modules
from qvggt.quant.affine import dequantize, fit_grid, quantize
from qvggt.quant.hadamard import rotate_weight
from qvggt.quant.recipe import Recipe
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import QvggtError

LINEAR, CONV = Scheme(4, 32), Scheme(8)


class Rounding:
    """Rounds on a grid fitted to the inputs, so that the result depends on them."""

    def __init__(self, propagate="quantized", stop_at=None):
        self.propagate, self.stop_at, self.seen = propagate, stop_at, {}

    def quantize_unit(self, context):
        if context.unit.id == self.stop_at:
            raise KeyboardInterrupt
        self.seen[context.unit.id] = context
        weights = {}
        for layer, scheme in context.schemes.items():
            weight = context.model.get_parameter(f"{layer}.weight").detach()
            if scheme.rotation:
                weights[layer] = quantize(rotate_weight(weight), scheme)
                continue
            parts = context.statistics[layer].values()
            gram = sum(part.gram for part in parts)
            grid = fit_grid(weight, Scheme(scheme.bits, scheme.group_size, scheme.symmetric, "mse"), gram=gram)
            weights[layer] = quantize(weight, scheme, grid)
        notes = {layer: weight.codes.float().abs().mean().item() for layer, weight in weights.items()}
        return UnitResult(weights, notes=notes)


@pytest.fixture(scope="module")
def task(micro, batches):
    return make_task(micro, batches, "teacher")


def recipe_of(model, linear=LINEAR, conv=CONV):
    modules = quantizable_modules(model)
    return Recipe({layer: linear if isinstance(m, torch.nn.Linear) else conv for layer, m in modules.items()})


def assert_same_weights(found, expected):
    assert list(found) == list(expected)
    for layer, weight in expected.items():
        assert torch.equal(found[layer].codes, weight.codes), layer
        assert torch.equal(found[layer].grid.scale, weight.grid.scale), layer


@pytest.mark.parametrize("propagate", ["quantized", "float"])
def test_quantize_units__model_takes_the_dequantized_values(model, micro, task, propagate):
    recipe = recipe_of(model, Scheme(4, 32, symmetric=False))
    result = quantize_units(model, Rounding(propagate), recipe, task)
    assert set(result.weights) == set(recipe.layers)
    for layer, weight in result.weights.items():
        parameter = model.get_parameter(f"{layer}.weight")
        low, high = weight.scheme.code_range
        assert weight.codes.min() >= low
        assert weight.codes.max() <= high
        assert torch.equal(parameter.flatten(1), dequantize(weight)), layer
        assert parameter.shape == micro.get_parameter(f"{layer}.weight").shape
        again = quantize(parameter, weight.scheme, weight.grid)
        assert torch.equal(again.codes, weight.codes)
    for name, parameter in micro.named_parameters():
        if name.removesuffix(".weight") not in recipe.layers:
            assert torch.equal(model.get_parameter(name), parameter), name
    assert list(result.stages["units"]) == [unit.id for unit in model_units(model)]


def test_quantize_units__rounds_convolutions_to_nearest(model, micro, task):
    result = quantize_units(model, Rounding(), recipe_of(model), task)
    for layer, module in quantizable_modules(micro).items():
        if isinstance(module, torch.nn.Conv2d):
            expected = quantize(module.weight, CONV)
            assert torch.equal(result.weights[layer].codes, expected.codes), layer
            assert torch.equal(result.weights[layer].grid.scale, expected.grid.scale), layer


def test_quantize_units__quantizes_layers_with_integer_schemes_only(model, micro, task):
    layers = [layer for layer in recipe_of(model).layers if "global_blocks.1" in layer]
    method = Rounding()
    result = quantize_units(model, method, Recipe({layers[0]: LINEAR, layers[1]: FloatScheme("float16")}), task)
    assert list(result.weights) == layers[:1]
    assert list(method.seen) == ["global/1"]
    assert list(method.seen["global/1"].schemes) == layers[:1]
    changed = {name for name, p in micro.named_parameters() if not torch.equal(p, model.get_parameter(name))}
    assert changed == {f"{layers[0]}.weight"}


def grams(model, unit, states):
    statistics = observe(model, unit, states)
    return {layer: {name: part.gram for name, part in parts.items()} for layer, parts in statistics.items()}


@pytest.mark.parametrize("propagate", ["quantized", "float"])
def test_quantize_units__inputs_come_from_the_model_that_propagate_names(model, micro, task, propagate):
    method = Rounding(propagate)
    quantize_units(model, method, recipe_of(model, Scheme(2, -1), Scheme(2, -1)), task)
    source = micro if propagate == "float" else model  # every unit before the current one is final
    states = [start(batch.images) for batch in task.batches]
    units = model_units(micro)
    with torch.no_grad():
        for index, unit in enumerate(units):
            if unit.linear:
                context = method.seen[unit.id]
                assert context.index == index
                for seen, state in zip(context.states, states, strict=True):
                    assert all(torch.equal(a, b) for a, b in zip(seen.tensors(), state.tensors(), strict=True)), unit.id
                expected = grams(micro, unit, states)  # the unit itself is float when it is observed
                for layer, parts in context.statistics.items():
                    assert all(torch.equal(part.gram, expected[layer][name]) for name, part in parts.items())
            if unit.kind not in HEADS:
                states = [advance(source, unit, state) for state in states]


def test_quantize_units__propagations_differ(micro, task):
    found = []
    for propagate in ("quantized", "float"):
        method = Rounding(propagate)
        quantize_units(copy.deepcopy(micro), method, recipe_of(micro), task)
        found.append(method.seen["global/2"].states[0].tokens)
    assert not torch.equal(*found)


@pytest.mark.parametrize("propagate", ["quantized", "float"])
@pytest.mark.parametrize("stop_at", ["patch_embed/0", "global/1", "camera"])
def test_quantize_units__resumes_to_the_same_weights(micro, task, tmp_path, propagate, stop_at):
    recipe, whole, stopped, resumed = recipe_of(micro), *(copy.deepcopy(micro) for _ in range(3))
    expected = quantize_units(whole, Rounding(propagate), recipe, task)
    with pytest.raises(KeyboardInterrupt):
        quantize_units(stopped, Rounding(propagate, stop_at), recipe, task, UnitStore(tmp_path, {}))
    method = Rounding(propagate)
    found = quantize_units(resumed, method, recipe, task, UnitStore(tmp_path, {}))
    assert next(iter(method.seen)) == stop_at
    assert_same_weights(found.weights, expected.weights)
    assert found.stages == expected.stages
    for name, parameter in whole.named_parameters():
        assert torch.equal(resumed.get_parameter(name), parameter), name
    again = Rounding(propagate)
    quantize_units(copy.deepcopy(micro), again, recipe, task, UnitStore(tmp_path, {}))
    assert not again.seen


def test_quantize_units__memory_budget_changes_no_weights(micro, task, monkeypatch):
    caches, found = [], []

    def cache(memory_bytes):
        caches.append(ActivationCache(memory_bytes))
        return caches[-1]

    monkeypatch.setattr(run, "ActivationCache", cache)
    for memory_bytes in (0, 1 << 30):
        found.append(
            quantize_units(copy.deepcopy(micro), Rounding(), recipe_of(micro), task, memory_bytes=memory_bytes)
        )
        gc.collect()
    assert_same_weights(found[0].weights, found[1].weights)
    assert [cache.mapped_bytes > 0 for cache in caches] == [True, False]


def test_quantize_units__new_parameters_affect_later_units(model, task):
    class Shifting(Rounding):
        def quantize_unit(self, context):
            result = super().quantize_unit(context)
            name = f"{context.unit.module}.ls2.gamma"
            if context.unit.id != "frame/0":
                return result
            return UnitResult(result.weights, {name: torch.zeros(64)}, result.notes)

    method = Shifting()
    quantize_units(model, method, recipe_of(model), task)
    assert not model.get_parameter("aggregator.frame_blocks.0.ls2.gamma").any()
    with torch.no_grad():
        unit = next(unit for unit in model_units(model) if unit.id == "frame/0")
        after = advance(model, unit, method.seen["frame/0"].states[0])
    assert torch.equal(method.seen["global/0"].states[0].tokens, after.tokens)


def test_quantize_units__rotated_layers_take_effective_weights(model, task):
    layer = next(layer for layer in recipe_of(model).layers if layer.endswith("frame_blocks.0.mlp.fc1"))
    before = model.get_parameter(f"{layer}.weight").clone()
    result = quantize_units(model, Rounding(), Recipe({layer: Scheme(8, 32, rotation=True)}), task)
    after = model.get_parameter(f"{layer}.weight")
    assert torch.equal(after, effective_weight(result.weights[layer]))
    assert (after - before).abs().max() < 0.02 * before.abs().max()
    assert (dequantize(result.weights[layer]) - before).abs().max() > 0.5 * before.abs().max()


def test_quantize_units__reports_progress_by_unit(model, task):
    reports = []
    quantize_units(model, Rounding(), recipe_of(model), task, on_progress=lambda *report: reports.append(report))
    assert [stage for stage, _ in reports] == [f"quantizing {unit.id}" for unit in model_units(model)]
    shares = [share for _, share in reports]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_task_loss__runs_from_the_unit_onward(model, micro, task):
    losses = {}

    class Scoring(Rounding):
        def quantize_unit(self, context):
            losses[context.unit.id] = context.task_loss(3)
            return super().quantize_unit(context)

    quantize_units(model, Scoring(), recipe_of(model, Scheme(3, 32)), task)
    # Before the first block only the patch projection is rounded, before the camera head all but the heads.
    assert task.total(micro) < losses["patch_embed/0"] < losses["camera"]
    assert losses["camera"] == pytest.approx(task.total(model), rel=0.5)  # the heads are rounded after it


def test_task_loss__needs_a_task(model, task):
    method = Rounding()
    quantize_units(model, method, recipe_of(model), task)
    with pytest.raises(ValueError, match="with a task"):
        replace(method.seen["frame/0"], task=None).task_loss(1)


def test_quantize_units__refuses_a_method_that_leaves_out_a_layer(model, task):
    class Forgetful(Rounding):
        def quantize_unit(self, context):
            weights = dict(super().quantize_unit(context).weights)
            weights.popitem()
            return UnitResult(weights)

    with pytest.raises(ValueError, match="expected quantized weights"):
        quantize_units(model, Forgetful(), recipe_of(model), task)


def test_quantize_units__refuses_activations_that_are_not_finite(model, task):
    first, second = task.batches
    broken = replace(task, batches=(replace(first, images=torch.full_like(first.images, float("nan"))), second))
    with pytest.raises(QvggtError, match="NaN or infinity"):
        quantize_units(model, Rounding(), recipe_of(model), broken)
