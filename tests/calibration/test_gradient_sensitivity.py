"""Sensitivities from gradients equal what all gradients at once give, and predict what is measured."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from noise import noise_model, noise_task

from qvggt.calibration import gradient_sensitivity
from qvggt.calibration.gradient_sensitivity import estimate_sensitivity, expected_huber, find_sensitivity
from qvggt.calibration.objective import POSE_HUBER
from qvggt.calibration.probes import heads_of_scene, output_probes
from qvggt.calibration.sensitivity import items_of, measure_sensitivity
from qvggt.calibration.size import storage_of
from qvggt.calibration.statistics import observe, pooled
from qvggt.calibration.units import HEADS, run_units, start
from qvggt.methods.allocate import Budget, allocate
from qvggt.methods.testing import SMALL
from qvggt.nn.fake import fake_quantize
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import QvggtError

SCHEMES = (Scheme(3, 16), Scheme(8, 16))


@pytest.fixture(scope="module")
def model():
    return noise_model(SMALL, std=0.1)


@pytest.fixture(scope="module")
def task(model):
    return noise_task(model, (2, 2, 3, 28, 42), (1, 3, 3, 28, 28))


@pytest.fixture(scope="module")
def report(model, task):
    return estimate_sensitivity(model, task, SCHEMES, "layer")


def squares_at_once(model, task, seed):
    """Return the mean squared gradients of every layer's weight by head, from whole backward passes."""
    single, signs = task.by_scene(), torch.Generator().manual_seed(seed)
    layers = [layer for unit in task.units if unit.kind not in HEADS for layer in (*unit.linear, *unit.conv)]
    weights = [model.get_parameter(f"{layer}.weight").requires_grad_(True) for layer in layers]
    total = {head: {layer: torch.zeros(()) for layer in layers} for head in HEADS}
    scenes = len(single.batches)
    asked = [heads_of_scene(scene, scenes) for scene in range(scenes)]
    for batch, target, heads in zip(single.batches, single.targets, asked, strict=True):
        outputs = run_units(model, task.units, start(batch.images)).outputs
        for head, pull in output_probes(outputs, target, signs, heads).items():
            ((name, pulled),) = pull.items()
            found = torch.autograd.grad(outputs[name], weights, pulled, retain_graph=True)
            for layer, gradient in zip(layers, found, strict=True):
                total[head][layer] = total[head][layer] + gradient.square() / sum(head in each for each in asked)
    for weight in weights:
        weight.requires_grad_(False)
    return total


@pytest.mark.parametrize("scenes", [1, 3])
def test_unit_by_unit_equals_all_gradients_at_once(model, task, scenes, monkeypatch):
    task = task.first(scenes)
    report = estimate_sensitivity(model, task, SCHEMES, "layer")
    monkeypatch.setattr(model.camera_head, "differentiable_iterations", True)
    squares = squares_at_once(model, task, seed=0)
    blocks = [row for row in report.rows if row.item.unit not in HEADS]
    assert len(blocks) == len(SCHEMES) * len(squares["camera"])
    for row in blocks:
        (layer,) = row.item.layers
        weight = model.get_parameter(f"{layer}.weight")
        change = (fake_quantize(weight, row.scheme) - weight).square()
        camera, depth, point = (math.sqrt(float((squares[head][layer] * change).sum())) for head in HEADS)
        expected = (
            expected_huber(camera, POSE_HUBER) / POSE_HUBER,
            depth * math.sqrt(2 / math.pi),  # mean magnitude of a normal number
            point * math.sqrt(8 / (3 * math.pi)),  # mean norm of three
        )
        found = (row.increase.camera, row.increase.depth, row.increase.point)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6), row.item.name


