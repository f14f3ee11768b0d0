import copy
import gc

import pytest
import torch

from qvggt.calibration.data import SceneBatch
from qvggt.calibration.run import PassOptions, effective_weight, quantize_units
from qvggt.calibration.statistics import observe
from qvggt.calibration.task import make_task
from qvggt.calibration.unit_store import UnitResult, UnitStore
from qvggt.calibration.units import HEADS, advance, model_units, start
from qvggt.nn.convert import quantizable_modules
from qvggt.quant.affine import dequantize, fit_grid, quantize
from qvggt.quant.hadamard import rotate_weight
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import QvggtError

LINEAR, CONV = Scheme(4, 32), Scheme(8)


class Rounding:
    """Rounds on a grid whose range follows the inputs, so that the result depends on what a unit sees."""

    def __init__(self, stop_at=None):
        self.stop_at, self.seen = stop_at, {}

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


def schemes_of(model, linear=LINEAR, conv=CONV):
    modules = quantizable_modules(model)
    return {layer: linear if isinstance(module, torch.nn.Linear) else conv for layer, module in modules.items()}


def assert_same_weights(found, expected):
    assert list(found) == list(expected)
    for layer, weight in expected.items():
        assert torch.equal(found[layer].codes, weight.codes), layer
        assert torch.equal(found[layer].grid.scale, weight.grid.scale), layer


@pytest.mark.parametrize("propagate", ["quantized", "float"])
def test_the_model_holds_what_its_integers_stand_for(model, micro, batches, propagate):
    schemes = schemes_of(model, Scheme(4, 32, symmetric=False))
    result = quantize_units(model, Rounding(), schemes, batches, options=PassOptions(propagate))
    assert set(result.weights) == set(schemes)
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
        if name.removesuffix(".weight") not in schemes:
            assert torch.equal(model.get_parameter(name), parameter), name
    assert list(result.notes) == [unit.id for unit in model_units(model)]


def test_convolutions_are_rounded_to_nearest(model, micro, batches):
    result = quantize_units(model, Rounding(), schemes_of(model), batches)
    for layer, module in quantizable_modules(micro).items():
        if isinstance(module, torch.nn.Conv2d):
            expected = quantize(module.weight, CONV)
            assert torch.equal(result.weights[layer].codes, expected.codes), layer
            assert torch.equal(result.weights[layer].grid.scale, expected.grid.scale), layer


def test_only_integer_schemes_are_asked_for(model, micro, batches):
    layers = [layer for layer in schemes_of(model) if "global_blocks.1" in layer]
    schemes = {layers[0]: LINEAR, layers[1]: FloatScheme("float16")}
    method = Rounding()
    result = quantize_units(model, method, schemes, batches)
    assert list(result.weights) == layers[:1]
    assert list(method.seen) == ["global/1"]
    assert list(method.seen["global/1"].schemes) == layers[:1]
    changed = {name for name, p in micro.named_parameters() if not torch.equal(p, model.get_parameter(name))}
    assert changed == {f"{layers[0]}.weight"}


def grams(model, unit, states):
    statistics = observe(model, unit, states)
    return {layer: {name: part.gram for name, part in parts.items()} for layer, parts in statistics.items()}


@pytest.mark.parametrize("propagate", ["quantized", "float"])
def test_a_unit_sees_what_the_mode_says(model, micro, batches, propagate):
    method = Rounding()
    quantize_units(
        model, method, schemes_of(model, Scheme(2, -1), Scheme(2, -1)), batches, None, PassOptions(propagate)
    )
    source = micro if propagate == "float" else model  # every unit before the one under work is final
    states = [start(batch.images) for batch in batches]
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


def test_the_modes_differ_after_the_first_quantized_unit(micro, batches):
    found = {}
    for propagate in ("quantized", "float"):
        method = Rounding()
        quantize_units(copy.deepcopy(micro), method, schemes_of(micro), batches, None, PassOptions(propagate))
        found[propagate] = method.seen["global/2"].states[0].tokens
    assert not torch.equal(found["quantized"], found["float"])


