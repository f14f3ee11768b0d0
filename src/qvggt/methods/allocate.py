"""A scheme for every layer: the least loss that a budget of bits or bytes allows, predicted from that of single items.

Nothing but single items is measured, so what several of them lose together is a guess. Against the float model's own
answers the loss is the size of an error; errors of independent items point anywhere, and their squares add up. Against
the true geometry, from which the float model is away already, a small error lengthens as often as it shortens the way,
and what is left of it adds up as it is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import Any, Literal

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from qvggt.calibration.sensitivity import Item, SensitivityReport
from qvggt.calibration.size import Storage
from qvggt.quant.scheme import FloatScheme, LayerScheme
from qvggt.types import LayerId, QvggtError

Additivity = Literal["squares", "sum"]
"""What adds up over items: the squares of their increases of the loss, or the increases themselves."""

_COST_SCALE = 1e4
"""The largest loss in the solver's units: its absolute tolerances (1e-6) are then of no account."""


_LAST_DIGITS = 1e-4
"""Of depth and points, in units of the scene's size."""


@dataclass(frozen=True)
class Budget:
    """How large the result may be; one of the two.

    Attributes:
        average_bits: per weight over all linear layers, scales and zero points among them.
        max_bytes: of the whole checkpoint.
    """

    average_bits: float | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.average_bits, self.max_bytes) if value is not None]
        if len(given) != 1 or not given[0] > 0:
            raise QvggtError("a budget is either a number of average bits or a number of bytes, above zero")


@dataclass(frozen=True)
class PredictionError:
    """How good the prediction from single items was.

    Attributes:
        predicted: increase of the loss.
        actual: the measured one.
        difference: actual minus predicted.
        ratio: actual over predicted; None where nothing was predicted.
    """

    predicted: float
    actual: float
    difference: float
    ratio: float | None


@dataclass(frozen=True)
class Allocation:
    """A scheme for every layer.

    Attributes:
        schemes: of every layer that can be quantized, in the model's order.
        average_bits: per weight over all linear layers, scales and zero points among them.
        checkpoint_bytes: estimated, not too low.
        predicted_increase: of the loss over the float model's; None if it was not measured for these schemes.
        additivity: how it was predicted.
        prediction: how that turned out, once the model was measured.
    """

    schemes: Mapping[LayerId, LayerScheme]
    average_bits: float
    checkpoint_bytes: int
    predicted_increase: float | None = None
    additivity: Additivity | None = None
    prediction: PredictionError | None = None

    def measured(self, actual_increase: float) -> Allocation:
        """Return this allocation with what the model lost in fact."""
        if self.predicted_increase is None:
            return self
        return replace(self, prediction=prediction_error(self.predicted_increase, actual_increase))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {**self.figures_json(), "layers": {layer: scheme.to_json() for layer, scheme in self.schemes.items()}}

    def figures_json(self) -> dict[str, Any]:
        """Return all but the schemes, which a recipe lists by itself, as JSON-ready values."""
        return {
            "average_bits": self.average_bits,
            "checkpoint_bytes": self.checkpoint_bytes,
            "predicted_increase": self.predicted_increase,
            "additivity": self.additivity,
            "prediction": None if self.prediction is None else asdict(self.prediction),
        }


def prediction_error(predicted: float, actual: float) -> PredictionError:
    """Compare what was predicted with what the model lost in fact.

    >>> prediction_error(0.25, 0.5)
    PredictionError(predicted=0.25, actual=0.5, difference=0.25, ratio=2.0)
    """
    return PredictionError(predicted, actual, actual - predicted, actual / predicted if predicted > 0 else None)


def additivity_of(report: SensitivityReport) -> Additivity:
    """Return what adds up: squares, if the float model's own answers were the target and its loss on them nothing.

    Nothing but the last digits, which depend on how many scenes run at a time.
    """
    return "squares" if max(report.baseline.depth, report.baseline.point) <= _LAST_DIGITS else "sum"


