"""Gradient tuning of a quantized model against the float one, end to end: scales, codes, and what stays floating.

Codes move by the straight-through estimator: a latent weight in units of the group's step is rounded in the forward
pass, and gradients pass the rounding as if it were not there. What comes out are codes and scales like any other's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from qvggt.model import VGGT
from qvggt.quant.affine import Grid, QuantizedTensor, dequantize
from qvggt.stages.calibration_data import SceneBatch
from qvggt.stages.walk import WalkState, advance, model_units, run_units, start
from qvggt.types import LayerId, QvggtError


@dataclass(frozen=True)
class TuneOptions:
    """How long and how fast.

    Attributes:
        steps: optimiser steps; the learning rates fall to zero along a half cosine.
        scenes_per_step: scenes in a step, drawn at random by the seed.
        dense_frames: frames of each scene on which the dense heads are compared in a step.
        code_lr: of the latent weights, in steps of the grid; 0 keeps every code as it is.
        scale_lr: of the logarithms of the scales.
        float_lr: of norms, biases, LayerScale and tokens, relative to each tensor's mean magnitude.
        pose_weight: of the error of the pose encoding against that of depth and of points.
        seed: of the draws.
    """

    steps: int = 200
    scenes_per_step: int = 6
    dense_frames: int = 2
    code_lr: float = 5e-3
    scale_lr: float = 1e-3
    float_lr: float = 1e-3
    pose_weight: float = 10.0
    seed: int = 0


OnStep = Callable[[int, float], None]
"""Called with the number of steps taken and the latest loss."""


@dataclass(frozen=True)
class Tuned:
    """What tuning made.

    Attributes:
        weights: integers of every layer that had some.
        parameters: float parameters by full name.
        first_loss: mean of the first tenth of the steps.
        last_loss: mean of the last tenth.
    """

    weights: Mapping[LayerId, QuantizedTensor]
    parameters: Mapping[str, Tensor]
    first_loss: float
    last_loss: float

    def to_json(self) -> dict[str, Any]:
        """Return the losses."""
        return {"first_loss": self.first_loss, "last_loss": self.last_loss}


def tune(
    model: VGGT,
    teacher: VGGT,
    weights: Mapping[LayerId, QuantizedTensor],
    batches: Sequence[SceneBatch],
    latents: Mapping[LayerId, Tensor],
    options: TuneOptions | None = None,
    on_step: OnStep = lambda step, loss: None,
) -> Tuned:
    """Tune a quantized model, which is not changed.

    Args:
        model: holds the float parameters as they are now; those of layers in ``weights`` are not looked at.
        teacher: the float model.
        weights: integers as they are now; those of rotated layers or of layers with rounded inputs stay as they are.
        batches: calibration scenes.
        latents: the float weights of layers in ``weights`` after scales have moved; a layer that is left out starts
            from what its integers stand for.
        options: how long and how fast.
        on_step: called after each step.

    Raises:
        QvggtError: the loss is not finite.
    """
    options = options or TuneOptions()
    student = _Student(model, weights, latents, options)
    generator = torch.Generator().manual_seed(options.seed)
    scenes = [(batch, row) for batch in batches for row in range(batch.scenes)]
    optimizer = torch.optim.Adam(student.groups(), betas=(0.9, 0.95))
    rates = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step in range(options.steps):
        factor = 0.5 * (1 + math.cos(math.pi * step / options.steps))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        images, frames = _draw(scenes, options, generator)
        with torch.no_grad():
            wanted = _answers(teacher, images, frames)
        loss = _difference(student(images, frames), wanted, options.pose_weight)
        if not math.isfinite(float(loss.detach())):
            raise QvggtError("tuning diverged: the loss is not finite; lower the learning rates")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        on_step(step + 1, losses[-1])
    tenth = max(1, options.steps // 10)
    return Tuned(
        student.integers(),
        student.floats(),
        sum(losses[:tenth]) / max(1, len(losses[:tenth])),
        sum(losses[-tenth:]) / max(1, len(losses[-tenth:])),
    )


class _Latent:
    """A layer's weight as the product of a latent code, rounded on the way, and a scale per group."""

    def __init__(self, weight: QuantizedTensor, latent: Tensor, options: TuneOptions) -> None:
        self.given = weight
        groups = weight.grid.scale.shape[1]
        self.base = weight.grid.scale.float()
        zero = weight.grid.zero_point
        self.zero = None if zero is None else zero.float()[..., None]
        codes = weight.codes.float().unflatten(1, (groups, -1))  # [out, groups, k]
        # The latent weight starts where it rounds to the given code.
        latent = latent.unflatten(1, (groups, -1)) / self.base[..., None]
        if self.zero is not None:
            latent = latent + self.zero
        self.latent = (codes + (latent - codes).clamp(-0.49, 0.49)).requires_grad_(options.code_lr > 0)
        self.log_scale = torch.zeros_like(self.base).requires_grad_()

    def rounded(self) -> Tensor:
        low, high = self.given.scheme.code_range
        clipped = self.latent.clamp(low, high)
        return clipped + (clipped.round() - clipped).detach()

    def value(self, shape: torch.Size) -> Tensor:
        codes = self.rounded() if self.zero is None else self.rounded() - self.zero
        return (codes * (self.base * self.log_scale.exp())[..., None]).view(shape)

    @torch.no_grad()
    def integers(self) -> QuantizedTensor:
        grid = self.given.grid
        scale = (self.base * self.log_scale.exp()).to(grid.scale.dtype)
        scale = torch.where(scale > 0, scale, grid.scale)
        codes = self.rounded().to(torch.int8).view(self.given.codes.shape)
        return QuantizedTensor(codes, Grid(scale, grid.zero_point), self.given.scheme)


