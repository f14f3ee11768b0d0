"""Attention plans from measured sensitivities: the knapsack that spends bits spends attention products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qvggt.calibration.attention_sensitivity import AttentionReport
from qvggt.methods.additivity import Additivity, additivity_of
from qvggt.methods.allocate import knapsack
from qvggt.options import AttentionOptions
from qvggt.types import EXACT_ATTENTION, AttentionPlan, BlockAttention, PlanLevel, QvggtError

_LOSS_STEPS = 10**9
"""Steps of the allowed loss: the knapsack's costs are integers."""


@dataclass(frozen=True)
class PlannedAttention:
    """A plan, and what it is expected to cost.

    Attributes:
        plan: from the number of measured frames on, or another that the user gave.
        products_share: products of all global blocks as a share of exact attention's, at the measured size.
        predicted_increase: of the loss over exact attention's.
        additivity: how the increases of single blocks were added up.
    """

    plan: AttentionPlan
    products_share: float
    predicted_increase: float
    additivity: Additivity

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON-ready values."""
        return {
            "plan": self.plan.to_json(),
            "products_share": self.products_share,
            "predicted_increase": self.predicted_increase,
            "additivity": self.additivity,
        }


def plan_attention(report: AttentionReport, options: AttentionOptions) -> PlannedAttention:
    """Choose the attention of every global block.

    Within a share of the products the plan has the least predicted loss; within a loss it has the fewest products.
    Measurements are smoothed as in ``allocate``: a negative increase counts as zero, and a cheaper choice never as
    better than a dearer one. Exact attention loses nothing.

    Args:
        report: sensitivities of the model.
        options: the target, and the number of frames from which on the plan applies.

    Raises:
        QvggtError: no plan of the measured choices has so few products.
    """
    choices = [_choices(report, block) for block in range(report.depth)]
    additivity = additivity_of(report.baseline)
    power = 2 if additivity == "squares" else 1
    products = [[cost for _, cost, _ in row] for row in choices]
    losses = [[loss**power for _, _, loss in row] for row in choices]
    exact = report.depth * report.size.products()
    if options.max_loss is not None:
        most = options.max_loss**power
        steps = [[_steps(loss, most) for loss in row] for row in losses]
        chosen = knapsack(steps, [[cost / exact for cost in row] for row in products], _LOSS_STEPS)
    else:
        chosen = knapsack(products, losses, math.floor(options.share * exact))
    if chosen is None:
        least = math.ceil(1000 * sum(map(min, products)) / exact) / 1000
        raise QvggtError(
            f"no plan has {options.share:g} of the attention products: allow at least {least:g} (--products), or "
            "measure cheaper choices"
        )
    picked = [row[index] for row, index in zip(choices, chosen, strict=True)]
    total = sum(loss**power for _, _, loss in picked)
    level = PlanLevel(options.min_frames or report.size.frames, tuple(attention for attention, _, _ in picked))
    return PlannedAttention(
        AttentionPlan((level,)),
        products_share=sum(cost for _, cost, _ in picked) / exact,
        predicted_increase=total ** (1 / power),
        additivity=additivity,
    )


def _steps(loss: float, most: float) -> int:
    """Return a loss in steps of the allowed one, rounded up; more than allowed if nothing but zero is allowed."""
    if loss == 0:
        return 0
    return math.ceil(_LOSS_STEPS * loss / most) if most > 0 and loss <= most else _LOSS_STEPS + 1


def _choices(report: AttentionReport, block: int) -> Sequence[tuple[BlockAttention, int, float]]:
    """Return a block's choices of finite loss with their products and smoothed loss, fewest products first."""
    exact, size = EXACT_ATTENTION, report.size
    rows = [(row.attention, size.products(row.attention), row.total) for row in report.rows if row.block == block]
    kept = [
        (attention, cost, max(0.0, total, *(other for _, dearer, other in rows if dearer > cost)))
        for attention, cost, total in rows
        if cost < size.products(exact)
    ]
    finite = sorted((row for row in kept if math.isfinite(row[2])), key=lambda row: row[1])
    return [*finite, (exact, size.products(exact), 0.0)]
