"""Mixed-precision allocation: the scheme of every layer that minimizes the predicted loss under a size budget.

Only the loss of single items is measured; the loss of a whole allocation is predicted from them, as
``qvggt.methods.additivity`` says.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from qvggt.calibration.objective import TaskLoss
from qvggt.calibration.sensitivity import Item, SensitivityReport
from qvggt.calibration.size import Storage
from qvggt.methods.additivity import NO_LOSS, Additivity, additivity_of, increase_of, slopes_of, smoothed, terms_of
from qvggt.quant.scheme import FloatScheme, LayerScheme
from qvggt.types import LayerId, QvggtError

_COST_SCALE = 1e4
"""The largest loss after scaling, so that the solver's absolute tolerances (1e-6) are negligible."""

_OUTPUT = threading.Lock()
"""Held while standard output leads nowhere."""

_ROUNDS = 8
"""Most knapsacks that are solved one after another, each with the errors of the one before."""


@dataclass(frozen=True)
class Budget:
    """Size limit of the result; exactly one of the two is given.

    Attributes:
        average_bits: bits per weight over all linear layers, including scales and zero points.
        max_bytes: size of the whole checkpoint.

    Raises:
        QvggtError: none or both are given, or the value is not positive.
    """

    average_bits: float | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.average_bits, self.max_bytes) if value is not None]
        if len(given) != 1 or not given[0] > 0:
            raise QvggtError("invalid budget: give either average_bits or max_bytes, greater than zero")


@dataclass(frozen=True)
class Allocation:
    """A scheme for every layer, and what it is expected to cost.

    Attributes:
        schemes: scheme of every quantizable layer, in the model's order.
        average_bits: bits per weight over all linear layers, including scales and zero points.
        checkpoint_bytes: estimated upper bound of the checkpoint's size.
        predicted_increase: predicted increase of the loss over the float model's; None if the report has no
            measurement for one of these schemes.
        additivity: how the increases of single items were added up.
    """

    schemes: Mapping[LayerId, LayerScheme]
    average_bits: float
    checkpoint_bytes: int
    predicted_increase: float | None
    additivity: Additivity

    def figures_json(self) -> dict[str, Any]:
        """Return all fields but the schemes, which a recipe lists separately, as JSON-ready values."""
        return {
            "average_bits": self.average_bits,
            "checkpoint_bytes": self.checkpoint_bytes,
            "predicted_increase": self.predicted_increase,
            "additivity": self.additivity,
            "prediction": None,  # part of the recipe format
        }


def allocate(
    report: SensitivityReport,
    storage: Storage,
    budget: Budget,
    conv: LayerScheme | None = None,
    only: Collection[LayerId] | None = None,
) -> Allocation:
    """Choose the schemes with the least predicted loss within a budget.

    Every item gets one of its measured schemes, or stays in floating point at no loss. Measurements are smoothed: a
    negative increase counts as zero, and a smaller scheme never counts as better than a larger one. Among
    allocations with equal loss the smallest is chosen.

    Args:
        report: sensitivities of the model.
        storage: sizes of the same model's layers.
        budget: size limit.
        conv: scheme of all convolutions under a budget of average bits, which does not count them; the measured
            scheme nearest to 8 bits if None. Under a budget of bytes they are chosen like all other layers, unless
            this keeps them in floating point.
        only: layers that may be quantized; the others stay in floating point but count. All if None.

    Raises:
        QvggtError: the report belongs to another model, or nothing fits the budget; the message says what would.
    """
    _check_same_model(report, storage)
    by_bits = budget.average_bits is not None
    conv = conv or min(report.schemes, key=lambda scheme: abs(scheme.bits - 8))
    convolutions = [layer for layer, shape in storage.shapes.items() if shape.kind == "conv2d"]
    fixed: dict[LayerId, LayerScheme] = {}
    if by_bits or isinstance(conv, FloatScheme):
        fixed = dict.fromkeys(convolutions, conv)
    barred = [] if only is None else [layer for layer in storage.shapes if layer not in only]
    fixed |= dict.fromkeys(barred, FloatScheme(storage.float_type))
    free = [_without(item, fixed) for item in report.items if not all(layer in fixed for layer in item.layers)]
    choices = [_choices(report, storage, item, by_bits) for item in free]
    counted = barred if by_bits else [*fixed]  # average bits do not count convolutions
    spent = sum(_layer_cost(storage, layer, fixed[layer], by_bits) for layer in counted)
    chosen = least_loss(
        [[choice.cost for choice in row] for row in choices],
        [[choice.terms for choice in row] for row in choices],
        report.baseline,
        _limit(storage, budget) - spent,
    )
    if chosen is None:
        raise QvggtError(_too_small(storage, budget, sum(row[0].cost for row in choices) + spent))
    schemes = dict(fixed)
    for item, row, index in zip(free, choices, chosen, strict=True):
        schemes |= dict.fromkeys(item.layers, row[index].scheme)
    schemes = {layer: schemes[layer] for layer in storage.shapes}
    increase = predicted_increase(schemes, storage, report)
    return Allocation(
        schemes,
        average_bits=storage.average_bits(schemes),
        checkpoint_bytes=storage.checkpoint_bytes(schemes),
        predicted_increase=increase,
        additivity=additivity_of(report.baseline),
    )


