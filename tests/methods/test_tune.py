import copy

import pytest
import torch

from qvggt.calibration.run import apply, effective_weight
from qvggt.calibration.task import make_task
from qvggt.calibration.unit_store import UnitResult
from qvggt.calibration.units import model_units
from qvggt.methods.tune import TuneOptions, tune
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.hadamard import rotate_weight
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

LONGER = TuneOptions(steps=12, scenes_per_step=1, dense_frames=1, scale_lr=3e-3, float_lr=5e-3)
ONLY_SCALES = TuneOptions(steps=3, scenes_per_step=1, dense_frames=1, float_lr=0.0)


def rounded(model, bits=3, scheme=None, conv=True):
    """Return integers of every layer, rounded to nearest, and give the model their values."""
    scheme = scheme or Scheme(bits, 16)
    weights = {}
    for unit in model_units(model):
        for layer in (*unit.linear, *(unit.conv if conv else ())):
            weight = model.get_parameter(f"{layer}.weight").detach()
            own = scheme if weight.ndim == 2 else Scheme(8, 16)
            own = own.for_width(weight[0].numel())
            weights[layer] = quantize(rotate_weight(weight) if own.rotation else weight, own)
    apply(model, UnitResult(weights))
    return weights


def test_tune__lowers_the_loss(model, micro, batches):
    weights = rounded(model)
    reports = []
    found = tune(model, micro, weights, batches[:1], LONGER, lambda *report: reports.append(report))
    assert reports == [("tuning", (step + 1) / LONGER.steps) for step in range(LONGER.steps)]
    assert found.last_loss < found.first_loss
    assert found.to_json() == {"first_loss": found.first_loss, "last_loss": found.last_loss}


def test_tune__lowers_the_objective_on_its_scenes(model, micro, batches):
    task = make_task(micro, batches[:1], "teacher")
    weights = rounded(model, bits=2)
    before = task.loss(model)
    found = tune(model, micro, weights, batches[:1], LONGER)
    apply(model, UnitResult(found.weights, found.parameters))
    after = task.loss(model)
    assert after.camera + after.depth + after.point < before.camera + before.depth + before.point


def test_tune__keeps_schemes_and_shapes(model, micro, batches):
    weights = rounded(model)
    found = tune(model, micro, weights, batches, TuneOptions(steps=3))
    assert found.weights.keys() == weights.keys()
    changed = 0
    for layer, weight in weights.items():
        other = found.weights[layer]
        low, high = weight.scheme.code_range
        assert other.scheme == weight.scheme
        assert (other.codes.dtype, other.codes.shape) == (weight.codes.dtype, weight.codes.shape)
        assert (other.grid.scale.dtype, other.grid.scale.shape) == (weight.grid.scale.dtype, weight.grid.scale.shape)
        assert low <= other.codes.min() <= other.codes.max() <= high
        assert (other.grid.scale > 0).all()
        changed += int((other.grid.scale != weight.grid.scale).sum())
    assert changed > 0
    held = {f"{layer}.weight" for layer in weights}
    expected = {name for name, _ in model.named_parameters() if name not in held and not name.endswith("mask_token")}
    assert set(found.parameters) == expected


@pytest.mark.parametrize("symmetric", [True, False])
def test_tune__keeps_codes(model, micro, batches, symmetric):
    weights = rounded(model, scheme=Scheme(3, 16, symmetric=symmetric))
    found = tune(model, micro, weights, batches, TuneOptions(steps=3))
    for layer, weight in weights.items():
        assert torch.equal(found.weights[layer].codes, weight.codes), layer
        if weight.grid.zero_point is not None:
            assert torch.equal(found.weights[layer].grid.zero_point, weight.grid.zero_point)
    assert any(not torch.equal(found.weights[layer].grid.scale, weight.grid.scale) for layer, weight in weights.items())


def test_tune__zero_learning_rates_change_nothing(model, micro, batches):
    weights = rounded(model)
    found = tune(model, micro, weights, batches, TuneOptions(steps=2, scale_lr=1e-30, float_lr=0.0))
    for layer, weight in weights.items():
        assert torch.equal(dequantize(found.weights[layer]), dequantize(weight)), layer
    assert all(torch.equal(value, model.get_parameter(name)) for name, value in found.parameters.items())


@pytest.mark.parametrize("scheme", [Scheme(4, 16, rotation=True), Scheme(4, 16, activation_bits=8)])
def test_tune__keeps_layers_with_rotated_or_rounded_inputs(model, micro, batches, scheme):
    weights = rounded(model, scheme=scheme)
    found = tune(model, micro, weights, batches, ONLY_SCALES)
    linear = [layer for layer, weight in weights.items() if not weight.scheme.weights_only]
    assert linear
    for layer in linear:
        assert found.weights[layer] is weights[layer]
        assert torch.equal(effective_weight(found.weights[layer]), model.get_parameter(f"{layer}.weight"))
    others = set(weights) - set(linear)
    assert any(not torch.equal(found.weights[name].grid.scale, weights[name].grid.scale) for name in others)


def test_tune__leaves_model_and_teacher_unchanged(model, micro, batches):
    weights = rounded(model)
    before = copy.deepcopy(model.state_dict())
    teacher = copy.deepcopy(micro)
    tune(model, teacher, weights, batches, TuneOptions(steps=2, scenes_per_step=1))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in micro.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_tune__result_depends_on_the_seed_only(model, micro, batches):
    weights = rounded(model)
    first, second, other = (
        tune(model, micro, weights, batches, TuneOptions(steps=3, scenes_per_step=1, seed=seed)) for seed in (0, 0, 1)
    )
    assert first.first_loss == second.first_loss != other.first_loss
    for layer in weights:
        assert torch.equal(first.weights[layer].codes, second.weights[layer].codes)
        assert torch.equal(first.weights[layer].grid.scale, second.weights[layer].grid.scale)
    assert all(torch.equal(value, second.parameters[name]) for name, value in first.parameters.items())
    assert any(not torch.equal(value, other.parameters[name]) for name, value in first.parameters.items())


def test_tune__says_that_it_diverged(model, micro, batches):
    weights = rounded(model)
    with pytest.raises(QvggtError, match="diverged"):
        tune(model, micro, weights, batches, TuneOptions(steps=20, scale_lr=1e6, float_lr=1e6))
