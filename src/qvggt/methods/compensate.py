"""Camera information compensation: one token that gives the camera head back what quantization takes from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qvggt.calibration.task import Task
from qvggt.calibration.units import HEADS, WalkState, model_units, run_units, start
from qvggt.model import VGGT

Centre = Literal["mean", "median"]


@dataclass(frozen=True)
class CompensationOptions:
    """How the token is made.

    Attributes:
        components: principal directions K that are kept.
        centre: what directions are measured from: the mean of the camera tokens, or their geometric median. Measured
            from the mean of the same tokens the mean projection is zero, and the token is the mean camera token.
    """

    components: int = 32
    centre: Centre = "mean"


@dataclass(frozen=True)
class Compensation:
    """A token and what it does on scenes that it was not made from.

    Attributes:
        token: [1, 1, 2C].
        before: weighted task objective without it.
        after: with it.
    """

    token: Tensor
    before: float
    after: float

    @property
    def accepted(self) -> bool:
        """Whether it lowers the objective."""
        return self.after < self.before

    def to_json(self) -> dict[str, Any]:
        """Return the figures and the verdict."""
        return {"before": self.before, "after": self.after, "accepted": self.accepted}


def compensation_token(camera_tokens: Tensor, patch_norm: float, options: CompensationOptions | None = None) -> Tensor:
    """Return the token [1, 1, 2C] as the paper defines it.

    With centre μ and the K first principal directions U of x - μ: z is the mean of Uᵀ(x - μ), x̃ = μ + U z, and the
    token is x̃ brought to the mean norm of patch tokens.

    Args:
        camera_tokens: [N, 2C] of the calibration scenes.
        patch_norm: mean 2-norm of patch tokens.
        options: the number of directions and the centre.
    """
    options = options or CompensationOptions()
    tokens = camera_tokens.double()
    centre = tokens.mean(0) if options.centre == "mean" else geometric_median(tokens)
    difference = tokens - centre
    directions = torch.linalg.svd(difference, full_matrices=False).Vh[: options.components]  # [K, 2C]
    restored = centre + (difference @ directions.T).mean(0) @ directions
    restored = restored * (patch_norm / restored.norm().clamp(min=1e-12))
    return restored.to(camera_tokens.dtype)[None, None]


def geometric_median(points: Tensor, rounds: int = 100) -> Tensor:
    """Return the point [C] whose distances to points [N, C] have the least sum (Weiszfeld's iteration)."""
    median = points.mean(0)
    for _ in range(rounds):
        weight = 1 / (points - median).norm(dim=1).clamp(min=1e-9)
        moved = (weight[:, None] * points).sum(0) / weight.sum()
        if float((moved - median).norm()) <= 1e-9 * float(median.norm()):
            return moved
        median = moved
    return median


@torch.no_grad()
def try_compensation(
    model: VGGT, made_from: Task, judged_on: Task, options: CompensationOptions | None = None
) -> Compensation:
    """Make the token from some scenes and judge it on others; the model is left without it.

    Args:
        model: with its quantized weights.
        made_from: scenes whose camera tokens count.
        judged_on: scenes for the verdict.
        options: how the token is made.
    """
    units = [unit for unit in model_units(model) if unit.kind not in HEADS]
    states = [run_units(model, units, start(batch.images)) for batch in made_from.batches]
    token = compensation_token(*_camera_and_patches(model, states), options)
    before = judged_on.total(model)
    model.camera_head.compensation = nn.Parameter(token, requires_grad=False)
    try:
        after = judged_on.total(model)
    finally:
        model.camera_head.compensation = None
    return Compensation(token, before, after)


def _camera_and_patches(model: VGGT, states: Sequence[WalkState]) -> tuple[Tensor, float]:
    last, special = model.config.depth - 1, model.aggregator.special_tokens
    cameras = torch.cat([state.kept[last][:, :, 0].flatten(0, 1) for state in states])
    norms = torch.cat([state.kept[last][:, :, special:].norm(dim=-1).flatten() for state in states])
    return cameras, float(norms.mean())
