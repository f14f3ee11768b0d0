"""Allocation under a budget, against brute force, and the size estimates that it relies on."""

import ctypes
import itertools
import math
import os
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.calibration.objective import TaskLoss, error_of_huber, huber_of_error
from qvggt.calibration.sensitivity import SensitivityReport, SensitivityRow, items_of
from qvggt.calibration.size import storage_of
from qvggt.calibration.units import model_units
from qvggt.checkpoint.folder import open_checkpoint
from qvggt.checkpoint.report import inspect_model
from qvggt.checkpoint.write import save_checkpoint
from qvggt.methods.allocate import Budget, allocate, knapsack, predicted_increase
from qvggt.model import VGGT, VGGTConfig
from qvggt.nn.convert import convert
from qvggt.quant.recipe import build_recipe
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import QvggtError

CONFIG = VGGTConfig.micro()
STORAGE = storage_of(CONFIG)
SCHEMES = tuple(Scheme(bits, 32) for bits in (2, 3, 4, 8))
FLOAT16 = FloatScheme("float16")


def report(granularity="part", loss=lambda item, scheme: (sum(map(ord, item.name)) % 97 + 1) / 4**scheme.bits):
    with torch.device("meta"):
        units = model_units(VGGT(CONFIG))
    rows = []
    for item in (item for unit in units for item in items_of(unit, granularity)):
        for scheme in SCHEMES:
            total = loss(item, scheme)
            parts = TaskLoss(total, 0, 0, 0)
            rows.append(SensitivityRow(item, scheme, parts, parts, total, 1))
    return SensitivityReport(granularity, TaskLoss(0, 0.1, 0.1, 0), tuple(rows))