def predicted_increase(
    schemes: Mapping[LayerId, LayerScheme], storage: Storage, report: SensitivityReport
) -> float | None:
    """Predict the loss increase of given schemes from the increases of single items, smoothed as in ``allocate``.

    Layers in floating point lose nothing.

    Returns:
        None if the report has no measurement for an item's scheme, or an item's layers have different schemes.
    """
    total = terms_of(NO_LOSS, report.baseline)
    for item in report.items:
        used = {schemes[layer] for layer in item.layers}
        if all(isinstance(scheme, FloatScheme) for scheme in used):
            continue
        known = _smoothed_terms(report, storage, item)
        if len(used) > 1 or not used <= set(known):
            return None
        total = total + known[used.pop()]
    return increase_of(total, report.baseline)


def least_loss(
    costs: Sequence[Sequence[int]], terms: Sequence[Sequence[np.ndarray]], baseline: TaskLoss, limit: int
) -> list[int] | None:
    """Return the index of each item's alternative: together they lose least within a limit. None if none is within it.

    The loss is concave in the terms that add up, so it lies below its linear approximation: a knapsack that weights
    terms by the slopes at the last solution never gives a worse one.

    Args:
        costs: of each item's alternatives, not negative.
        terms: what adds up of each item's alternatives, as ``terms_of`` gives it; finite.
        baseline: loss of the float model.
        limit: largest total cost.
    """
    if not costs:
        return [] if limit >= 0 else None
    total: np.ndarray = np.sum([np.mean(row, axis=0) for row in terms], axis=0)
    slopes, chosen = slopes_of(total, baseline), None
    for _ in range(_ROUNDS):
        chosen = knapsack(costs, [[float(slopes @ each) for each in row] for row in terms], limit)
        if chosen is None:
            break
        total = np.sum([row[index] for row, index in zip(terms, chosen, strict=True)], axis=0)
        before, slopes = slopes, slopes_of(total, baseline)
        if np.array_equal(slopes, before):
            break
    return chosen


