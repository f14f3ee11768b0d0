"""End-to-end gradient tuning of a quantized model against the float model: scales and float parameters.

Codes are not tuned: a straight-through estimator made them worse on held-out scenes than second-order rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from qvggt.calibration.data import SceneBatch
from qvggt.calibration.objective import tuning_loss
from qvggt.calibration.units import ForwardState, advance, model_units, run_units, start
from qvggt.model import VGGT
from qvggt.quant.affine import Grid, QuantizedTensor
from qvggt.types import LayerId, OnProgress, QvggtError


@dataclass(frozen=True)
class TuneOptions:
    """Length and learning rates of tuning.

    Attributes:
        steps: optimizer steps; the learning rates fall to zero along a half cosine.
        scenes_per_step: scenes per step, drawn at random.
        dense_frames: frames per scene on which the dense heads are compared.
        scale_lr: learning rate of the logarithms of the scales.
        float_lr: learning rate of norms, biases, LayerScale and tokens, relative to each tensor's mean magnitude.
        pose_weight: weight of the error of the pose encoding relative to those of depth and points.
        seed: random seed of the draws.
    """

    steps: int = 120
    scenes_per_step: int = 6
    dense_frames: int = 2
    scale_lr: float = 1e-3
    float_lr: float = 1e-3
    pose_weight: float = 10.0
    seed: int = 0


@dataclass(frozen=True)
class Tuned:
    """The tuned model.

    Attributes:
        weights: codes and tuned scales of every quantized layer.
        parameters: tuned float parameters by full name.
        first_loss: mean loss of the first tenth of the steps.
        last_loss: mean loss of the last tenth.
    """

    weights: Mapping[LayerId, QuantizedTensor]
    parameters: Mapping[str, Tensor]
    first_loss: float
    last_loss: float

    def to_json(self) -> dict[str, Any]:
        """Return the losses as JSON-ready values."""
        return {"first_loss": self.first_loss, "last_loss": self.last_loss}


def tune(
    model: VGGT,
    teacher: VGGT,
    weights: Mapping[LayerId, QuantizedTensor],
    batches: Sequence[SceneBatch],
    options: TuneOptions | None = None,
    on_progress: OnProgress = lambda stage, share: None,
) -> Tuned:
    """Tune a quantized model, without changing it.

    Args:
        model: provides the float parameters; its weights of layers in ``weights`` are ignored.
        teacher: the float model.
        weights: codes and scales of the quantized layers; layers with rotated or rounded inputs are not tuned.
        batches: calibration scenes.
        options: length and learning rates.
        on_progress: called after each step.

    Raises:
        QvggtError: the loss is not finite.
    """
    options = options or TuneOptions()
    student = _Student(model, weights, options)
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
            target = _outputs(teacher, images, frames)
        loss = tuning_loss(student(images, frames), target, options.pose_weight)
        if not math.isfinite(float(loss.detach())):
            raise QvggtError(
                "tuning diverged: the loss is not finite; lower the learning rates, or leave it out (--without tune)"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        on_progress("tuning", (step + 1) / options.steps)
    tenth = max(1, options.steps // 10)
    return Tuned(
        student.weights(),
        student.floats(),
        sum(losses[:tenth]) / max(1, len(losses[:tenth])),
        sum(losses[-tenth:]) / max(1, len(losses[-tenth:])),
    )


class _Scaled:
    """A layer's weight as the product of its fixed codes and a trainable scale per group."""

    def __init__(self, weight: QuantizedTensor, shape: torch.Size) -> None:
        self.given, self.shape = weight, shape
        self.base = weight.grid.scale.float()
        levels = weight.codes.float().unflatten(1, (self.base.shape[1], -1))  # [out, groups, k]
        zero = weight.grid.zero_point
        self.levels = levels if zero is None else levels - zero.float()[..., None]
        self.log_scale = torch.zeros_like(self.base).requires_grad_()

    def value(self) -> Tensor:
        return (self.levels * (self.base * self.log_scale.exp())[..., None]).view(self.shape)

    @torch.no_grad()
    def quantized(self) -> QuantizedTensor:
        given = self.given
        scale = (self.base * self.log_scale.exp()).to(given.grid.scale.dtype)
        scale = torch.where(scale > 0, scale, given.grid.scale)
        return QuantizedTensor(given.codes, Grid(scale, given.grid.zero_point), given.scheme)