@pytest.mark.parametrize("propagate", ["quantized", "float"])
@pytest.mark.parametrize("stop_at", ["patch_embed/0", "global/1", "camera"])
def test_an_interrupted_pass_goes_on_to_the_same_integers(micro, batches, tmp_path, propagate, stop_at):
    schemes, options = schemes_of(micro), PassOptions(propagate)
    whole = copy.deepcopy(micro)
    expected = quantize_units(whole, Rounding(), schemes, batches, None, options)
    stopped = copy.deepcopy(micro)
    with pytest.raises(KeyboardInterrupt):
        quantize_units(stopped, Rounding(stop_at), schemes, batches, None, options, UnitStore(tmp_path, {}))
    method, resumed = Rounding(), copy.deepcopy(micro)
    found = quantize_units(resumed, method, schemes, batches, None, options, UnitStore(tmp_path, {}))
    assert next(iter(method.seen)) == stop_at
    assert_same_weights(found.weights, expected.weights)
    assert found.notes == expected.notes
    for name, parameter in whole.named_parameters():
        assert torch.equal(resumed.get_parameter(name), parameter), name
    again = Rounding()
    quantize_units(copy.deepcopy(micro), again, schemes, batches, None, options, UnitStore(tmp_path, {}))
    assert not again.seen


def test_memory_changes_nothing_but_where_activations_wait(micro, batches):
    found = []
    for memory_bytes in (0, 1 << 30):
        method = Rounding()
        options = PassOptions(memory_bytes=memory_bytes)
        found.append(quantize_units(copy.deepcopy(micro), method, schemes_of(micro), batches, None, options))
        del method
        gc.collect()
    assert_same_weights(found[0].weights, found[1].weights)
    assert found[0].mapped_bytes > 0
    assert found[1].mapped_bytes == 0


def test_new_parameters_count_for_what_comes_after(model, batches):
    class Shifting(Rounding):
        def quantize_unit(self, context):
            result = super().quantize_unit(context)
            name = f"{context.unit.module}.ls2.gamma"
            if context.unit.id != "frame/0":
                return result
            return UnitResult(result.weights, {name: torch.zeros(64)}, result.notes)

    method = Shifting()
    quantize_units(model, method, schemes_of(model), batches)
    assert not model.get_parameter("aggregator.frame_blocks.0.ls2.gamma").any()
    with torch.no_grad():
        unit = next(unit for unit in model_units(model) if unit.id == "frame/0")
        after = advance(model, unit, method.seen["frame/0"].states[0])
    assert torch.equal(method.seen["global/0"].states[0].tokens, after.tokens)


def test_a_rotated_layer_takes_the_values_that_its_codes_stand_for(model, batches):
    layer = next(layer for layer in schemes_of(model) if layer.endswith("frame_blocks.0.mlp.fc1"))
    before = model.get_parameter(f"{layer}.weight").clone()
    result = quantize_units(model, Rounding(), {layer: Scheme(8, 32, rotation=True)}, batches)
    after = model.get_parameter(f"{layer}.weight")
    assert torch.equal(after, effective_weight(result.weights[layer]))
    assert (after - before).abs().max() < 0.02 * before.abs().max()
    assert (dequantize(result.weights[layer]) - before).abs().max() > 0.5 * before.abs().max()


def test_progress_is_reported_unit_by_unit(model, batches):
    reports = []
    quantize_units(model, Rounding(), schemes_of(model), batches, on_unit=lambda *report: reports.append(report))
    assert [unit for unit, _, _ in reports] == [unit.id for unit in model_units(model)]
    shares = [share for _, share, _ in reports]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(set(notes) <= set(schemes_of(model)) for _, _, notes in reports)


def test_the_task_is_scored_from_the_unit_onward(model, micro, batches):
    task, losses = make_task(micro, batches, "teacher"), {}

    class Scoring(Rounding):
        def quantize_unit(self, context):
            losses[context.unit.id] = context.task_loss(3)
            return super().quantize_unit(context)

    quantize_units(model, Scoring(), schemes_of(model, Scheme(3, 32)), batches, task)
    # Before the first block only the patch projection is rounded, before the camera head all but the heads.
    assert task.total(micro) < losses["patch_embed/0"] < losses["camera"]
    assert losses["camera"] == pytest.approx(task.total(model), rel=0.5)  # the heads are rounded after it


def test_without_a_task_there_is_no_loss(model, batches):
    method = Rounding()
    quantize_units(model, method, schemes_of(model), batches)
    with pytest.raises(ValueError, match="a pass with a task"):
        method.seen["frame/0"].task_loss(1)


def test_a_method_that_leaves_out_a_layer_is_an_error(model, batches):
    class Forgetful(Rounding):
        def quantize_unit(self, context):
            weights = dict(super().quantize_unit(context).weights)
            weights.popitem()
            return UnitResult(weights)

    with pytest.raises(ValueError, match="expected integers for"):
        quantize_units(model, Forgetful(), schemes_of(model), batches)


def test_activations_that_are_not_finite_stop_the_pass(model):
    batch = SceneBatch(torch.full((1, 1, 3, 28, 28), float("nan")))
    with pytest.raises(QvggtError, match="sees NaN or infinity on the calibration scenes"):
        quantize_units(model, Rounding(), schemes_of(model), [batch])
