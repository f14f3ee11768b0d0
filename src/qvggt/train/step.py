"""One step of training: render fresh rooms, run the model on them, and score it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from qvggt.data.rooms.family import SPLITS, RoomBatch, RoomFamily, render_rooms
from qvggt.geometry import Truth, normalized_truth
from qvggt.model import VGGT
from qvggt.model.vggt import run_dense
from qvggt.train.losses import dense_loss, direction_loss, placement_loss, pose_loss
from qvggt.train.recipe import TrainRecipe

SCENES_A_STEP = 1024
"""Seeds set aside for a step; more than any step renders."""


@dataclass(frozen=True)
class StepLoss:
    """The parts of a step's loss, each a scalar tensor, and the number of images it was computed on."""

    total: Tensor
    pose: Tensor
    direction: Tensor
    depth: Tensor
    points: Tensor
    placement: Tensor
    images: int


def render_step(recipe: TrainRecipe, step: int, device: str) -> tuple[RoomBatch, np.random.Generator]:
    """Render the rooms of a step; the recipe's seed and the step alone decide what they are."""
    phase = recipe.phase_at(step)
    rng = np.random.Generator(np.random.Philox(key=[recipe.seed, step]))
    frames = int(rng.choice(phase.frames))
    scenes = max(1, phase.images_per_step // frames)
    family = RoomFamily(landmarks=float(rng.uniform(*phase.landmarks)))
    first = SPLITS["train"].first_seed + (recipe.seed * 10**7 + step) * SCENES_A_STEP
    seeds = range(first, first + scenes)
    height = phase.height_px(float(rng.choice(phase.aspects)), recipe.config().patch_size)
    return render_rooms(list(seeds), frames, (height, phase.image_px), family, device), rng


def step_loss(model: VGGT, rooms: RoomBatch, rng: np.random.Generator, recipe: TrainRecipe, step: int) -> StepLoss:
    """Run the model on rooms and return its loss; dense heads see only a few frames of each scene."""
    phase = recipe.phase_at(step)
    truth = normalized_truth(rooms.cam_from_world, rooms.intrinsics, rooms.depth, rooms.valid)
    scenes, frames = rooms.images.shape[:2]
    picked = torch.from_numpy(rng.permuted(np.tile(np.arange(frames), (scenes, 1)), axis=1)[:, : phase.dense_frames])
    rows = torch.arange(scenes)[:, None]
    layers = model.config.dpt_layers
    # Plain products are faster here than the fused attention, whose backward pass is slow in bfloat16 on a CPU.
    device = rooms.images.device.type
    attention = [SDPBackend.MATH] if device == "cpu" else DEFAULT_SDPA
    with torch.autocast(device, torch.bfloat16), sdpa_kernel(attention):
        kept = model.aggregator(rooms.images, {*layers, model.config.depth - 1})
        special = model.aggregator.special_tokens
        tokens = [kept[layer][rows, picked, special:].flatten(0, 1) for layer in layers]
        chosen = rooms.images[rows, picked]
        depth_raw, depth_conf = run_dense(model.depth_head, tokens, chosen, scenes * frames)
        point_raw, point_conf = run_dense(model.point_head, tokens, chosen, scenes * frames)
    with sdpa_kernel(attention):
        iterations = model.camera_head(kept[model.config.depth - 1][:, :, 0].float())
    return combine(truth, iterations, (depth_raw, depth_conf, point_raw, point_conf), (rows, picked), recipe)


DEFAULT_SDPA = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def combine(
    truth: Truth, iterations: Tensor, dense: tuple[Tensor, ...], picked: tuple[Tensor, Tensor], recipe: TrainRecipe
) -> StepLoss:
    """Weigh the parts of the loss: depth by the error of its logarithm, points by their distance."""
    depth_raw, depth_conf, point_raw, point_conf = (values.float() for values in dense)
    valid = truth.valid[picked].float()
    pose = pose_loss(iterations, truth.pose_enc)
    direction = direction_loss(iterations[-1], truth.pose_enc)
    depth_error = (depth_raw[..., 0] - truth.depth[picked].clamp(min=1e-3).log()).abs()
    depth = dense_loss(depth_error, depth_conf.clamp(max=50), valid)
    predicted = point_raw.sign() * point_raw.abs().clamp(max=8).expm1()
    points = dense_loss((predicted - truth.points[picked]).norm(dim=-1), point_conf.clamp(max=50), valid)
    cameras = torch.cat((iterations[-1, ..., :7], iterations[-1, ..., 7:].clamp(0.2, 2.5)), -1)[picked]
    seen = depth_raw[..., 0].clamp(max=3).exp().flatten(0, 1)
    placement = placement_loss(seen, cameras.flatten(0, 1), truth.points[picked].flatten(0, 1), valid.flatten(0, 1))
    total = recipe.camera_weight * pose + recipe.direction_weight * direction + depth + points
    total = total + recipe.placement_weight * placement
    images = truth.valid.shape[0] * truth.valid.shape[1]
    return StepLoss(total, pose, direction, depth, points, placement, images)
