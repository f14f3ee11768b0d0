"""Attention plans from measured sensitivities: the knapsack that spends bits spends attention products."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np

from qvggt.calibration.attention_sensitivity import AttentionReport
from qvggt.methods.additivity import NO_LOSS, Additivity, additivity_of, increase_of, smoothed, terms_of
from qvggt.methods.allocate import least_loss
from qvggt.options import AttentionOptions
from qvggt.types import EXACT_ATTENTION, AttentionPlan, BlockAttention, PlanLevel, QvggtError


@dataclass(frozen=True, eq=False)
class _Choice:
    attention: BlockAttention
    products: int
    terms: np.ndarray


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
    Losses add up as ``qvggt.methods.additivity`` says. Measurements are smoothed as in ``allocate``: a negative
    increase counts as zero, and a cheaper choice never as better than a dearer one. Exact attention loses nothing.

    Args:
        report: sensitivities of the model.
        options: the target, and the number of frames from which on the plan applies.

    Raises:
        QvggtError: no plan of the measured choices has so few products.
    """
    choices = [_choices(report, block) for block in range(report.depth)]
    costs, terms = ([[getattr(choice, name) for choice in row] for row in choices] for name in ("products", "terms"))
    exact, fewest = report.depth * report.size.products(), sum(map(min, costs))

    def within(limit: int) -> tuple[list[_Choice], float]:
        """Return the choices with the least predicted loss in at most ``limit`` products, and that loss."""
        chosen = least_loss(costs, terms, report.baseline, limit)
        assert chosen is not None
        picked = [row[index] for row, index in zip(choices, chosen, strict=True)]
        return picked, increase_of(np.sum([choice.terms for choice in picked], axis=0), report.baseline)

    if (allowed := options.max_loss) is not None:
        enough = bisect_left(range(fewest, exact), True, key=lambda limit: within(limit)[1] <= allowed)
        limit = fewest + enough
    else:
        limit = math.floor(options.share * exact)
    if limit < fewest:
        raise QvggtError(
            f"no plan has {options.share:g} of the attention products: allow at least "
            f"{math.ceil(1000 * fewest / exact) / 1000:g} (--products), or measure cheaper choices"
        )
    picked, increase = within(limit)
    level = PlanLevel(options.min_frames or report.size.frames, tuple(choice.attention for choice in picked))
    return PlannedAttention(
        AttentionPlan((level,)),
        products_share=sum(choice.products for choice in picked) / exact,
        predicted_increase=increase,
        additivity=additivity_of(report.baseline),
    )


def _choices(report: AttentionReport, block: int) -> list[_Choice]:
    """Return a block's choices of finite loss, fewest products first; the last is exact attention."""
    rows = [row for row in report.rows if row.block == block]
    products = [report.size.products(row.attention) for row in rows]
    terms = smoothed([terms_of(row.increase, report.baseline) for row in rows], products)
    exact = _Choice(EXACT_ATTENTION, report.size.products(), terms_of(NO_LOSS, report.baseline))
    choices = [_Choice(row.attention, cost, own) for row, cost, own in zip(rows, products, terms, strict=True)]
    kept = (choice for choice in choices if choice.products < exact.products and np.isfinite(choice.terms).all())
    return [*sorted(kept, key=lambda choice: choice.products), exact]