def test_heads_are_measured(model, task, report):
    measured = measure_sensitivity(model, task.by_scene(), SCHEMES, "layer").rows
    for row, other in zip(report.rows, measured, strict=True):
        assert row.item == other.item
        if row.item.unit in HEADS:
            assert row.total == pytest.approx(other.total, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("scenes", [1, 2, 3, 8])
def test_every_head_is_probed_and_every_scene_by_one_if_there_are_enough(scenes):
    asked = [heads_of_scene(scene, scenes) for scene in range(scenes)]
    assert {head for heads in asked for head in heads} == set(HEADS)
    assert all(heads for heads in asked)
    assert scenes < 3 or all(len(heads) == 1 for heads in asked)


def test_every_item_and_scheme_has_its_row_in_execution_order(model, task, report):
    expected = [(item, scheme) for unit in task.units for item in items_of(unit, "layer") for scheme in SCHEMES]
    assert [(row.item, row.scheme) for row in report.rows] == expected


def test_errors_of_layers_add_up_as_squares(model, task, report):
    layers = {(row.item.name, row.scheme): row.increase for row in report.rows}
    for row in estimate_sensitivity(model, task, SCHEMES, "part").rows:
        if row.item.unit not in HEADS:
            for head in ("depth", "point"):
                parts = [getattr(layers[layer, row.scheme], head) for layer in row.item.layers]
                assert getattr(row.increase, head) == pytest.approx(math.hypot(*parts), rel=1e-4, abs=1e-6)


def test_small_changes_lose_what_is_predicted(model, task):
    """On average over the blocks: one draw of signs per scene is a noisy estimate of each."""
    estimated, measured = (
        [row.increase.camera + row.increase.depth + row.increase.point for row in find(model, task, SCHEMES[1:]).rows]
        for find in (estimate_sensitivity, measure_sensitivity)
    )
    pairs = [pair for pair in zip(estimated, measured, strict=True) if pair[1] > 5e-6]  # far above the noise of sums
    assert len(pairs) > 10
    assert abs(sum(math.log(one / other) for one, other in pairs) / len(pairs)) < 0.5


def test_errors_that_cancel_in_pairs_are_not_counted():
    """Two hidden units that answer alike, and whose outgoing weights are large and opposite, change nothing."""
    model = noise_model(SMALL, std=0.1)
    mlp = model.get_submodule("aggregator.global_blocks.1.mlp")
    fc1, fc2 = mlp.get_submodule("fc1"), mlp.get_submodule("fc2")
    with torch.no_grad():
        fc1.weight[1], fc1.bias[1] = fc1.weight[0], fc1.bias[0]
        fc2.weight[:, 0] = 4 * torch.randn(len(fc2.weight), generator=torch.Generator().manual_seed(1)).sign()
        fc2.weight[:, 1] = -fc2.weight[:, 0]
    task = noise_task(model, (4, 2, 3, 28, 28))
    schemes = [Scheme(bits) for bits in (2, 3, 4, 5, 6)]
    estimated, measured = (
        find(model, task, schemes, "layer").rows for find in (estimate_sensitivity, measure_sensitivity)
    )
    for layer in ("mlp.fc1", "mlp.fc2"):
        ratios = [
            one.increase.depth / other.increase.depth
            for one, other in zip(estimated, measured, strict=True)
            if one.item.unit == "global/1" and one.item.layers[0].endswith(layer)
        ]
        assert len(ratios) == len(schemes)
        assert 1 / 3 < np.exp(np.mean(np.log(ratios))) < 3, (layer, ratios)


def test_float_weights_lose_nothing(model, task):
    assert all(row.total == 0 for row in estimate_sensitivity(model, task, [FloatScheme("float32")], "unit").rows)


def test_the_model_is_left_as_it_was_and_the_estimate_repeats_to_the_bit(model, task, report):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert estimate_sensitivity(model, task, SCHEMES, "layer", memory_bytes=0) == report
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.camera_head.differentiable_iterations


def test_given_weights_are_those_that_are_judged(model, task):
    def rounder(model, unit, states, scheme):
        return {layer: model.get_parameter(f"{layer}.weight") * 1.5 for layer in unit.linear}

    rows = {row.item.name: row for row in estimate_sensitivity(model, task, SCHEMES[:1], "part", rounder=rounder).rows}
    twice = {
        row.item.name: row
        for row in estimate_sensitivity(
            model,
            task,
            SCHEMES[:1],
            "part",
            rounder=lambda *args: {layer: weight * 4 / 3 for layer, weight in rounder(*args).items()},
        ).rows
    }
    for name in ("frame/0 qkv", "global/1 fc1"):
        assert twice[name].increase.depth == pytest.approx(2 * rows[name].increase.depth, rel=1e-4)


def test_given_errors_that_cancel_in_a_layers_output_count_little(model, task):
    def rounder_along(largest):
        def rounder(model, unit, states, scheme):
            changed = {}
            for layer, found in observe(model, unit, states).items():
                weight = model.get_parameter(f"{layer}.weight")
                directions = torch.linalg.eigh(pooled(found).gram).eigenvectors  # least first
                chosen = directions[:, -4:] if largest else directions[:, :4]
                changed[layer] = weight + 0.1 * weight[:, :4] @ chosen.T
            return changed

        return rounder

    least, most = (
        estimate_sensitivity(model, task, SCHEMES[:1], rounder=rounder_along(largest)).rows for largest in (False, True)
    )
    for one, other in zip(least, most, strict=True):
        if one.item.part in ("qkv", "fc1", "fc2") and one.item.unit != "camera":  # of many tokens
            assert one.total < 0.1 * other.total


def test_allocation_takes_the_report(model, report):
    storage = storage_of(model.config)
    budget = Budget(average_bits=storage.average_bits(dict.fromkeys(storage.shapes, Scheme(4, 16))))
    found = allocate(report, storage, budget)
    assert found.additivity == "squares"
    assert set(SCHEMES) <= set(found.schemes.values())
    assert found.predicted_increase is not None


def test_progress_rises_to_one(model, task):
    shares = []
    estimate_sensitivity(model, task, SCHEMES[:1], on_row=lambda row, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_what_gradients_cannot_tell_is_refused(model, task):
    with pytest.raises(ValueError, match="at least one"):
        estimate_sensitivity(model, task, ())
    with pytest.raises(QvggtError, match=r"--by measurement"):
        estimate_sensitivity(model, task, [replace(SCHEMES[0], activation_bits=8)])


def test_auto_measures_what_gradients_cannot_judge(model, task, monkeypatch):
    monkeypatch.setattr(gradient_sensitivity, "measure_sensitivity", lambda *_, **options: "measured")
    rounds_inputs = [Scheme(4, 16, activation_bits=8)]
    assert find_sensitivity(model, task, SCHEMES, "auto", supervision="truth") == "measured"
    assert find_sensitivity(model, task, rounds_inputs, "auto", supervision="teacher") == "measured"
    assert find_sensitivity(model, task, SCHEMES, "measurement", supervision="teacher") == "measured"
    assert find_sensitivity(model, task.first(1), SCHEMES[:1], "auto", supervision="teacher").rows
    with pytest.raises(QvggtError, match="--by measurement"):
        find_sensitivity(model, task, rounds_inputs, "gradient", supervision="teacher")