class _Outputs(nn.Module):
    """The model as a function of images and of the frames for the dense heads."""

    def __init__(self, model: VGGT) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, frames: Tensor) -> dict[str, Tensor]:
        return _outputs(self.model, images, frames)


class _Student:
    """The quantized model with trainable scales and float parameters."""

    def __init__(self, model: VGGT, weights: Mapping[LayerId, QuantizedTensor], options: TuneOptions) -> None:
        self.function, self.options = _Outputs(model), options
        self.fixed = {
            layer: weight
            for layer, weight in weights.items()
            if weight.scheme.rotation or weight.scheme.activation_bits
        }
        self.scaled = {
            layer: _Scaled(weight, model.get_parameter(f"{layer}.weight").shape)
            for layer, weight in weights.items()
            if layer not in self.fixed
        }
        quantized = {f"{layer}.weight" for layer in weights}
        self.parameters = {
            name: parameter.detach().clone().requires_grad_()
            for name, parameter in model.named_parameters()
            if name not in quantized and not name.endswith("mask_token")
        }

    def groups(self) -> list[dict[str, Any]]:
        options, groups = self.options, []
        if options.scale_lr:
            groups.append({"params": [layer.log_scale for layer in self.scaled.values()], "lr": options.scale_lr})
        if options.float_lr:
            for parameter in self.parameters.values():
                size = max(float(parameter.detach().abs().mean()), 1e-3)
                groups.append({"params": [parameter], "lr": options.float_lr * size})
        return groups

    def __call__(self, images: Tensor, frames: Tensor) -> dict[str, Tensor]:
        values = {f"model.{name}.weight": layer.value() for name, layer in self.scaled.items()}
        values |= {f"model.{name}": parameter for name, parameter in self.parameters.items()}
        return functional_call(self.function, values, (images, frames))

    def weights(self) -> dict[LayerId, QuantizedTensor]:
        return {**{name: layer.quantized() for name, layer in self.scaled.items()}, **self.fixed}

    def floats(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.parameters.items()}


def _outputs(model: VGGT, images: Tensor, frames: Tensor) -> dict[str, Tensor]:
    """Return the poses of every refinement iteration, and depth and points of some frames [B, F] of each scene."""
    *blocks, camera, depth, point = model_units(model)
    state = run_units(model, blocks, start(images))
    rows = torch.arange(len(images), device=images.device)[:, None]
    few = ForwardState(
        images[rows, frames],
        state.tokens,
        pairs={layer: pair[rows, frames] for layer, pair in state.pairs.items()},
    )
    poses = advance(model, camera, state).outputs["pose_enc_iterations"]
    few = run_units(model, (depth, point), few)
    return {**few.outputs, "poses": poses}


def _draw(
    scenes: Sequence[tuple[SceneBatch, int]], options: TuneOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw scenes of the same size, and the frames of each for the dense heads."""
    order = [scenes[int(index)] for index in torch.randperm(len(scenes), generator=generator, device=generator.device)]
    shape = order[0][0].images.shape[1:]
    chosen = [batch.images[row] for batch, row in order if batch.images.shape[1:] == shape][: options.scenes_per_step]
    images = torch.stack(chosen)
    count = min(options.dense_frames, images.shape[1])
    drawn = [torch.randperm(images.shape[1], generator=generator, device=generator.device)[:count] for _ in chosen]
    frames = torch.stack(drawn)
    return images, frames.to(images.device)