class _Answers(nn.Module):
    """The model as a function of images and of the frames that the dense heads work on."""

    def __init__(self, model: VGGT) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, frames: Tensor) -> dict[str, Tensor]:
        return _answers(self.model, images, frames)


class _Student:
    def __init__(
        self,
        model: VGGT,
        weights: Mapping[LayerId, QuantizedTensor],
        latents: Mapping[LayerId, Tensor],
        options: TuneOptions,
    ) -> None:
        self.function, self.options = _Answers(model), options
        self.fixed = {
            layer: weight
            for layer, weight in weights.items()
            if weight.scheme.rotation or weight.scheme.activation_bits
        }
        self.latents = {
            layer: _Latent(weight, latents.get(layer, dequantize(weight)).detach().float().flatten(1), options)
            for layer, weight in weights.items()
            if layer not in self.fixed
        }
        held = {f"{layer}.weight" for layer in weights}
        self.parameters = {
            name: parameter.detach().clone().requires_grad_()
            for name, parameter in model.named_parameters()
            if name not in held and not name.endswith("mask_token")
        }
        self.shapes = {layer: model.get_parameter(f"{layer}.weight").shape for layer in self.latents}

    def groups(self) -> list[dict[str, Any]]:
        options, groups = self.options, []
        if options.code_lr:
            groups.append({"params": [latent.latent for latent in self.latents.values()], "lr": options.code_lr})
        if options.scale_lr:
            groups.append({"params": [latent.log_scale for latent in self.latents.values()], "lr": options.scale_lr})
        if options.float_lr:
            for parameter in self.parameters.values():
                size = max(float(parameter.detach().abs().mean()), 1e-3)
                groups.append({"params": [parameter], "lr": options.float_lr * size})
        return groups

    def __call__(self, images: Tensor, frames: Tensor) -> dict[str, Tensor]:
        values = {f"model.{layer}.weight": latent.value(self.shapes[layer]) for layer, latent in self.latents.items()}
        values |= {f"model.{name}": parameter for name, parameter in self.parameters.items()}
        return functional_call(self.function, values, (images, frames))

    def integers(self) -> dict[LayerId, QuantizedTensor]:
        return {**{layer: latent.integers() for layer, latent in self.latents.items()}, **self.fixed}

    def floats(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.parameters.items()}


def _answers(model: VGGT, images: Tensor, frames: Tensor) -> dict[str, Tensor]:
    """Return every round's cameras, and depth and points of some frames [B, F] of each scene."""
    *blocks, camera, depth, point = model_units(model)
    state = run_units(model, blocks, start(images))
    rows = torch.arange(len(images), device=images.device)[:, None]
    few = WalkState(
        images[rows, frames],
        state.tokens,
        kept={layer: kept[rows, frames] for layer, kept in state.kept.items()},
    )
    poses = advance(model, camera, state).outputs["pose_enc_iterations"]
    few = run_units(model, (depth, point), few)
    return {**few.outputs, "poses": poses}


def _difference(ours: Mapping[str, Tensor], wanted: Mapping[str, Tensor], pose_weight: float) -> Tensor:
    # Depth and points in units of the scene's size, weighted by the teacher's confidence.
    scale = wanted["world_points"].norm(dim=-1).mean().clamp(min=1e-6)
    depth_weight = wanted["depth_conf"] / wanted["depth_conf"].mean()
    point_weight = wanted["world_points_conf"] / wanted["world_points_conf"].mean()
    depth = (depth_weight * (ours["depth"] - wanted["depth"])[..., 0].abs()).mean() / scale
    points = (point_weight * (ours["world_points"] - wanted["world_points"]).norm(dim=-1)).mean() / scale
    return pose_weight * (ours["poses"] - wanted["poses"]).abs().mean() + depth + points


def _draw(
    scenes: Sequence[tuple[SceneBatch, int]], options: TuneOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw scenes of one size, and the frames of each for the dense heads."""
    order = [scenes[int(index)] for index in torch.randperm(len(scenes), generator=generator)]
    shape = order[0][0].images.shape[1:]
    chosen = [batch.images[row] for batch, row in order if batch.images.shape[1:] == shape][: options.scenes_per_step]
    images = torch.stack(chosen)
    count = min(options.dense_frames, images.shape[1])
    frames = torch.stack([torch.randperm(images.shape[1], generator=generator)[:count] for _ in chosen])
    return images, frames.to(images.device)