def allocate(
    report: SensitivityReport,
    storage: Storage,
    budget: Budget,
    conv: LayerScheme | None = None,
    additivity: Additivity | None = None,
    only: Collection[LayerId] | None = None,
) -> Allocation:
    """Choose the schemes with the least predicted loss that the budget allows.

    Every item takes one of the schemes that were measured for it, or stays floating at no loss. What was measured is
    taken with caution: an increase below zero counts as zero, and few bits never count as better than more of them.
    Of choices with equal loss the smaller one is taken.

    Args:
        report: sensitivities of the model.
        storage: what is stored of the same model.
        budget: how large the result may be.
        conv: of all convolutions under a budget of average bits, which does not count them; if None, what was
            measured nearest to 8 bits. Under a budget of bytes they are chosen like all others.
        additivity: how the items' losses are put together; see ``additivity_of`` if None.
        only: layers that may be quantized; all others stay floating, and count. All if None.

    Raises:
        QvggtError: the report is of another model, or nothing fits the budget; the sentence says what would.
    """
    _check_same_model(report, storage)
    by_bits = budget.average_bits is not None
    conv = conv or min(report.schemes, key=lambda scheme: abs(scheme.bits - 8))
    convolutions = [layer for layer, shape in storage.shapes.items() if shape.kind == "conv2d"]
    fixed: dict[LayerId, LayerScheme] = dict.fromkeys(convolutions, conv) if by_bits else {}
    barred = [] if only is None else [layer for layer in storage.shapes if layer not in only]
    fixed |= dict.fromkeys(barred, FloatScheme(storage.float_type))
    free = [_without(item, fixed) for item in report.items if not all(layer in fixed for layer in item.layers)]
    choices = [_choices(report, storage, item, by_bits) for item in free]
    power = 2 if (additivity or additivity_of(report)) == "squares" else 1
    costs = [[choice.cost for choice in row] for row in choices]
    losses = [[choice.loss**power for choice in row] for row in choices]
    counted = barred if by_bits else [*fixed]  # what convolutions take is no part of a budget of bits
    spent = sum(_layer_cost(storage, layer, fixed[layer], by_bits) for layer in counted)
    chosen = knapsack(costs, losses, _limit(storage, budget) - spent)
    if chosen is None:
        raise QvggtError(_too_small(storage, budget, sum(row[0].cost for row in choices) + spent))
    schemes = dict(fixed)
    for item, row, index in zip(free, choices, chosen, strict=True):
        schemes |= dict.fromkeys(item.layers, row[index].scheme)
    return allocation_of(schemes, storage, report, additivity)


def allocation_of(
    schemes: Mapping[LayerId, LayerScheme],
    storage: Storage,
    report: SensitivityReport | None = None,
    additivity: Additivity | None = None,
) -> Allocation:
    """Return size and predicted loss of given schemes, one for every layer."""
    ordered = {layer: schemes[layer] for layer in storage.shapes}
    size = storage.average_bits(ordered), storage.checkpoint_bytes(ordered)
    if report is None:
        return Allocation(ordered, *size)
    additivity = additivity or additivity_of(report)
    return Allocation(ordered, *size, predicted_increase(schemes, storage, report, additivity), additivity)


def predicted_increase(
    schemes: Mapping[LayerId, LayerScheme], storage: Storage, report: SensitivityReport, additivity: Additivity
) -> float | None:
    """Put the losses of the items under given schemes together, with ``allocate``'s caution.

    Floating layers lose nothing.

    Returns:
        None where an item is under a scheme, or its layers are under several, that the report does not know.
    """
    total = 0.0
    for item in report.items:
        used = {schemes[layer] for layer in item.layers}
        if all(isinstance(scheme, FloatScheme) for scheme in used):
            continue
        known = _cautious_losses(report, storage, item)
        if len(used) > 1 or not used <= set(known):
            return None
        loss = known[used.pop()]
        total += loss**2 if additivity == "squares" else loss
    return math.sqrt(total) if additivity == "squares" else total


