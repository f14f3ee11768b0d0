"""A model with random weights, and a task on scenes of noise."""

from __future__ import annotations

import torch

from qvggt.calibration.data import SceneBatch
from qvggt.calibration.task import Task, make_task
from qvggt.model import VGGT, VGGTConfig


def noise_model(config: VGGTConfig, std: float) -> VGGT:
    """Return a model with normal weights of a standard deviation."""
    generator = torch.Generator().manual_seed(0)
    model = VGGT(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=std, generator=generator)
    return model


def noise_task(model: VGGT, *sizes: tuple[int, ...]) -> Task:
    """Return a task on batches of sizes [B, S, 3, H, W] with the model as its own teacher."""
    generator = torch.Generator().manual_seed(1)
    return make_task(model, [SceneBatch(torch.rand(*size, generator=generator)) for size in sizes], "teacher")
