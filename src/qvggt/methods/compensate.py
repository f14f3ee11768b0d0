"""Camera information compensation: an extra camera token that restores what quantization costs the camera head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qvggt.calibration.task import Task
from qvggt.calibration.units import HEADS, ForwardState, model_units, run_units, start
from qvggt.model import VGGT

COMPONENTS = 32
"""Number of principal directions K, as published."""


@dataclass(frozen=True)
class Compensation:
    """A token, and the loss with and without it on held-out scenes.

    Attributes:
        token: [1, 1, 2C].
        before: weighted task objective without it.
        after: weighted task objective with it.
    """

    token: Tensor
    before: float
    after: float

    @property
    def accepted(self) -> bool:
        """Whether it lowers the objective."""
        return self.after < self.before

    def to_json(self) -> dict[str, Any]:
        """Return both losses and whether the token is accepted."""
        return {"before": self.before, "after": self.after, "accepted": self.accepted}


def compensation_token(camera_tokens: Tensor, patch_norm: float) -> Tensor:
    """Return the token [1, 1, 2C] as the paper defines it.

    With mean μ and the K first principal directions U of x - μ: z is the mean of Uᵀ(x - μ), x̃ = μ + U z, and the
    token is x̃ scaled to the mean norm of patch tokens. As μ is the mean of the same tokens, z is zero and the token is
    the mean camera token with another norm.

    Args:
        camera_tokens: [N, 2C] of the calibration scenes.
        patch_norm: mean 2-norm of patch tokens.
    """
    tokens = camera_tokens.double()
    mean = tokens.mean(0)
    difference = tokens - mean
    directions = torch.linalg.svd(difference, full_matrices=False).Vh[:COMPONENTS]  # [K, 2C]
    restored = mean + (difference @ directions.T).mean(0) @ directions
    restored = restored * (patch_norm / restored.norm().clamp(min=1e-12))
    return restored.to(camera_tokens.dtype)[None, None]


@torch.no_grad()
def try_compensation(model: VGGT, calibration: Task, held_out: Task) -> Compensation:
    """Compute the token on calibration scenes and its effect on held-out ones; the model itself stays without it.

    Args:
        model: the model with its quantized weights.
        calibration: scenes whose camera tokens define the token.
        held_out: scenes on which the objective is measured.
    """
    units = [unit for unit in model_units(model) if unit.kind not in HEADS]
    states = [run_units(model, units, start(batch.images)) for batch in calibration.batches]
    token = compensation_token(*_camera_and_patches(model, states))
    before = held_out.total(model)
    model.camera_head.compensation = nn.Parameter(token, requires_grad=False)
    try:
        after = held_out.total(model)
    finally:
        model.camera_head.compensation = None
    return Compensation(token, before, after)


def _camera_and_patches(model: VGGT, states: Sequence[ForwardState]) -> tuple[Tensor, float]:
    """Return the camera tokens [N, 2C] of the last layer and the mean norm of its patch tokens."""
    last, special = model.config.depth - 1, model.special_tokens
    cameras = torch.cat([model.camera_tokens(state.pairs).flatten(0, 1) for state in states])
    norms = torch.cat([state.pairs[last][:, :, special:].norm(dim=-1).flatten() for state in states])
    return cameras, float(norms.mean())