def knapsack(costs: Sequence[Sequence[int]], losses: Sequence[Sequence[float]], limit: int) -> list[int] | None:
    """Choose one alternative of every item so that the sum of losses is least and that of costs within a limit.

    Args:
        costs: of each item's alternatives, not negative.
        losses: of the same, finite and not negative. Where they are equal, lower costs decide.
        limit: of the sum of the chosen costs.

    Returns:
        The index of each item's alternative, or None if nothing is within the limit.
    """
    if sum(map(min, costs)) > limit:
        return None
    sizes = [len(row) for row in costs]
    flat_cost = np.array([cost for row in costs for cost in row], np.int64)
    flat_loss = np.array([loss for row in losses for loss in row], float)
    unit = reduce(math.gcd, map(int, flat_cost)) or 1  # whole numbers as small as can be, which the solver adds exactly
    one_of_each = np.repeat(np.eye(len(sizes)), sizes, axis=1)
    objective = _COST_SCALE * flat_loss / (flat_loss.max() or 1.0)
    objective += 1e-4 * flat_cost / max(sum(map(max, costs)), 1)
    allowed = limit // unit
    while True:
        solved = milp(
            objective,
            integrality=np.ones(len(flat_cost)),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(one_of_each, 1, 1),
                LinearConstraint(flat_cost[None] / unit, -np.inf, allowed),
            ],
            options={"mip_rel_gap": 1e-9},
        )
        if solved.x is None:
            return [int(np.argmin(row)) for row in costs]
        starts = np.cumsum([0, *sizes[:-1]])
        chosen = [int(np.argmax(solved.x[at : at + size])) for at, size in zip(starts, sizes, strict=True)]
        over = sum(row[index] for row, index in zip(costs, chosen, strict=True)) - limit
        if over <= 0:
            return chosen
        allowed -= -(-over // unit)  # the solver's tolerance let it through: ask for that much less


@dataclass(frozen=True)
class _Choice:
    scheme: LayerScheme
    cost: int
    loss: float


def _choices(report: SensitivityReport, storage: Storage, item: Item, by_bits: bool) -> list[_Choice]:
    """Return an item's finite alternatives, smaller ones first, staying floating among them."""
    stay: LayerScheme = FloatScheme(storage.float_type)
    floating = _Choice(stay, _cost(storage, item, stay, by_bits), 0.0)
    measured = [
        _Choice(scheme, _cost(storage, item, scheme, by_bits), loss)
        for scheme, loss in _cautious_losses(report, storage, item).items()
        if math.isfinite(loss)
    ]
    smaller = [choice for choice in measured if choice.cost < floating.cost]
    return [*sorted(smaller, key=lambda choice: choice.cost), floating]


def _cautious_losses(report: SensitivityReport, storage: Storage, item: Item) -> dict[LayerScheme, float]:
    """Return an item's increases by scheme, none below zero or below that of a scheme that takes more bytes."""
    rows = [row for row in report.rows if row.item.name == item.name]
    size = {row.scheme: _cost(storage, item, row.scheme, False) for row in rows}
    return {
        row.scheme: max(0.0, row.total, *(other.total for other in rows if size[other.scheme] > size[row.scheme]))
        for row in rows
    }


def _without(item: Item, layers: Collection[LayerId]) -> Item:
    return replace(item, layers=tuple(layer for layer in item.layers if layer not in layers))


def _cost(storage: Storage, item: Item, scheme: LayerScheme, by_bits: bool) -> int:
    return sum(_layer_cost(storage, layer, scheme, by_bits) for layer in item.layers)


def _layer_cost(storage: Storage, layer: LayerId, scheme: LayerScheme, by_bits: bool) -> int:
    if not by_bits:
        return storage.layer_bytes(layer, scheme)
    return storage.layer_bits(layer, scheme) if storage.shapes[layer].kind == "linear" else 0


def _limit(storage: Storage, budget: Budget) -> int:
    if budget.average_bits is not None:
        # A hair more, so that a decimal fraction such as 4.4 is not missed by its rounding.
        return math.floor(budget.average_bits * storage.linear_weights * (1 + 1e-12))
    assert budget.max_bytes is not None
    return budget.max_bytes - storage.other_bytes


def _too_small(storage: Storage, budget: Budget, least: int) -> str:
    if budget.average_bits is not None:
        possible = math.ceil(1000 * least / storage.linear_weights) / 1000
        asked, needed = f"{budget.average_bits:g} average bits", f"{possible:g}"
    else:
        asked, needed = f"{budget.max_bytes} bytes", f"{least + storage.other_bytes}"
    return f"{asked} are too few for the schemes that were measured: allow at least {needed}, or measure fewer bits"


def _check_same_model(report: SensitivityReport, storage: Storage) -> None:
    measured = {layer for item in report.items for layer in item.layers}
    if measured != set(storage.shapes):
        raise QvggtError(
            "the sensitivity report is of a model with other layers: measure this one with qvggt sensitivity"
        )
