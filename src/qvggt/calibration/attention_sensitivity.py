"""Loss of the model when one global block attends to less while all other blocks stay exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from qvggt.calibration.activation_cache import ActivationCache
from qvggt.calibration.objective import TaskLoss
from qvggt.calibration.sensitivity import finite_json, loss_from_json, tail_of, unit_inputs
from qvggt.calibration.task import Task
from qvggt.model import VGGT
from qvggt.options import attention_products
from qvggt.types import EXACT_ATTENTION, AttentionPlan, BlockAttention, PlanLevel, QvggtError

ATTENTION_REPORT_VERSION = 1


@dataclass(frozen=True)
class SceneSize:
    """What the cost of global attention depends on.

    Attributes:
        frames: S, of a scene.
        special: special tokens of a frame.
        grid: rows and columns of patches in a frame.
    """

    frames: int
    special: int
    grid: tuple[int, int]

    def products(self, attention: BlockAttention = EXACT_ATTENTION) -> int:
        """Return the products of a query with a key in one head of a global block."""
        return attention_products(attention, self.frames, self.special, self.grid)


@dataclass(frozen=True)
class AttentionRow:
    """Loss of the model with one global block changed.

    Attributes:
        block: its index.
        attention: of the block.
        loss: loss of the model.
        increase: increase of each part of the loss over that of exact attention.
        total: sum of the increases; infinite if the prediction is not finite.
    """

    block: int
    attention: BlockAttention
    loss: TaskLoss
    increase: TaskLoss
    total: float


@dataclass(frozen=True)
class AttentionReport:
    """Sensitivity of every global block to every kind of attention.

    Attributes:
        size: of the scenes.
        depth: number of global blocks.
        baseline: loss with exact attention.
        rows: one per block and attention.
        about: JSON-ready facts about the measurement.
    """

    size: SceneSize
    depth: int
    baseline: TaskLoss
    rows: tuple[AttentionRow, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping that ``from_json`` reads; infinity becomes None."""
        return {
            "version": ATTENTION_REPORT_VERSION,
            **self.about,
            "frames": self.size.frames,
            "special_tokens": self.size.special,
            "patches": list(self.size.grid),
            "global_blocks": self.depth,
            "exact_products": self.size.products(),
            "exact_loss": finite_json(self.baseline),
            "rows": [
                {
                    "block": row.block,
                    "attention": str(row.attention),
                    "products": self.size.products(row.attention),
                    "loss": finite_json(row.loss),
                    "increase": finite_json(row.increase),
                    "total_increase": row.total if math.isfinite(row.total) else None,
                }
                for row in self.rows
            ],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AttentionReport:
        """Rebuild a report from ``to_json``; facts about the measurement are left out.

        Raises:
            QvggtError: the mapping has another version, is damaged, or is not a report.
        """
        version = values.get("version") if isinstance(values, Mapping) else None
        if version != ATTENTION_REPORT_VERSION:
            raise QvggtError(f"the attention report has version {version!r}, but this qvggt reads version 1")
        try:
            rows, columns = values["patches"]
            return cls(
                SceneSize(values["frames"], values["special_tokens"], (rows, columns)),
                values["global_blocks"],
                loss_from_json(values["exact_loss"]),
                tuple(_row(row) for row in values["rows"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise QvggtError(
                f"the attention report is damaged ({error}): measure again with qvggt sensitivity --attention"
            ) from error


OnAttentionRow = Callable[[AttentionRow, float], None]
"""Called with each row as soon as it is measured, and the share of the work done, 0 to 1."""


@torch.no_grad()
def measure_attention(
    model: VGGT,
    task: Task,
    choices: Sequence[BlockAttention],
    on_row: OnAttentionRow = lambda row, share: None,
    memory_bytes: int = 4 << 30,
) -> AttentionReport:
    """Measure the loss of the whole model with exactly one global block changed, for all blocks and choices.

    The model runs once with exact attention, unit by unit; each measurement then runs it from the changed block onward.

    Args:
        model: the model; its global attention is restored afterwards.
        task: the objective, with its scenes, all of one size.
        choices: kinds of attention to measure.
        on_row: called with each row as soon as it is measured.
        memory_bytes: memory budget for activations; the rest is kept in temporary files.

    Raises:
        ValueError: no choice is given.
        QvggtError: scenes differ in size, or have a single frame, in which nothing can be saved.
    """
    if not choices:
        raise ValueError("expected at least one kind of attention")
    size, depth, choices = _size(model, task), model.config.depth, tuple(dict.fromkeys(choices))
    with global_attention_as(model, exact_but(depth)):
        baseline, rows = task.loss(model), []
        for index, (unit, states) in enumerate(unit_inputs(model, task, ActivationCache(memory_bytes))):
            if unit.kind != "global" or unit.index is None:
                continue
            tail = replace(task, units=tail_of(task, index))
            for attention in choices:
                with global_attention_as(model, exact_but(depth, unit.index, attention)):
                    loss = tail.loss(model, 0, states)
                rows.append(_measured(unit.index, attention, loss, baseline))
                on_row(rows[-1], len(rows) / (depth * len(choices)))
    return AttentionReport(size, depth, baseline, tuple(rows))


def exact_but(depth: int, block: int | None = None, attention: BlockAttention = EXACT_ATTENTION) -> AttentionPlan:
    """Return the plan in which all global blocks are exact, except one if its index is given."""
    blocks = tuple(attention if index == block else EXACT_ATTENTION for index in range(depth))
    return AttentionPlan((PlanLevel(1, blocks),))


@contextmanager
def global_attention_as(model: VGGT, plan: AttentionPlan) -> Iterator[None]:
    """Run a model by a plan inside the ``with``."""
    before = model.aggregator.global_attention
    model.aggregator.global_attention = plan
    try:
        yield
    finally:
        model.aggregator.global_attention = before


def _size(model: VGGT, task: Task) -> SceneSize:
    sizes = {batch.images.shape[1:] for batch in task.batches}
    if len(sizes) > 1:
        raise QvggtError(
            "attention is measured on scenes of one size: give photographs of one shape, a multiple of --calib-frames"
        )
    images = task.batches[0].images
    if images.shape[1] < 2:
        raise QvggtError("attention between frames is measured on scenes of at least 2 frames: raise --calib-frames")
    return SceneSize(images.shape[1], model.special_tokens, model.aggregator.grid(images))


def _measured(block: int, attention: BlockAttention, loss: TaskLoss, baseline: TaskLoss) -> AttentionRow:
    increase = TaskLoss(**{name: value - getattr(baseline, name) for name, value in asdict(loss).items()})
    total = increase.total if all(map(math.isfinite, asdict(increase).values())) else math.inf
    return AttentionRow(block, attention, loss, increase, total=total)


def _row(values: Mapping[str, Any]) -> AttentionRow:
    return AttentionRow(
        int(values["block"]),
        BlockAttention.parse(str(values["attention"])),
        loss_from_json(values["loss"]),
        loss_from_json(values["increase"]),
        total=math.inf if values["total_increase"] is None else float(values["total_increase"]),
    )
