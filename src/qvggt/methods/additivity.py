"""How the losses of single items add up to the loss of a model in which all of them are quantized.

Against the float model's own predictions, errors of different items are nearly orthogonal: in each part of the
objective their squares add up, to the square of the error that the float model has in it (between its depth and its
points). The Huber loss of small pose errors is a square already, so it is taken back to the error first. Against ground
truth a small perturbation increases or decreases the float model's errors equally often, and the increases add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Literal

import numpy as np

from qvggt.calibration.objective import TaskLoss, error_of_huber, huber_of_error

Additivity = Literal["squares", "sum"]
"""What adds up over items: the squares of the errors of each part of the objective, or the increases of the loss."""

NO_LOSS = TaskLoss(0.0, 0.0, 0.0, 0.0)
"""Of what stays in floating point."""

_NEGLIGIBLE_LOSS = 1e-4
"""Loss of depth and points, in units of the scene's size, that only reflects the order of floating-point sums."""
_SMALLEST_ERROR = 1e-6
"""Errors below this are none."""


def additivity_of(baseline: TaskLoss) -> Additivity:
    """Return how losses over the float model's add up: as squares if the target is its own prediction.

    Its loss on that target is zero up to rounding, which depends on how many scenes run in a batch.
    """
    return "squares" if max(baseline.depth, baseline.point) <= _NEGLIGIBLE_LOSS else "sum"


def terms_of(increase: TaskLoss, baseline: TaskLoss) -> np.ndarray:
    """Return what adds up [4 or 1], from the increase of a loss over the float model's; at least zero."""
    if additivity_of(baseline) == "sum":
        return np.array([max(0.0, increase.total)])
    start = _errors(baseline)
    return np.maximum(_errors(TaskLoss(*np.add(astuple(increase), astuple(baseline)))) ** 2 - start**2, 0)


def smoothed(terms: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
    """Return the terms of one item's alternatives, each at least as large as those of every larger alternative."""
    return [
        np.max([own, *(other for other, large in zip(terms, sizes, strict=True) if large > size)], axis=0)
        for own, size in zip(terms, sizes, strict=True)
    ]


def increase_of(terms: np.ndarray, baseline: TaskLoss) -> float:
    """Return the increase of the loss, from the sum of the terms of all items."""
    if additivity_of(baseline) == "sum":
        return float(terms.sum())
    camera, *others = np.sqrt(terms + _errors(baseline) ** 2)
    return TaskLoss(huber_of_error(camera), *others).total - baseline.total


def slopes_of(terms: np.ndarray, baseline: TaskLoss) -> np.ndarray:
    """Return how much each term counts near a sum of terms.

    A part's error grows by its square over twice the error. Pose errors count by their size, not by their Huber loss,
    which hardly tells small ones.
    """
    if additivity_of(baseline) == "sum":
        return np.ones(1)
    return 0.5 / np.sqrt(terms + np.maximum(_errors(baseline), _SMALLEST_ERROR) ** 2)


def _errors(loss: TaskLoss) -> np.ndarray:
    return np.array([error_of_huber(loss.camera), loss.depth, loss.point, loss.geometry])