def knapsack(costs: Sequence[Sequence[int]], losses: Sequence[Sequence[float]], limit: int) -> list[int] | None:
    """Solve a multiple-choice knapsack: one alternative per item, least total loss, total cost within a limit.

    Args:
        costs: cost of each item's alternatives, not negative.
        losses: loss of each item's alternatives, finite and not negative; equal losses are decided by lower cost.
        limit: largest total cost.

    Returns:
        The index of each item's alternative, or None if nothing is within the limit.
    """
    if sum(map(min, costs)) > limit:
        return None
    sizes = [len(row) for row in costs]
    flat_cost = np.array([cost for row in costs for cost in row], np.int64)
    flat_loss = np.array([loss for row in losses for loss in row], float)
    divisor = reduce(math.gcd, map(int, flat_cost)) or 1  # small integers, which the solver adds exactly
    one_of_each = np.repeat(np.eye(len(sizes)), sizes, axis=1)
    objective = _COST_SCALE * flat_loss / (flat_loss.max() or 1.0)
    objective += 1e-4 * flat_cost / max(sum(map(max, costs)), 1)
    allowed = limit // divisor
    while True:
        with _solver_output_dropped():
            solved = milp(
                objective,
                integrality=np.ones(len(flat_cost)),
                bounds=Bounds(0, 1),
                constraints=[
                    LinearConstraint(one_of_each, 1, 1),
                    LinearConstraint(flat_cost[None] / divisor, -np.inf, allowed),
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
        allowed -= -(-over // divisor)  # the solver's tolerance exceeded the limit: tighten it by the excess


@contextmanager
def _solver_output_dropped() -> Iterator[None]:
    """Drop what HiGHS prints by itself: standard output may be JSON that another program reads."""
    if os.name != "posix":
        yield
        return
    library = ctypes.CDLL(None)
    with _OUTPUT, ExitStack() as stack:
        try:
            saved = os.dup(1)
        except OSError:  # standard output is closed
            yield
            return
        stack.callback(os.close, saved)
        library.fflush(None)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        stack.callback(os.dup2, saved, 1)
        stack.callback(library.fflush, None)  # C keeps what it printed until then
        yield


@dataclass(frozen=True, eq=False)
class _Choice:
    scheme: LayerScheme
    cost: int
    terms: np.ndarray


def _choices(report: SensitivityReport, storage: Storage, item: Item, by_bits: bool) -> list[_Choice]:
    """Return an item's alternatives with finite loss, smallest first; the last is floating point."""
    stay: LayerScheme = FloatScheme(storage.float_type)
    floating = _Choice(stay, _cost(storage, item, stay, by_bits), terms_of(NO_LOSS, report.baseline))
    measured = [
        _Choice(scheme, _cost(storage, item, scheme, by_bits), terms)
        for scheme, terms in _smoothed_terms(report, storage, item).items()
        if np.isfinite(terms).all()
    ]
    smaller = [choice for choice in measured if choice.cost < floating.cost]
    return [*sorted(smaller, key=lambda choice: choice.cost), floating]


def _smoothed_terms(report: SensitivityReport, storage: Storage, item: Item) -> dict[LayerScheme, np.ndarray]:
    """Return what adds up, of an item by scheme: at least zero, and at least that of every larger scheme."""
    rows = [row for row in report.rows if row.item.name == item.name]
    sizes = [_cost(storage, item, row.scheme, False) for row in rows]
    terms = smoothed([terms_of(row.increase, report.baseline) for row in rows], sizes)
    return {row.scheme: own for row, own in zip(rows, terms, strict=True)}


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
        # Slightly more, so that rounding of a decimal such as 4.4 does not lose a bit.
        return math.floor(budget.average_bits * storage.linear_weights * (1 + 1e-12))
    assert budget.max_bytes is not None
    return budget.max_bytes - storage.other_bytes


def _too_small(storage: Storage, budget: Budget, least: int) -> str:
    if budget.average_bits is not None:
        possible = math.ceil(1000 * least / storage.linear_weights) / 1000
        asked, needed = f"{budget.average_bits:g} average bits", f"{possible:g}"
    else:
        asked, needed = f"{budget.max_bytes} bytes", f"{least + storage.other_bytes}"
    option = "--average-bits" if budget.average_bits is not None else "--max-bytes"
    return (
        f"{asked} are too few for the measured schemes: allow at least {needed} ({option}), or measure schemes with "
        "fewer bits"
    )


def _check_same_model(report: SensitivityReport, storage: Storage) -> None:
    measured = {layer for item in report.items for layer in item.layers}
    if measured != set(storage.shapes):
        raise QvggtError(
            "the sensitivity report is for a model with other layers: measure this model with qvggt sensitivity"
        )