REPORT = report()
TEACHER = replace(REPORT, baseline=TaskLoss(0, 0, 0, 0.1))
"""The same measurements against the float model's own predictions."""


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_knapsack__is_the_optimum(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    costs = [data.draw(st.lists(st.integers(0, 50), min_size=n, max_size=n)) for n in sizes]
    losses = [
        data.draw(st.lists(st.sampled_from([0.0, 1e-4, 0.01, 0.3, 1.0, 2.5]), min_size=n, max_size=n)) for n in sizes
    ]
    limit = data.draw(st.integers(0, 200))
    possible = {}
    for choice in itertools.product(*map(range, sizes)):
        cost = sum(row[index] for row, index in zip(costs, choice, strict=True))
        if cost <= limit:
            possible[choice] = sum(row[index] for row, index in zip(losses, choice, strict=True))
    chosen = knapsack(costs, losses, limit)
    if not possible:
        assert chosen is None
        return
    assert chosen is not None
    assert possible[tuple(chosen)] == pytest.approx(min(possible.values()), abs=1e-6)
    assert chosen == knapsack(costs, losses, limit)


def test_knapsack__equal_losses_take_the_smaller():
    assert knapsack([[3, 1, 2], [5, 9, 5]], [[0.0] * 3] * 2, 100)[0] == 1
    assert knapsack([[4000000000, 1]], [[1.0, 1.0]], 1 << 40) == [1]


@pytest.mark.parametrize("granularity", ["unit", "part", "layer"])
def test_allocate__keeps_the_budget_and_a_larger_one_never_loses_more(granularity):
    table, before = report(granularity), math.inf
    for bits in (3.1, 3.6, 4.0, 4.5, 6.0, 9.0, 16.0):
        found = allocate(table, STORAGE, Budget(average_bits=bits))
        assert found.average_bits <= bits
        assert found.predicted_increase <= before + 1e-9
        before = found.predicted_increase
        assert list(found.schemes) == list(STORAGE.shapes)
    before, most = math.inf, STORAGE.checkpoint_bytes(dict.fromkeys(STORAGE.shapes, FLOAT16))
    for size in (most // 3, most // 2, most):
        found = allocate(table, STORAGE, Budget(max_bytes=size))
        assert found.checkpoint_bytes <= size
        assert found.predicted_increase <= before + 1e-9
        before = found.predicted_increase
    assert before == 0


def test_predicted_increase__adds_up_increases_against_the_truth():
    found = allocate(REPORT, STORAGE, Budget(average_bits=4.6))
    assert found.predicted_increase == pytest.approx(sum(row.total for row in rows_of(found, REPORT)))
    assert found.figures_json()["additivity"] == "sum"
    assert found.figures_json()["prediction"] is None


def test_predicted_increase__adds_up_squares_of_each_parts_errors_against_the_float_model():
    found = allocate(TEACHER, STORAGE, Budget(average_bits=4.6))
    errors = [error_of_huber(row.increase.camera) for row in rows_of(found, TEACHER)]
    assert found.predicted_increase == pytest.approx(huber_of_error(math.hypot(*errors)))
    assert found.figures_json()["additivity"] == "squares"


def rows_of(found, table):
    rows = {(row.item, row.scheme): row for row in table.rows}
    keys = [(item, found.schemes[item.layers[0]]) for item in table.items]
    return [rows[key] for key in keys if key in rows]


def test_allocate__minimizes_what_it_predicts():
    budget = Budget(average_bits=4.6)
    by_squares, by_sum = (allocate(table, STORAGE, budget).schemes for table in (TEACHER, REPORT))
    for table, best, other in ((TEACHER, by_squares, by_sum), (REPORT, by_sum, by_squares)):
        assert predicted_increase(best, STORAGE, table) <= predicted_increase(other, STORAGE, table) + 1e-9


def test_allocate__pose_errors_count_as_much_below_the_threshold_of_their_loss():
    def parts(item, scheme):
        error = 1e-3 * 4.0**-scheme.bits
        return TaskLoss(huber_of_error(error), 0, 0, 0) if item.unit == "camera" else TaskLoss(0, 0, error, 0)

    rows = [
        replace(row, increase=found, loss=found, total=found.total)
        for row in TEACHER.rows
        for found in [parts(row.item, row.scheme)]
    ]
    found = allocate(replace(TEACHER, rows=tuple(rows)), STORAGE, Budget(average_bits=4.6)).schemes
    head = [scheme.bits for layer, scheme in found.items() if layer.startswith("camera_head.trunk")]
    assert min(head) >= 4


def test_predicted_increase__unmeasured_schemes_have_none():
    assert predicted_increase(dict.fromkeys(STORAGE.shapes, Scheme(5, 32)), STORAGE, REPORT) is None
    first, *_ = (item for item in REPORT.items if len(item.layers) > 1)
    mixed = dict.fromkeys(STORAGE.shapes, SCHEMES[0]) | {first.layers[0]: SCHEMES[1]}
    assert predicted_increase(mixed, STORAGE, REPORT) is None


def test_allocate__convolutions_are_fixed_under_a_budget_of_bits():
    conv = [layer for layer, shape in STORAGE.shapes.items() if shape.kind == "conv2d"]
    found = allocate(REPORT, STORAGE, Budget(average_bits=4.0)).schemes
    assert {found[layer] for layer in conv} == {SCHEMES[-1]}
    found = allocate(REPORT, STORAGE, Budget(average_bits=4.0), conv=FLOAT16).schemes
    assert {found[layer] for layer in conv} == {FLOAT16}


def test_predicted_increase__is_smoothed():
    def loss(item, scheme):  # 3 bits by chance better than 8, and better than float
        return {2: 1.0, 3: -0.5, 4: 0.2, 8: 0.1}[scheme.bits]

    found = predicted_increase(dict.fromkeys(STORAGE.shapes, SCHEMES[1]), STORAGE, report(loss=loss))
    assert found == pytest.approx(0.2 * len(REPORT.items))


def test_allocate__infinite_losses_are_never_chosen():
    table = report(loss=lambda item, scheme: math.inf if scheme.bits < 8 else 1.0)
    found = allocate(table, STORAGE, Budget(average_bits=9.5))
    assert {scheme.bits for scheme in found.schemes.values()} <= {8, 16}


def test_allocate__too_small_a_budget_names_the_least_that_fits():
    with pytest.raises(QvggtError, match="at least") as refusal:
        allocate(REPORT, STORAGE, Budget(average_bits=1.0))
    least = float(str(refusal.value).partition("at least ")[2].split(",")[0].split()[0])
    assert allocate(REPORT, STORAGE, Budget(average_bits=least)).average_bits == pytest.approx(least, abs=2e-3)
    with pytest.raises(QvggtError, match="at least") as refusal:
        allocate(REPORT, STORAGE, Budget(max_bytes=1000))
    least = int(str(refusal.value).partition("at least ")[2].split(",")[0].split()[0])
    assert allocate(REPORT, STORAGE, Budget(max_bytes=least)).checkpoint_bytes == least
    for impossible in ({}, {"average_bits": 4, "max_bytes": 5}, {"average_bits": 0.0}, {"max_bytes": -1}):
        with pytest.raises(QvggtError, match="budget"):
            Budget(**impossible)


def test_allocate__refuses_another_models_report():
    other = replace(REPORT, rows=REPORT.rows[4:])
    with pytest.raises(QvggtError, match="other layers"):
        allocate(other, STORAGE, Budget(average_bits=4.0))


@pytest.mark.parametrize("scheme", [Scheme(4, 32), Scheme(3, 32, symmetric=False), FLOAT16])
def test_storage_of__agrees_with_a_checkpoint(tmp_path, scheme):
    schemes = {layer: scheme if s.kind == "linear" else SCHEMES[-1] for layer, s in STORAGE.shapes.items()}
    recipe = build_recipe(STORAGE.shapes, schemes)
    model = VGGT(CONFIG).requires_grad_(False)
    convert(model, recipe)
    written = inspect_model(open_checkpoint(save_checkpoint(model, tmp_path / "m")))
    weights = sum(STORAGE.layer_bits(layer, schemes[layer]) // 8 for layer in schemes)
    shape_bytes = 16 * len(recipe.quantized)
    tensors = weights + shape_bytes + 2 * STORAGE.other_numbers
    assert tensors == sum(layer.bytes for layer in written.layers)
    assert written.checkpoint_bytes <= STORAGE.checkpoint_bytes(schemes) <= 1.3 * written.checkpoint_bytes


def test_average_bits__count_scales_of_linear_layers_only():
    schemes = {layer: Scheme(4, 32) if shape.kind == "linear" else FLOAT16 for layer, shape in STORAGE.shapes.items()}
    groups = sum(s.rows * Scheme(4, 32).groups(s.width) for s in STORAGE.shapes.values() if s.kind == "linear")
    # A row whose codes do not fill whole words takes a little more: the camera head reads nine numbers.
    assert STORAGE.average_bits(schemes) == pytest.approx(4 + 16 * groups / STORAGE.linear_weights, abs=0.02)


@pytest.mark.skipif(os.name != "posix", reason="C's output is left alone there")
def test_knapsack__what_the_solver_prints_is_dropped(monkeypatch, capfd):
    module = sys.modules["qvggt.methods.allocate"]
    whole = module.milp

    def talking(*arguments, **options):
        ctypes.CDLL(None).puts(b"a line of the solver's own")
        return whole(*arguments, **options)

    monkeypatch.setattr(module, "milp", talking)
    assert knapsack([[1, 2]], [[1.0, 0.0]], 2) == [1]
    ctypes.CDLL(None).fflush(None)
    os.write(1, b"ours\n")
    assert capfd.readouterr().out == "ours\n"


def test_allocate__with_nothing_to_choose_convolutions_have_their_scheme():
    convolutions = [layer for layer, shape in STORAGE.shapes.items() if shape.kind == "conv2d"]
    found = allocate(REPORT, STORAGE, Budget(average_bits=32), Scheme(8), only=convolutions)
    assert {found.schemes[layer] for layer in convolutions} == {Scheme(8)}
    linear = allocate(REPORT, STORAGE, Budget(average_bits=32), Scheme(8), only=[])
    assert set(linear.schemes.values()) == {FLOAT16}
    with pytest.raises(QvggtError, match="allow at least 16"):
        allocate(REPORT, STORAGE, Budget(average_bits=4), Scheme(8), only=convolutions)


def test_allocate__convolutions_that_are_kept_float_stay_so_within_bytes():
    convolutions = [layer for layer, shape in STORAGE.shapes.items() if shape.kind == "conv2d"]
    size = STORAGE.checkpoint_bytes(dict.fromkeys(STORAGE.shapes, Scheme(8, 32))) * 2
    found = allocate(REPORT, STORAGE, Budget(max_bytes=size), FLOAT16)
    assert {found.schemes[layer] for layer in convolutions} == {FLOAT16}
    assert found.checkpoint_bytes <= size
