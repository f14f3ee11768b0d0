"""What the measurement of single parts promises, on a small model with random weights."""

import json
import math
from dataclasses import replace

import pytest
import torch
from noise import noise_model, noise_task

from qvggt.calibration.sensitivity import PARTS, SensitivityReport, items_of, measure_sensitivity
from qvggt.calibration.units import model_units
from qvggt.methods.gptq import second_order_rounder
from qvggt.model import VGGTConfig
from qvggt.nn.fake import fake_quantized
from qvggt.options import TOKEN_CLASSES
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import QvggtError

SCHEMES = (Scheme(3, 32, scale_rule="mse"), Scheme(8, 32))


@pytest.fixture(scope="module")
def model():
    return noise_model(VGGTConfig.micro(), std=0.08)


@pytest.fixture(scope="module")
def task(model):
    return noise_task(model, (1, 2, 3, 28, 42), (1, 2, 3, 28, 28))


@pytest.fixture(scope="module")
def report(model, task):
    return measure_sensitivity(model, task, SCHEMES, "unit")


@pytest.mark.parametrize("granularity", ["unit", "part", "layer"])
def test_items_are_all_layers_once(model, granularity):
    for unit in model_units(model):
        layers = [layer for item in items_of(unit, granularity) for layer in item.layers]
        assert sorted(layers) == sorted((*unit.linear, *unit.conv))
        for item in items_of(unit, granularity):
            assert item.part == "all" if granularity == "unit" else item.part in PARTS


def test_parts_of_the_camera_head_keep_its_blocks_apart_from_the_rest(model):
    camera = next(unit for unit in model_units(model) if unit.id == "camera")
    parts = {item.part: item.layers for item in items_of(camera, "part")}
    assert set(parts) == {"qkv", "proj", "fc1", "fc2", "other"}
    assert "camera_head.pose_branch.fc1" in parts["other"]
    assert parts["fc1"] == ("camera_head.trunk.0.mlp.fc1",)


def test_a_row_is_the_loss_of_the_whole_model_with_that_item_quantized(model, task, report):
    for row in report.rows:
        with fake_quantized(model, dict.fromkeys(row.item.layers, row.scheme)):
            whole = task.loss(model)
        for name in ("camera", "depth", "point", "geometry"):
            assert getattr(row.loss, name) == pytest.approx(getattr(whole, name), rel=1e-5, abs=1e-8)


def test_the_model_is_left_as_it_was_and_the_measurement_repeats_to_the_bit(model, task, report):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert measure_sensitivity(model, task, SCHEMES, "unit", memory_bytes=0) == report
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_fewer_bits_lose_more_and_float32_nothing(model, task, report):
    few, many = SCHEMES
    totals = {(row.item.name, row.scheme): row.total for row in report.rows}
    assert sum(totals[name, few] for name, scheme in totals if scheme == few) > 10 * sum(
        totals[name, many] for name, scheme in totals if scheme == many
    )
    for row in measure_sensitivity(model, task, [FloatScheme("float32")], "unit").rows:
        assert row.total == 0
        assert row.increase.camera == row.increase.depth == row.increase.point == row.increase.geometry == 0


def test_a_head_changes_its_own_answer_only(report):
    for row in report.rows:
        zero = {"camera": ("depth", "point"), "depth": ("camera", "point"), "point": ("camera", "depth")}
        for name in zero.get(row.item.unit, ()):
            assert getattr(row.increase, name) == 0


def test_progress_rises_to_one(model, task):
    shares = []
    report = measure_sensitivity(model, task, SCHEMES[:1], "part", lambda row, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert len(shares) == len(report.rows) == len(report.items)


def test_ranking(report):
    ranked = report.most_fragile(SCHEMES[0])
    assert [row.total for row in ranked] == sorted((row.total for row in ranked), reverse=True)
    assert report.scheme_nearest_4_bits == SCHEMES[0]
    assert report.schemes == SCHEMES


def test_json_round_trip_infinity_included(report):
    broken = replace(report.rows[0], loss=replace(report.rows[0].loss, depth=math.inf), total=math.inf)
    report = replace(report, rows=(broken, *report.rows[1:]), about={"model": "m"})
    text = json.dumps(report.to_json(), allow_nan=False)
    assert SensitivityReport.from_json(json.loads(text)) == report


def test_what_is_no_report_is_refused(report):
    for values in ({}, [], {"version": 9}):
        with pytest.raises(QvggtError, match="measure again"):
            SensitivityReport.from_json(values)
    with pytest.raises(QvggtError, match="damaged"):
        SensitivityReport.from_json({"version": 1, "granularity": "unit"})


def test_weights_that_are_given_are_those_that_are_measured(model, task, report):
    asked = []

    def rounder(model, unit, states, scheme):
        asked.append((unit.id, scheme))
        assert len(states) == len(task.batches)
        return {layer: model.get_parameter(f"{layer}.weight") * 0.5 for layer in unit.linear}

    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = measure_sensitivity(model, task, SCHEMES, "unit", rounder=rounder)
    assert asked == [(unit.id, scheme) for unit in task.units for scheme in SCHEMES]
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    for row, other in zip(given.rows, report.rows, strict=True):
        if row.item.unit in ("depth", "point"):  # convolutions alone
            assert row.loss == other.loss
    blocks = [row for row in given.rows if row.item.unit == "frame/0"]
    assert blocks[0].loss == blocks[1].loss  # the scheme is the rounder's business
    for layer in blocks[0].item.layers:
        model.get_parameter(f"{layer}.weight").mul_(0.5)
    try:
        assert blocks[0].loss == task.loss(model)
    finally:
        for layer in blocks[0].item.layers:
            model.get_parameter(f"{layer}.weight").mul_(2.0)


def test_second_order_rounding_loses_less_than_to_nearest(model, task):
    coarse = (Scheme(2, 32),)
    nearest = measure_sensitivity(model, task, coarse, "unit")
    second = measure_sensitivity(model, task, coarse, "unit", rounder=second_order_rounder(TOKEN_CLASSES))
    pairs = [
        (one.total, other.total)
        for one, other in zip(second.rows, nearest.rows, strict=True)
        if one.item.unit.startswith(("frame/", "global/"))
    ]
    assert sum(one for one, _ in pairs) < sum(other for _, other in pairs)


def test_no_scheme_is_refused(model, task):
    with pytest.raises(ValueError, match="at least one"):
        measure_sensitivity(model, task, ())
