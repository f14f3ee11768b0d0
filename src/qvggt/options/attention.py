"""Which global attention a model runs with: by name, by preset, or by a plan."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from qvggt.files.read import read_json_object
from qvggt.options.checks import check_fields
from qvggt.options.choices import Supervision, check_choice
from qvggt.options.messages import did_you_mean
from qvggt.types import AttentionPlan, BlockAttention, PathLike, PlanLevel, QvggtError

AttentionName = Literal["auto", "exact", "merged"]

GlobalAttention = PathLike | AttentionPlan
"""An ``AttentionName``, a name in ``ATTENTION_PRESETS``, a plan, or a JSON file with one (see ``attention_of``)."""

_DEFAULT_SHARE = 0.5

_EXACT, _FRAME = BlockAttention(), BlockAttention("frame")
_SAMPLED, _POOLED = BlockAttention("sampled", 2), BlockAttention("pooled", 2)

ATTENTION_PRESETS: Mapping[str, AttentionPlan] = {
    "vggt-1b": AttentionPlan(
        (
            PlanLevel(2, (_FRAME,) * 9 + (_EXACT,) * 15),
            PlanLevel(100, (_FRAME,) * 9 + (_SAMPLED,) * 11 + (_EXACT,) * 4),
        )
    ),
    "nano": AttentionPlan(
        (PlanLevel(30, (_SAMPLED, _EXACT, _SAMPLED, _SAMPLED, _SAMPLED, _EXACT, _SAMPLED, _POOLED, _SAMPLED)),)
    ),
}
"""Plans by the model that they are made for; docs/attention.md says what each rests on."""


@dataclass(frozen=True)
class AttentionOptions:
    """How attention is measured, and what a plan made of the measurements may cost.

    Attributes:
        choices: kinds of attention that each global block is measured with, as ``BlockAttention`` names them.
        max_loss: largest predicted increase of the loss; None for no limit.
        max_share: largest share of the attention products of exact global attention; None for half of them, unless
            ``max_loss`` is given.
        min_frames: fewest frames of a scene for which the plan applies; None for the number of frames measured.
        supervision: reference of the loss: the float model's predictions, or the truth.

    Raises:
        QvggtError: there is no such choice, or a value is out of range, or both targets are given.
    """

    choices: tuple[str, ...] = ("frame", "pooled 2", "pooled 4", "sampled 2", "sampled 4")
    max_loss: float | None = None
    max_share: float | None = None
    min_frames: int | None = None
    supervision: Supervision = "teacher"

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.choices or "exact" in self.choices:
            raise QvggtError(
                "give kinds of attention to measure other than exact: frame, or 'pooled 2' and the like "
                "(--attention-choices)"
            )
        for choice in self.choices:
            BlockAttention.parse(choice)
        if self.max_loss is not None and self.max_share is not None:
            raise QvggtError(
                "a loss and a share of the products are two targets for one plan: give one of them (--max-loss, "
                "--products)"
            )
        if self.max_loss is not None and not 0 <= self.max_loss < float("inf"):
            raise QvggtError(f"the largest loss of a plan must be at least 0, got {self.max_loss} (--max-loss)")
        if self.max_share is not None and not 0 < self.max_share <= 1:
            raise QvggtError(
                f"the share of the attention products must be above 0 and at most 1, got {self.max_share} (--products)"
            )
        if self.min_frames is not None and self.min_frames < 1:
            raise QvggtError(f"the fewest frames of a plan must be at least 1, got {self.min_frames} (--min-frames)")
        check_choice("supervision", self.supervision, Supervision)

    @property
    def share(self) -> float:
        """Largest share of the attention products."""
        return _DEFAULT_SHARE if self.max_share is None else self.max_share


def attention_of(value: GlobalAttention) -> AttentionName | AttentionPlan:
    """Return the plan that a value stands for, or the name ``auto``, ``exact`` or ``merged``.

    Args:
        value: one of these names, a name in ``ATTENTION_PRESETS``, a plan, or the path of a JSON file: a plan, or a
            report of ``qvggt sensitivity --attention``, which has one.

    Raises:
        QvggtError: there is no such name or file, or the file is damaged.
    """
    if isinstance(value, AttentionPlan):
        return value
    if value in get_args(AttentionName):
        return cast(AttentionName, value)
    if value in ATTENTION_PRESETS:
        return ATTENTION_PRESETS[str(value)]
    if not os.path.exists(value):
        presets = ", ".join(ATTENTION_PRESETS)
        raise QvggtError(
            f"unknown global attention {str(value)!r}: expected exact or merged, auto, a preset ({presets}), or the "
            f"JSON file of a plan{did_you_mean(value, (*get_args(AttentionName), *ATTENTION_PRESETS))}"
        )
    return read_attention_plan(value)


def read_attention_plan(path: PathLike) -> AttentionPlan:
    """Read a plan, or the one in a report of ``qvggt sensitivity --attention``.

    Raises:
        QvggtError: the file is missing or damaged, or has no plan.
    """
    values = read_json_object(path, "make it again with qvggt sensitivity --attention", "the attention plan")
    return AttentionPlan.from_json(values.get("plan", values))


def attention_json(value: GlobalAttention) -> Any:
    """Return what determines the results of a choice of global attention, as JSON-ready values."""
    found = attention_of(value)
    return found.to_json() if isinstance(found, AttentionPlan) else found


def check_depth(attention: AttentionName | AttentionPlan, depth: int) -> None:
    """Raise QvggtError if a plan is not for a model with this number of global blocks."""
    if isinstance(attention, AttentionPlan) and attention.depth != depth:
        raise QvggtError(
            f"the attention plan is for {attention.depth} global blocks, but the model has {depth}: measure one with "
            "qvggt sensitivity --attention"
        )


def attention_products(block: BlockAttention, frames: int, special: int, grid: tuple[int, int]) -> int:
    """Return the products of a query with a key in one head of a global block; there are as many with a value.

    Args:
        block: the block's attention.
        frames: S, of a scene.
        special: special tokens of a frame.
        grid: rows and columns of patches in a frame.
    """
    patches = grid[0] * grid[1]
    tokens = special + patches
    if block.kind == "frame":
        return frames * tokens**2
    if block.kind == "exact" or frames == 1:
        return (frames * tokens) ** 2
    keys = attention_keys(block.side, frames, special, grid)
    return frames * tokens * keys + (frames - 1) * patches  # a patch's own is one key more


def attention_keys(side: int, frames: int, special: int, grid: tuple[int, int]) -> int:
    """Return the keys that all tokens attend to if patches are averaged or sampled in groups of side x side."""
    groups = -(-grid[0] // side) * -(-grid[1] // side)
    return special + grid[0] * grid[1] + (frames - 1) * (special + groups) + 1  # the mean is one key more


def products_share(plan: AttentionPlan, frames: int, special: int, grid: tuple[int, int]) -> float:
    """Return the products of all global blocks as a share of those of exact attention, 0 to 1 or a little above."""
    exact = plan.depth * attention_products(BlockAttention(), frames, special, grid)
    return sum(attention_products(block, frames, special, grid) for block in plan.at(frames)) / exact
